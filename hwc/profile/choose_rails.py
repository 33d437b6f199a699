"""Which rails of a board add up to the power that is reported, by the facts of its target.

A board with a rail for its whole input reports that rail alone, because the others are inside it. A board without one
(AGX Xavier, AGX Orin) reports the sum of the rails that do not hold each other, and says what the sum leaves out. Names
come from the fact "power.sum_rails", never from what a line happens to hold: a rail that is missing must be missed.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from hwc.artifacts import Target
from hwc.errors import TargetError


@dataclass(frozen=True)
class RailPlan:
    """Rails whose sum is reported. `is_total` if it is one rail for the whole input; `omits` is what is not in it."""

    rails: Tuple[str, ...]
    is_total: bool
    omits: str


def choose_rails(target: Target) -> RailPlan:
    """The rails of that target.

    Raises:
        TargetError: it is no board with rails, or its rails are not known.
    """
    if target.family != "jetson":
        raise TargetError(
            f"{target.name} has no power rails", expected="a Jetson", got=f"family {target.family}",
            do="use --power nvml for a GPU of a PC, or --power rapl for its CPU",
        )  # fmt: skip
    fact = target.fact("power.sum_rails")
    if not isinstance(fact.value, tuple):
        raise TargetError(
            f"which rails of {target.name} add up to its power is not known", source=fact.source,
            do=f"look at the rails on the board, and give the fact a source in targets/data/{target.name}.toml",
        )  # fmt: skip
    omits = target.fact("power.omits").value
    return RailPlan(
        fact.value,
        target.fact("power.total_rail").value == fact.value[0] and len(fact.value) == 1,
        omits if isinstance(omits, str) else "unknown",
    )
