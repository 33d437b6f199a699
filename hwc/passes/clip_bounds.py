"""Reads and writes Clip, whose bounds are attributes up to opset 10 and inputs from opset 11 on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from hwc.graph.match import attribute, constant, require
from hwc.graph.model import Namer, add_initializer, make_node

INFINITY = float("inf")


def clip_bounds(node: ir.Node) -> tuple[float, float]:
    """The bounds (low, high) of a Clip, infinite where there is none; of a Relu (0, inf).

    Raises:
        NoMatch: near; a bound is computed at run time.
    """
    if node.op_type == "Relu":
        return 0.0, INFINITY
    low, high = -INFINITY, INFINITY
    # Opset 6 writes "no bound" as the largest finite float.
    if "min" in node.attributes:
        low = float(attribute(node, "min"))
    if "max" in node.attributes:
        high = float(attribute(node, "max"))
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        low = _number(node.inputs[1], "the lower bound")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        high = _number(node.inputs[2], "the upper bound")
    largest = float(np.finfo(np.float32).max)
    return (-INFINITY if low <= -largest else low), (INFINITY if high >= largest else high)


def _number(value: ir.Value, what: str) -> float:
    array = constant(value, what)
    require(array.size == 1, f"{what} is not one number")
    return float(array.reshape(-1)[0])


def make_clip(
    graph: ir.Graph,
    x: ir.Value,
    bounds: tuple[float, float],
    *,
    version: int,
    namer: Namer,
    like: ir.Node,
    sources: Iterable[ir.Node] = (),
) -> ir.Node:
    """A Relu or Clip with these bounds that gives the type and shape of `like`; not yet in the graph.

    Args:
        version: the model's opset; decides how the bounds are written.
        like: the node whose result it stands for.
    """
    result = like.outputs[0]
    common = {
        "outputs": [namer.fresh(f"{result.name}_clipped")],
        "dtype": result.dtype,
        "shapes": [result.shape],
        "sources": sources,
    }
    if bounds == (0.0, INFINITY):
        return make_node("Relu", [x], name=namer.fresh(f"{like.name}_relu"), **common)  # type: ignore[arg-type]
    name = namer.fresh(f"{like.name}_clip")
    low, high = bounds
    if version < 11:
        attributes = {key: value for key, value in (("min", low), ("max", high)) if abs(value) != INFINITY}
        return make_node("Clip", [x], name=name, attributes=attributes, **common)  # type: ignore[arg-type]
    assert result.dtype is not None
    inputs: list[ir.Value | None] = [x]
    for key, value in (("min", low), ("max", high)):
        array = np.asarray(value, dtype=result.dtype.numpy())
        unbounded = abs(value) == INFINITY
        inputs.append(None if unbounded else add_initializer(graph, namer.fresh(f"{name}_{key}"), array))
    return make_node("Clip", _trimmed(inputs), name=name, **common)  # type: ignore[arg-type]


def _trimmed(inputs: Sequence[ir.Value | None]) -> list[ir.Value | None]:
    kept = list(inputs)
    while kept and kept[-1] is None:
        kept.pop()
    return kept
