"""Whether a board can take a bundle, asked before anything large is sent.

Two rounds: what its Python says (architecture, numpy), then what the bundle's own `doctor` says there (GPU, TensorRT).
A bundle for a Jetson is tied to the major and minor version of the board's TensorRT, for which opset, INT8 dialect and
typing were chosen. Limit: an architecture is only demanded where the family has one; a data-centre GPU sits in x86 and
in Arm machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwc.artifacts import Bundle, Fact, PowerMode, Target
from hwc.errors import EngineError, TargetError, UsageError
from hwc.remote.ssh_errors import plain
from hwc.targets.compare_machine import compare

ARCHITECTURES = {"jetson": "aarch64", "geforce": "x86_64"}
GOOD, FAILED = "ok", "fail"  # the words of `doctor`; any other is told as it is


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


def check_machine(
    report: Mapping[str, Any], target: Target, label: str, *, will_build: bool, accept_differences: bool = False
) -> tuple[str, ...]:
    """Judges what `hwc.pyz doctor --format json` printed; what is left to know, as notes.

    Args:
        will_build: a check that failed there is an error then, and else a note.
        accept_differences: another major or minor version of TensorRT is a note too.

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
    notes: list[str] = []
    if target.engine == "tensorrt":
        notes += _check_tensorrt(machine.get("tensorrt"), target, label, accept_differences)
    for check in checks:
        status = str(check.get("status"))
        if status == GOOD:
            continue
        text = plain(f"{check.get('name')}: {check.get('message')}")
        if status == FAILED and will_build:
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


def _check_tensorrt(version: Any, target: Target, label: str, accept_differences: bool) -> tuple[str, ...]:
    name = "software.tensorrt"
    seen = {name: Fact(str(version), "version", "hwc.pyz doctor")} if version else {}
    found = [difference for difference in compare(target, seen) if difference.fact == name]
    if not found:
        return ()
    (difference,) = found
    if not version:
        raise TargetError(
            f"{label} has no TensorRT for its python3", expected=difference.expected, got=difference.found,
            source=difference.source, do="sudo apt-get install python3-libnvinfer",
        )  # fmt: skip
    is_patch = str(version).split(".")[:2] == difference.expected.split(".")[:2]
    if is_patch or accept_differences:
        return (f"TensorRT {plain(str(version))} is there, compiled for {difference.expected}",)
    raise TargetError(
        f"{label} has TensorRT {plain(str(version))}", expected=f"TensorRT {difference.expected}",
        got=difference.found, source=difference.source,
        do=f"install the JetPack that `hwc targets show {target.name}` names, compile for a target with that version, "
        "or try it: --accept-differences",
    )  # fmt: skip
