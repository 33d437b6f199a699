"""A board as the rules see it: a target, one version of TensorRT, a precision, and the facts that hold for both.

A fact may depend on the TensorRT version. It is then of unit "rows", such as "10.0-11.9 Add,Sub": both ends belong to
the range, and an end of two numbers covers all of its patches. A version that no row covers leaves the fact unknown.
Whether the board has a DLA at all under a version is `hwc.targets.find_dla_support`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from hwc.artifacts import Fact, QuantTable, Target
from hwc.errors import TargetError, UsageError
from hwc.targets import find_dla_support

PRECISIONS = ("fp16", "int8")


@dataclass(frozen=True)
class Board:
    """What a rule may ask. `facts` are the target's, with rows resolved for `tensorrt`.

    Args:
        tensorrt: the version on the board.
        precision: "fp16" or "int8".
        table: scales of tensors, to check the INT8 rules by; None where nothing was calibrated yet.
    """

    target: Target
    tensorrt: str
    precision: str
    table: QuantTable | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def generation(self) -> str:
        return str(self.fact("dla.generation").value)

    @property
    def loadable_limit(self) -> int:
        """Loadables at once on one core, for this version where a row says so."""
        rows = self.fact("dla.loadables_by_version")
        return int(str(rows.value)) if rows.is_known else int(self.number("dla.loadables_per_core"))

    def fact(self, name: str) -> Fact:
        """The fact, as it holds for this version.

        Raises:
            TargetError: the target has no such fact.
        """
        return self.facts[name] if name in self.facts else self.target.fact(name)

    def number(self, name: str) -> float:
        """The fact's value as a number; raises TargetError if it is unknown."""
        return self.target.number(name)

    def names(self, name: str) -> tuple[str, ...]:
        """The fact's value as a list of names; empty where it is "none" or unknown."""
        value = self.fact(name).value
        items = value if isinstance(value, tuple) else str(value).split(",") if value is not None else ()
        return tuple(item for item in items if item != "none")

    @property
    def is_int8(self) -> bool:
        return self.precision == "int8"


def open_board(target: Target, precision: str, *, tensorrt: str = "", table: QuantTable | None = None) -> Board:
    """The board, once it is certain that this TensorRT drives a DLA there and that the DLA computes in `precision`.

    Args:
        tensorrt: "" takes the version that the target states.

    Raises:
        TargetError: no DLA, none under this version, or no source that says so.
        UsageError: `precision` or `tensorrt` cannot be read.
    """
    if precision not in PRECISIONS:
        raise UsageError(
            "a DLA computes in FP16 or INT8", expected=" or ".join(PRECISIONS), got=precision, do="--precision fp16"
        )
    if not target.knows("dla.count") or target.number("dla.count") == 0:
        raise TargetError(
            f"{target.name} has no DLA", got="dla.count = 0", do="name a board that has one, such as agx-xavier",
            source=target.fact("dla.count").source if "dla.count" in target.facts else "",
        )
    version = tensorrt or str(target.fact("software.tensorrt").value)
    support = find_dla_support(target, version)
    rows = target.fact("tensorrt.dla_by_version")
    if support is not True:
        raise TargetError(
            f"TensorRT {version} does not drive the DLA of {target.name}" if support is False else
            f"no source says whether TensorRT {version} drives the DLA of {target.name}",
            expected=", ".join(str(row) for row in rows.value) if isinstance(rows.value, tuple) else "",
            got=version, source=rows.source, do="name another version with --tensorrt, or leave the DLA out",
        )
    facts = {name: _resolve(fact, version) for name, fact in target.facts.items()
             if name.startswith("dla.") and fact.unit == "rows"}
    return Board(target, version, precision, table, facts)


def _resolve(fact: Fact, version: str) -> Fact:
    """The fact with the value of the one row that covers the version; unknown if none does."""
    have = _parts(version)
    for row in fact.value if isinstance(fact.value, tuple) else ():
        bounds, value = row.split(maxsplit=1)
        low, high = (_parts(end) for end in bounds.split("-"))
        if have[: len(low)] >= low and have[: len(high)] <= high:
            return dataclasses.replace(fact, value=value)
    return dataclasses.replace(fact, value=None)


def _parts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
