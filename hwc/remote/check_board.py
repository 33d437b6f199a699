"""Whether a board can take a bundle, asked before anything large is sent.

Two rounds: what its Python says (architecture, numpy), then what the bundle's own `doctor` says there (GPU, TensorRT).
A bundle for a Jetson is tied to the board's TensorRT as far as the target states it: "8.5.2" holds for 8.5.2.2. Limit:
an architecture is only demanded where the family has one; a data-centre GPU sits in x86 and in Arm machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwc.artifacts import Bundle, Fact, PowerMode, Target
from hwc.errors import EngineError, TargetError, UsageError
from hwc.remote.ssh_errors import plain
from hwc.targets.compare_machine import compare

ARCHITECTURES = {"jetson": "aarch64", "geforce": "x86_64"}
_GOOD, _FAILED = ("ok", "pass", "passed"), ("fail", "failed", "error")


def check_look(look: Mapping[str, Any], target: Target, label: str) -> None:
    """Judges the result of the verb `look`.

    Raises:
        TargetError: another architecture, or no numpy.
    """
    wanted = ARCHITECTURES.get(target.family)
    if wanted and look["arch"] != wanted:
        raise TargetError(
            f"{label} is not a {target.title}", where="architecture", expected=wanted, got=str(look["arch"]),
            do="check the address, or compile for that machine",
        )  # fmt: skip
    if not look["numpy"]:
        raise TargetError(
            f"the python3 of {label} has no numpy", expected="numpy", got=f"Python {look['python']} without it",
            do="sudo apt install python3-numpy",
        )  # fmt: skip


def check_machine(report: Mapping[str, Any], target: Target, label: str, *, will_build: bool) -> tuple[str, ...]:
    """Judges what `hwc.pyz doctor --format json` printed; what is left to know, as notes.

    Args:
        will_build: a check that failed there is an error then, and else a note.

    Raises:
        TargetError: another GPU, another TensorRT or none.
        EngineError: a check failed that the build needs, or the report is no report.
    """
    machine, checks = report.get("machine"), report.get("checks")
    if not isinstance(machine, dict) or not isinstance(checks, list):
        raise EngineError(f"the doctor of {label} says nothing that can be read", got=plain(str(report))[:200])
    capability = machine.get("compute_capability")
    if capability and target.knows("gpu.compute_capability"):
        fact = target.fact("gpu.compute_capability")
        if str(capability) != str(fact.value):
            raise TargetError(
                f"{label} is not a {target.title}", where="compute capability of its GPU", expected=str(fact.value),
                got=plain(f"{capability} ({machine.get('gpu')})"), source=fact.source,
                do="check the address, or compile for that GPU",
            )  # fmt: skip
    if target.engine == "tensorrt":
        _check_tensorrt(machine.get("tensorrt"), target, label)
    notes = []
    for check in checks:
        status = str(check.get("status", "")).lower()
        if status in _GOOD:
            continue
        text = plain(f"{check.get('name')}: {check.get('message')}")
        if status in _FAILED and will_build:
            raise EngineError(f"{label} is not ready to build", got=text, do=plain(str(check.get("do") or "")))
        notes.append(f"doctor, {status}: {text}")
    return tuple(notes)


def find_power_mode(bundle: Bundle, name: str) -> PowerMode | None:
    """The mode of that name among the target's facts; None for no name.

    Raises:
        TargetError: the target has no modes, or the number of this one is unknown.
        UsageError: no mode is called that.
    """
    target = bundle.target
    if not name:
        return None
    if not target.power_modes:
        raise TargetError(f"{target.title} has no power modes", where="--power-mode", got=name)
    found = next((mode for mode in target.power_modes if mode.name == name), None)
    if found is None:
        known = ", ".join(mode.name for mode in target.power_modes)
        raise UsageError(f"{target.title} has no power mode '{name}'", expected="one of: " + known, got=repr(name))
    if not found.id.isdigit():
        raise TargetError(f"the number of power mode {name} is unknown", got=repr(found.id), source=found.source,
                          do="set it on the board and leave out --power-mode")  # fmt: skip
    return found


def _check_tensorrt(version: Any, target: Target, label: str) -> None:
    name = "software.tensorrt"
    seen = {name: Fact(str(version), "version", "hwc.pyz doctor")} if version else {}
    for difference in compare(target, seen):
        if difference.fact != name:
            continue
        raise TargetError(
            f"{label} has TensorRT {plain(str(version))}" if version else f"{label} has no TensorRT for its python3",
            expected=f"TensorRT {difference.expected}" if version else difference.expected, source=difference.source,
            got=difference.found,
            do=f"install the JetPack that `hwc targets show {target.name}` names, or compile for a target with that one"
            if version else "install JetPack's python3-libnvinfer",
        )  # fmt: skip
