"""What is asked of every board, and what came of one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hwc.errors import HwcError


@dataclass(frozen=True)
class DeployOptions:
    """What to do on each board. `profile` implies `build`; a host's own power mode is stronger than this one."""

    build: bool = False
    profile: bool = False
    power_mode: str = ""
    keep_power_mode: bool = False
    duration_s: float = 10.0
    builds: int = 1
    force: bool = False
    accept_differences: bool = False
    use_rsync: bool = True
    dry_run: bool = False
    ssh_config: Path | None = None


@dataclass(frozen=True)
class StepTime:
    """One step as it happened."""

    name: str
    seconds: float


@dataclass
class HostResult:
    """What came of one board. `machine`, `build` and `profile` are what hwc.pyz printed there, None if not asked."""

    host: str
    address: str
    folder: str = ""
    steps: list[StepTime] = field(default_factory=list)
    sent_bytes: int = 0
    reused_bytes: int = 0
    machine: dict[str, Any] | None = None
    build: dict[str, Any] | None = None
    profile: dict[str, Any] | None = None
    power: dict[str, str] | None = None
    plan: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: HwcError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON; `error` as `--format json` prints errors."""
        shallow = {name: value for name, value in vars(self).items() if name not in ("steps", "error")}
        error = self.error.to_dict() if self.error else None
        return {**shallow, "ok": error is None, "steps": [asdict(step) for step in self.steps], "error": error}
