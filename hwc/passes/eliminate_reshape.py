"""Removes operators that leave a tensor as it is, and merges those that only give it another shape.

1. Reshape, Flatten, Squeeze, Unsqueeze, Expand and Tile whose output has the shape of their input -> the input
2. Slice of everything with step 1, Pad by nothing -> the input
3. Reshape, Flatten, Squeeze, Unsqueeze in a row -> one Reshape to the last shape, or none if that is the first one

The order of elements never changes in (3), so only the last shape counts. A dynamic dimension is allowed once: the
element count fixes it, and the Reshape gets -1 there. Limit: shapes with two dynamic dimensions are left alone, since
equal symbols are not proof enough.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import attribute, is_op, require, skip_unless, sweep
from hwc.graph.model import Namer, add_initializer, bypass, can_bypass, constant_array, make_node, replace_nodes
from hwc.passes.base import PassContext, PassReport

_KEEPS_ORDER = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def eliminate_reshape(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the three cases."""
    misses: list[NearMiss] = []
    names = Namer(model)
    count = sweep(model, (*_KEEPS_ORDER, "Expand", "Tile", "Slice", "Pad"), lambda n: _rule(n, names), misses=misses)
    return PassReport(count, tuple(misses))


def _dims(value: ir.Value | None) -> list[int] | None:
    """The shape with -1 for a dynamic dimension; None if unknown or dynamic twice."""
    if value is None or value.shape is None:
        return None
    dims = [dim if isinstance(dim, int) else -1 for dim in value.shape]
    return dims if dims.count(-1) <= 1 else None


def _rule(node: ir.Node, names: Namer) -> None:
    source = node.inputs[0]
    assert source is not None
    if _does_nothing(node):
        require(can_bypass(node, source), "it gives a graph output its name")
        bypass(node, source)
        return
    skip_unless(is_op(node, *_KEEPS_ORDER) and is_op(source.producer(), *_KEEPS_ORDER))
    inner = source.producer()
    assert inner is not None and inner.inputs[0] is not None
    root, dims = inner.inputs[0], _dims(node.outputs[0])
    require(dims is not None, "its shape has more than one dynamic dimension")
    assert dims is not None
    require(0 not in dims, "a tensor without elements")
    if _dims(root) == dims and can_bypass(node, root):
        bypass(node, root)
        return
    require(not source.is_graph_output() and len(source.uses()) == 1, f"{source.name} is needed anyway")
    require(inner.graph is node.graph and isinstance(node.graph, ir.Graph), "they are in two graphs")
    assert isinstance(node.graph, ir.Graph)
    out = node.outputs[0]
    shape = add_initializer(node.graph, names.fresh(f"{node.name}_shape"), np.array(dims, np.int64))
    merged = make_node(
        "Reshape", [root, shape], name=names.fresh(f"{node.name}_merged"), outputs=[names.fresh(f"{out.name}_merged")],
        dtype=out.dtype, shapes=[out.shape],
    )
    replace_nodes([inner, node], [merged], {out: merged.outputs[0]})


def _does_nothing(node: ir.Node) -> bool:
    before, after = _dims(node.inputs[0]), _dims(node.outputs[0])
    if is_op(node, "Pad"):
        amount = attribute(node, "pads") or (constant_array(node.inputs[1]) if len(node.inputs) > 1 else None)
        return amount is not None and not np.any(amount)
    if is_op(node, "Slice"):
        return _takes_all(node, before, after)
    # Expand and Tile may turn a dynamic 1 into more, so for them one dynamic dimension is one too many.
    if is_op(node, "Expand", "Tile") and (before is None or -1 in before):
        return False
    return before is not None and before == after and (0 not in before or -1 not in before)


def _takes_all(node: ir.Node, before: list[int] | None, after: list[int] | None) -> bool:
    steps = constant_array(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else np.ones(1)
    if steps is None or not (steps == 1).all():
        return False
    if before is not None and before == after and -1 not in before:
        return True
    if "starts" in node.attributes:
        starts, ends = attribute(node, "starts"), attribute(node, "ends")
    else:
        starts, ends = constant_array(node.inputs[1]), constant_array(node.inputs[2])
    if starts is None or ends is None:
        return False
    # From 0 to a number that no dimension reaches is everything, whatever the size.
    return not np.any(starts) and bool((np.asarray(ends) >= np.iinfo(np.int32).max).all())
