"""What a machine is and what stands in its way, for `doctor` on a host and on a board: one row per check.

A check is "ok", "warn" (it works, and a number or a build may not be what you expect) or "fail" (a build or a run will
not work), with one sentence and the next step. Where the machine differs from a target:

    other architecture, SoC, compute capability, module    fail (warn for an engine built ahead of time: it cannot run)
    runtime missing, or another major.minor version of it  fail: opset, INT8 dialect and typing were chosen for that one
    patch version, L4T, Python, memory, power mode          warn

Nothing is asked here: facts come from `probe`. This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from hwc.artifacts import Fact, Target, Value
from hwc.targets.compare_machine import RUNTIME_FACTS, Difference, compare

OLDEST_PYTHON = (3, 8)
OLDEST_NUMPY = (1, 17)  # the first with the Generator that makes inputs; JetPack 5 carries 1.17 to 1.24
LEAST_DISK_BYTES = 1 << 30
# Key of the machine's description -> the fact that it shows.
_SHOWN = {
    "hostname": "machine.hostname", "arch": "machine.architecture", "python": "software.python",
    "numpy": "software.numpy", "l4t": "software.l4t", "jetpack": "software.jetpack",
    "tensorrt": "software.tensorrt", "tensorrt_rtx": "software.tensorrt_rtx", "cuda": "software.cuda",
    "gpu": "gpu.name", "compute_capability": "gpu.compute_capability", "sm_count": "gpu.sm_count",
    "memory_bytes": "machine.memory_bytes", "model": "jetson.model", "soc": "jetson.soc",
    "power_mode": "jetson.power_mode", "clocks_locked": "jetson.clocks_locked",
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One row: `status` is "ok", "warn" or "fail"; `do` is empty where nothing is to be done."""

    name: str
    status: str
    message: str
    do: str = ""


def describe_machine(facts: Mapping[str, Fact], folder: Path) -> Dict[str, Value]:
    """The machine in plain keys, None where it did not say. `folder` is where free disk space is asked for.

    `module_part` is the module's own number where a known one is among those of the device tree, else all of them.
    """
    shown: Dict[str, Value] = {key: facts[fact].value if fact in facts else None for key, fact in _SHOWN.items()}
    shown["free_disk_bytes"] = _free_bytes(folder)
    parts = facts["jetson.module_part_numbers"].value if "jetson.module_part_numbers" in facts else None
    # Carrier boards are p2972, p3509, p3768 and the like; a module's number has a variant behind it.
    modules = [part for part in parts if "-" in part and not part.endswith("-0000")] if isinstance(parts, tuple) else []
    shown["module_part"] = ", ".join(modules or parts) if isinstance(parts, tuple) else None
    return shown


def check_base(facts: Mapping[str, Fact], folder: Path) -> List[Check]:
    """Python, numpy and disk: what everything needs."""
    checks = [_check_version("python", "software.python", facts, OLDEST_PYTHON, "use JetPack 5 or newer")]
    checks.append(_check_version("numpy", "software.numpy", facts, OLDEST_NUMPY, "sudo apt-get install python3-numpy"))
    free = _free_bytes(folder)
    if free is None:
        checks.append(Check("disk", "warn", f"free space of {folder} is not known"))
    else:
        low = free < LEAST_DISK_BYTES
        do = f"free some space on the disk of {folder}" if low else ""
        checks.append(Check("disk", "warn" if low else "ok", f"{free / 1e9:.1f} GB free at {folder}", do))
    return checks


def check_board(facts: Mapping[str, Fact], engine: str = "tensorrt") -> List[Check]:
    """The runtime, the GPU, the power mode and the clocks."""
    checks = [_check_runtime(facts, engine)]
    gpu = _value(facts, "gpu.name")
    if gpu is None:
        do = "check the driver; in a container, start it with --runtime nvidia"
        status = "warn" if engine == "tensorrt_rtx" else "fail"
        checks.append(Check("gpu", status, "the CUDA driver shows no GPU", do))
    else:
        sms = _value(facts, "gpu.sm_count")
        message = f"{gpu}, compute capability {_value(facts, 'gpu.compute_capability')}, {sms} SMs"
        checks.append(Check("gpu", "ok", message))
    if "jetson.soc" in facts:
        mode = _value(facts, "jetson.power_mode")
        do = "run as a user who may call nvpmodel, so that engines can be told apart by mode"
        checks.append(
            Check("power mode", "ok", f"{mode}") if mode else Check("power mode", "warn", "nvpmodel did not say", do)
        )
        locked = _value(facts, "jetson.clocks_locked")
        words = "are locked" if locked else "are not known" if locked is None else "may move"
        do = "" if locked else "sudo jetson_clocks, before anything is measured"
        checks.append(Check("clocks", "ok" if locked else "warn", f"GPU clocks {words}", do))
    return checks


def check_target(target: Target, facts: Mapping[str, Fact], engine: str) -> List[Check]:
    """One row per difference between the machine and that target, or one that says there is none."""
    is_own = engine == target.engine
    differences = [d for d in compare(target, facts) if is_own or d.fact != RUNTIME_FACTS[target.engine]]
    if not is_own and RUNTIME_FACTS[engine] not in facts:
        differences.append(Difference(RUNTIME_FACTS[engine], f"{engine} installed", "not seen", "the bundle's engine"))
    checks = [_row(target, difference, engine) for difference in differences]
    return checks or [Check("target", "ok", f"nothing that was seen contradicts {target.name}")]


def failures(checks: List[Check]) -> Tuple[Check, ...]:
    """The rows that stand in the way."""
    return tuple(check for check in checks if check.status == "fail")


def _row(target: Target, difference: Difference, engine: str) -> Check:
    name, message = difference.fact, f"expected {difference.expected}, found {difference.found}"
    if difference.is_identity:
        if engine == "tensorrt_rtx":
            return Check(name, "warn", message, f"built here ahead of time; run it on a {target.title}")
        return Check(name, "fail", message, f"use a {target.title}, or compile for this machine (hwc targets list)")
    if name == RUNTIME_FACTS[engine]:
        if difference.found == "not seen":
            return Check(name, "fail", message, _install(engine))
        if _minor(difference.expected) != _minor(difference.found):
            do = f"install the JetPack of {difference.expected}, or compile for the board as it is"
            return Check(name, "fail", message, do)
    return Check(name, "warn", message)


def _check_runtime(facts: Mapping[str, Fact], engine: str) -> Check:
    name = RUNTIME_FACTS[engine]
    version = _value(facts, name)
    if version is None:
        return Check(engine, "fail", f"{engine} was not found", _install(engine))
    if "dpkg" in facts[name].source:
        return Check(engine, "warn", f"{version}, the library without its Python module",
                     "sudo apt-get install python3-libnvinfer")  # fmt: skip
    return Check(engine, "ok", f"{version} ({facts[name].source})")


def _install(engine: str) -> str:
    if engine == "tensorrt_rtx":
        return "pip install tensorrt-rtx-cu12"
    return "sudo apt-get install python3-libnvinfer on a Jetson board, else pip install tensorrt"


def _check_version(name: str, fact: str, facts: Mapping[str, Fact], oldest: Tuple[int, ...], do: str) -> Check:
    version = _value(facts, fact)
    if version is None:
        return Check(name, "fail", f"{name} was not found", do)
    wanted = ".".join(map(str, oldest))
    parts = tuple(int(part) for part in str(version).split(".")[:2] if part.isdigit())
    if parts < oldest:
        return Check(name, "fail", f"{version} is older than {wanted}", do)
    return Check(name, "ok", str(version))


def _minor(version: str) -> List[str]:
    return version.split(".")[:2]


def _value(facts: Mapping[str, Fact], name: str) -> Optional[Value]:
    return facts[name].value if name in facts else None


def _free_bytes(folder: Path) -> Optional[int]:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(str(place)).free
    except OSError:
        return None
