"""Removes casts that change nothing.

1. Cast (or CastLike) to the type that its input has -> the input
2. Cast(Cast(x: A) -> B) -> C, where B holds every value of A: Cast(x) -> C, or x itself if C is A

Limit: a cast through a narrower type rounds or wraps, which the model may mean, so it stays. Casts beside Q/DQ stay as
well wherever rule 1 does not hold.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import is_op, require, skip_unless, sweep
from hwc.graph.model import bypass, can_bypass, mark_origin
from hwc.passes.base import PassContext, PassReport

# type -> (bits of exact integers, exponent bits, signed): B holds A if it is no worse in all three.
_RANGE = {
    "BOOL": (1, 0, 0),
    "UINT8": (8, 0, 0), "UINT16": (16, 0, 0), "UINT32": (32, 0, 0), "UINT64": (64, 0, 0),
    "INT8": (7, 0, 1), "INT16": (15, 0, 1), "INT32": (31, 0, 1), "INT64": (63, 0, 1),
    "FLOAT16": (11, 5, 1), "BFLOAT16": (8, 8, 1), "FLOAT": (24, 8, 1), "DOUBLE": (53, 11, 1),
}  # fmt: skip


def eliminate_cast(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the two cases."""
    misses: list[NearMiss] = []
    count = sweep(model, ("Cast", "CastLike"), _eliminate, misses=misses)
    return PassReport(count, tuple(misses))


def holds(wide: ir.DataType, narrow: ir.DataType) -> bool:
    """Whether every value of `narrow` is a value of `wide`."""
    a, b = _RANGE.get(wide.name), _RANGE.get(narrow.name)
    return a is not None and b is not None and all(x >= y for x, y in zip(a, b))


def _eliminate(node: ir.Node) -> None:
    source, out = node.inputs[0], node.outputs[0]
    skip_unless(source is not None and source.dtype is not None and out.dtype is not None)
    assert source is not None
    if source.dtype == out.dtype:
        require(can_bypass(node, source), "it gives a graph output its name")
        bypass(node, source)
        return
    inner = source.producer()
    skip_unless(is_op(inner, "Cast", "CastLike") and is_op(node, "Cast"))
    assert inner is not None
    root = inner.inputs[0]
    skip_unless(root is not None and root.dtype is not None)
    assert root is not None and root.dtype is not None and source.dtype is not None
    require(holds(source.dtype, root.dtype), f"{root.dtype} to {source.dtype} may lose digits")
    if root.dtype == out.dtype and can_bypass(node, root):
        bypass(node, root)
        return
    require(len(source.uses()) == 1 and not source.is_graph_output(), f"{source.name} is needed anyway")
    node.replace_input_with(0, root)
    mark_origin(node, [node, inner])
