"""What the passes ask that keep layers on DLA: does the target have one, and what are its limits."""

from __future__ import annotations

import onnx_ir as ir

from hwc.artifacts import Target
from hwc.graph.match import NoMatch, static_shape


def has_dla(target: Target) -> bool:
    """Whether the board has a DLA at all; which TensorRT drives it is asked before these passes are run."""
    return target.knows("dla.count") and target.number("dla.count") > 0


def limit(target: Target, fact: str) -> int:
    """A limit of the DLA; raises TargetError where it is unknown."""
    return int(target.number(fact))


def static_dims(value: ir.Value | None) -> tuple[int, ...]:
    """The shape N, C, H, W of a map; a near miss if it is not static or not of rank 4."""
    shape = static_shape(value)
    if len(shape) != 4:
        raise NoMatch(f"{value.name if value is not None else 'the input'} is of rank {len(shape)}, DLA takes rank 4")
    return shape
