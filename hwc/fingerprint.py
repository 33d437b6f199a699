"""What an engine belongs to: everything that decides whether one that was built before may be loaded again.

TensorRT promises an engine only on the version, GPU and library that built it, and a power mode may hide SMs or change
which tactic was the fastest. So the fingerprint holds the machine as it was seen (module, versions, GPU, SM count,
mode) and the request as the bundle states it (model, precision, shapes, options, plugins). Equal fingerprints mean one
engine; unequal ones are told apart field by field, in the words of the fields.

An engine that is built ahead of time (TensorRT for RTX) belongs to a compute capability and not to the machine that
built it: its machine fields are those of the target.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

import hwc
from hwc.artifacts import Fact, Target
from hwc.serialize import to_json

UNKNOWN = "unknown"
AHEAD = "ahead of time"


@dataclass(frozen=True)
class Fingerprint:
    """All fields are texts, "unknown" where the machine did not say; `options` and `plugins` are sorted."""

    module: str
    runtime: str
    hwc: str
    cuda: str
    l4t: str
    gpu: str
    compute_capability: str
    sm_count: str
    power_mode: str
    target: str
    model: str
    precision: str
    shapes: str
    options: Tuple[Tuple[str, str], ...] = ()
    plugins: Tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """sha256 of all fields: the name of the engine's place in a store."""
        return hashlib.sha256(to_json(self).encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class Change:
    """One field that differs between an engine that is there and the one that is wanted."""

    field: str
    stored: str
    now: str

    def __str__(self) -> str:
        return f"{self.field}: {self.stored} -> {self.now}"


@dataclass(frozen=True)
class Wanted:
    """The half of a fingerprint that the bundle states: `model` is a digest, `shapes` those of the inputs."""

    model: str
    precision: str
    shapes: str
    options: Mapping[str, str]
    plugins: Tuple[str, ...] = ()


def take_fingerprint(target: Target, module: str, facts: Mapping[str, Fact], wanted: Wanted) -> Fingerprint:
    """The fingerprint of what would be built on this machine now.

    Args:
        module: the Python module that builds, "tensorrt" or "tensorrt_rtx".
        facts: what `probe` saw.
    """
    def seen(name: str) -> str:
        value: Optional[object] = facts[name].value if name in facts else None
        return UNKNOWN if value is None else str(value)

    if module == "tensorrt_rtx":
        capability = target.facts.get("gpu.compute_capability")
        machine = dict.fromkeys(("cuda", "l4t", "gpu", "sm_count", "power_mode"), AHEAD)
        machine["compute_capability"] = str(capability.value) if capability is not None else UNKNOWN
    else:
        machine = {
            "cuda": seen("software.cuda"), "l4t": seen("software.l4t"), "gpu": seen("gpu.name"),
            "compute_capability": seen("gpu.compute_capability"), "sm_count": seen("gpu.sm_count"),
            "power_mode": seen("jetson.power_mode"),
        }  # fmt: skip
    return Fingerprint(
        module=module, runtime=seen(f"software.{module}"), hwc=hwc.__version__, target=target.name, model=wanted.model,
        precision=wanted.precision, shapes=wanted.shapes, options=tuple(sorted(wanted.options.items())),
        plugins=tuple(sorted(wanted.plugins)), **machine,
    )  # fmt: skip


def find_changes(stored: Fingerprint, now: Fingerprint) -> Tuple[Change, ...]:
    """Every field in which the two differ, in the order of the fields; digests are shortened to 12 digits."""
    found = []
    for field in dataclasses.fields(Fingerprint):
        old, new = getattr(stored, field.name), getattr(now, field.name)
        if old != new:
            found.append(Change(field.name, _show(old), _show(new)))
    return tuple(found)


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(item if isinstance(item, str) else "=".join(item) for item in value) or "none"
    text = str(value)
    is_digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:12] if is_digest else text
