"""Holds a Target against what a probe saw: the differences, and a new Target with the unknowns filled in.

Identity comes first: a Jetson's SoC and a GPU's compute capability must be seen and be equal, because an engine for
another one does not load. Versions agree as far as the target states them ("3.8" holds for 3.8.18, "8.5.2" for
8.5.2.2). Memory may be up to 15 % below its label, which carve-outs of firmware and GPU take on Jetson boards
(30697 MiB are visible of 32 GB on AGX Orin), and 2 % above. Everything else must be equal.
Limit: only facts that the target states and the probe saw are compared; silence is not agreement.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import List, Mapping, Optional, Tuple

from hwc.artifacts import Fact, Target, Value
from hwc.errors import TargetError

MEMORY_RANGE = (0.85, 1.02)

# The runtime that has to be installed for an engine; it is the one fact whose absence is a difference of its own.
RUNTIME_FACTS = {
    "openvino": "software.openvino",
    "tensorrt": "software.tensorrt",
    "tensorrt_rtx": "software.tensorrt_rtx",
}
COMPARED_VERSIONS = ("software.l4t", "software.python", "software.tensorrt", "software.tensorrt_rtx")


@dataclass(frozen=True)
class Difference:
    """One point in which a machine is not the target. `found` is "not seen" where the probe had no answer.

    `is_identity` marks the ones that make it other hardware; the rest are other software or another variant.
    """

    fact: str
    expected: str
    found: str
    source: str
    is_identity: bool = False


def compare(target: Target, probed: Mapping[str, Fact]) -> Tuple[Difference, ...]:
    """Where the machine differs from the target; empty if nothing that was seen contradicts it.

    Args:
        target: what was compiled for.
        probed: what `probe` saw.
    """
    found: List[Difference] = []
    identity = "jetson.soc" if target.family == "jetson" else "gpu.compute_capability"
    if target.family != "cpu":
        found += _compare_identity(target, probed, identity)
        found += _compare_memory(target, probed)
    if target.family == "jetson":
        found += _compare_architecture(probed)
        found += _compare_parts(target, probed)
        found += _compare_power_mode(target, probed)
    runtime = RUNTIME_FACTS[target.engine]
    if runtime not in probed:
        expected = f"{runtime.split('.')[1]} installed"
        found.append(Difference(runtime, expected, "not seen", f"target {target.name} runs on {target.engine}"))
    # A GPU card takes whatever TensorRT its machine carries; only a Jetson's is tied to the board's JetPack.
    for name in COMPARED_VERSIONS if target.family == "jetson" else ():
        found += _compare_version(target, probed, name)
    return tuple(found)


def with_probed(target: Target, facts: Mapping[str, Fact]) -> Target:
    """A new target whose unknown facts are filled from `facts`; the one given stays as it is.

    Raises:
        TargetError: a fact would change a known value. What a probe contradicts is for `compare` to report.
    """
    merged = dict(target.facts)
    for name, fact in facts.items():
        old = merged.get(name)
        if old is not None and old.is_known and old.value != fact.value:
            raise TargetError(
                f"the probe contradicts target {target.name}",
                where=name,
                expected=f"{old.value} {old.unit}",
                got=f"{fact.value} {fact.unit}",
                source=old.source,
                do="see compare(target, probed), or start again from load(name)",
            )
        if old is None or fact.is_known:
            merged[name] = fact
    return dataclasses.replace(target, facts=merged)


def _compare_identity(target: Target, probed: Mapping[str, Fact], name: str) -> List[Difference]:
    fact, seen = target.fact(name), _seen(probed, name)
    if not fact.is_known or seen == fact.value:
        return []
    return [Difference(name, _show(fact.value), _show(seen), fact.source, True)]


def _compare_architecture(probed: Mapping[str, Fact]) -> List[Difference]:
    name = "machine.architecture"
    seen = _seen(probed, name)
    if seen in (None, "aarch64"):
        return []
    source = "L4T, the system of every Jetson module, is built for aarch64 only"
    return [Difference(name, "aarch64", _show(seen), source, True)]


def _compare_power_mode(target: Target, probed: Mapping[str, Fact]) -> List[Difference]:
    name = "jetson.power_mode"
    seen = _seen(probed, name)
    known = [mode.name for mode in target.power_modes]
    if not known or seen is None or seen in known:
        return []
    return [Difference(name, " or ".join(known), _show(seen), target.power_modes[0].source)]


def _compare_parts(target: Target, probed: Mapping[str, Fact]) -> List[Difference]:
    name = "jetson.module_part_numbers"
    fact, seen = target.fact(name), _seen(probed, name)
    if not isinstance(fact.value, tuple) or not isinstance(seen, tuple):
        return []
    # The tree lists the carrier board beside the module, and older ones give the series without its variant.
    if any(part.startswith(wanted) or wanted.startswith(part) for part in seen for wanted in fact.value):
        return []
    return [Difference(name, " or ".join(fact.value), _show(seen), fact.source, True)]


def _compare_memory(target: Target, probed: Mapping[str, Fact]) -> List[Difference]:
    name = "memory.size_gb"
    seen = _seen(probed, name)
    if not target.knows(name) or not isinstance(seen, (int, float)):
        return []
    low, high = (target.number(name) * factor for factor in MEMORY_RANGE)
    if low <= seen <= high:
        return []
    fact = target.facts[name]
    return [Difference(name, f"{low:.1f} to {high:.1f} GB", f"{seen} GB", fact.source)]


def _compare_version(target: Target, probed: Mapping[str, Fact], name: str) -> List[Difference]:
    wanted = target.facts[name].value if target.knows(name) else None
    seen = _seen(probed, name)
    if not isinstance(wanted, str) or not isinstance(seen, str):
        return []
    parts = wanted.split(".")
    if seen.split("+")[0].split(".")[: len(parts)] == parts:
        return []
    return [Difference(name, wanted, seen, target.facts[name].source)]


def _seen(probed: Mapping[str, Fact], name: str) -> Optional[Value]:
    return probed[name].value if name in probed else None


def _show(value: Optional[Value]) -> str:
    if value is None:
        return "not seen"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
