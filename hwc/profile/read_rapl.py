"""Energy of x86 CPUs from the kernel's powercap counters (RAPL: running average power limit).

/sys/class/powercap/intel-rapl:K holds one zone for each package: `name` (package-K), `energy_uj`, a counter in
microjoules, and `max_energy_range_uj`, after which it starts again at 0. Zones below it, intel-rapl:K:M, are parts:
core and uncore lie inside the package, dram beside it. So the result is the sum of all packages and their dram. The
zone psys (the whole platform of some laptops) holds the packages, and intel-rapl-mmio is the same package once more:
both are left out. Processors of AMD appear under the same names, with packages only.

A counter that is lower than at its last reading has wrapped once; it is read often enough for that to be unique (a
range of 262 kJ lasts 10 minutes at 400 W).

Limits: `energy_uj` has been readable by root only since Linux 5.10 (CVE-2020-8694), which is told apart from a machine
that has none. Virtual machines have none. Source: Linux kernel documentation, power/powercap.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Tuple

from hwc.errors import EngineError, TargetError
from hwc.profile.meters import Meter, MeterInfo

PERIOD_S = 0.02
_OMITS = "the board, disks, fans and the losses of the power supply; any GPU"


@dataclass(frozen=True)
class Zone:
    """One counter that is summed; `range_j` is where it starts again."""

    name: str
    path: Path
    range_j: float


def find_zones(root: Path = Path("/")) -> Tuple[Zone, ...]:
    """The zones that add up: packages, and dram where it is a zone of its own.

    Raises:
        TargetError: this machine has no RAPL.
        EngineError: a zone has no range.
    """
    base = root / "sys/class/powercap"
    zones: List[Zone] = []
    for folder in sorted(base.glob("intel-rapl:*")):
        parts = folder.name.split(":")
        name = _read(folder / "name")
        is_package = len(parts) == 2 and name.startswith("package")
        is_dram = len(parts) == 3 and name == "dram"
        if not is_package and not is_dram:
            continue
        limit = _read(folder / "max_energy_range_uj")
        if not re.match(r"\d{1,20}$", limit) or int(limit) == 0:
            raise EngineError(f"the RAPL zone {name} tells no range", where=str(folder), got=repr(limit))
        label = name if is_package else f"dram-{parts[1]}"
        zones.append(Zone(label, folder / "energy_uj", int(limit) / 1e6))
    if not any(zone.name.startswith("package") for zone in zones):
        raise TargetError(
            "this machine has no RAPL energy counters", expected=f"{base}/intel-rapl:0",
            got="no such folder" if not base.is_dir() else "no package among its zones",
            do="load the kernel module intel_rapl_msr (as root); in a virtual machine or container there may be none",
        )  # fmt: skip
    return tuple(zones)


class RaplMeter(Meter):
    """Counters of all packages, unwrapped; joules since the meter was opened.

    Raises:
        TargetError: this machine has none.
        EngineError: they may not be read (root only), or hold no number.
    """

    def __init__(self, *, root: Path = Path("/"), period_s: float = PERIOD_S) -> None:
        self._zones = find_zones(root)
        self._last = [_read_joules(zone) for zone in self._zones]
        self._sums = [0.0] * len(self._zones)
        self.info = MeterInfo(
            meter="rapl", device=_cpu_name(root), quantity="energy_j", rails=tuple(zone.name for zone in self._zones),
            is_total=False, omits=_OMITS, period_s=period_s, period_source="counters are read at this period",
            delay_s=period_s, quantum=1e-6,
            notes=("the counter's own step (1/16384 J on most CPUs) is not told by the kernel",),
        )  # fmt: skip

    def read(self) -> Tuple[float, ...]:
        """Joules of each zone since the meter was opened."""
        for index, zone in enumerate(self._zones):
            now = _read_joules(zone)
            step = now - self._last[index]
            self._sums[index] += step if step >= 0 else step + zone.range_j
            self._last[index] = now
        return tuple(self._sums)


def _read_joules(zone: Zone) -> float:
    try:
        text = zone.path.read_text(encoding="ascii", errors="replace").strip()
    except PermissionError:
        raise EngineError(
            f"the energy counter of {zone.name} may not be read", where=str(zone.path),
            got="permission denied: since Linux 5.10 only root reads it",
            do=f"run as root, or let your group read it: sudo chmod g+r {zone.path}",
        ) from None  # fmt: skip
    except OSError as error:
        raise EngineError(
            f"the energy counter of {zone.name} cannot be read", where=str(zone.path), got=str(error)
        ) from None
    if not re.match(r"\d{1,20}$", text):
        raise EngineError(f"the energy counter of {zone.name} has no number", where=str(zone.path), got=repr(text[:40]))
    joules = int(text) / 1e6
    if joules > zone.range_j:
        raise EngineError(
            f"the energy counter of {zone.name} is over its own range", where=str(zone.path), got=f"{joules} J",
            expected=f"at most {zone.range_j} J",
        )  # fmt: skip
    return joules


def _cpu_name(root: Path) -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    return match.group(1).strip() if match else "the CPU of this machine"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
