"""Leaves one spelling of clamping: Relu for [0, inf), one Clip for anything else, and never two in a row.

1. Clip(x, 0, inf), Max(x, 0)          -> Relu(x)
2. Min(x, c), Max(x, c), c one number  -> Clip(x, -inf, c), Clip(x, c, inf)
3. two in a row                        -> one with bounds g(low), g(high), where g is the outer clamp; exact
4. one that changes nothing            -> its input: Relu(Relu(x)), Clip behind a tighter Clip

so ReLU6 written as Min(Relu(x), 6) becomes Clip(x, 0, 6), which `recompose_hardswish`, the fusion groups and INT8
ranges all know. Limit: bounds are constants, values are floating point. An inner clamp that others read stays, and the
outer one with it, unless case 4 holds.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import is_op, only_user, require, skip_unless, sweep
from hwc.graph.model import Namer, bypass, can_bypass, opset, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.clip_bounds import INFINITY, clip_bounds, make_clip
from hwc.passes.polynomial import scalar

Bounds = tuple[float, float]


def canonicalize_clip(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the four cases."""
    misses: list[NearMiss] = []
    rule = partial(_canonicalize, namer=Namer(model), version=opset(model))
    count = sweep(model, ("Relu", "Clip", "Min", "Max"), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _canonicalize(node: ir.Node, *, namer: Namer, version: int) -> None:
    x, outer = _clamp_of(node)
    skip_unless(node.outputs[0].dtype is not None and node.outputs[0].dtype.is_floating_point())
    require(outer[0] <= outer[1], f"the bounds {outer[0]:.6g} and {outer[1]:.6g} are the wrong way round")
    inner = x.producer()
    bounds, old = outer, [node]
    if inner is not None and is_op(inner, "Relu", "Clip"):
        low, high = clip_bounds(inner)
        if low <= high:
            both = (min(max(low, outer[0]), outer[1]), min(max(high, outer[0]), outer[1]))
            if both == (low, high):
                require(can_bypass(node, x), "it gives a graph output its name")
                bypass(node, x)
                return
            only_user(x)
            bounds, old = both, [inner, node]
            assert inner.inputs[0] is not None
            x = inner.inputs[0]
    if bounds == (-INFINITY, INFINITY):
        require(can_bypass(node, x), "it gives a graph output its name")
        bypass(node, x)
        return
    is_plain = len(old) == 1 and (node.op_type == "Relu" or (node.op_type == "Clip" and bounds != (0.0, INFINITY)))
    skip_unless(not is_plain)
    require(version >= 6, f"Clip and Relu need opset 6, the model has {version}")
    assert node.graph is not None
    new = make_clip(node.graph, x, bounds, version=version, namer=namer, like=node)
    replace_nodes(old, [new], {node.outputs[0]: new.outputs[0]})


def _clamp_of(node: ir.Node) -> tuple[ir.Value, Bounds]:
    """What is clamped, and to which bounds; a far miss for a Min or Max of two computed values."""
    if node.op_type in ("Relu", "Clip"):
        assert node.inputs[0] is not None
        return node.inputs[0], clip_bounds(node)
    skip_unless(len(node.inputs) == 2)
    numbers = [scalar(value) for value in node.inputs]
    skip_unless((numbers[0] is None) != (numbers[1] is None))
    x = node.inputs[0] if numbers[0] is None else node.inputs[1]
    number = numbers[1] if numbers[0] is None else numbers[0]
    assert x is not None and number is not None
    # A constant of higher rank would give the result more dimensions than Clip does.
    skip_unless(x.shape is not None and node.outputs[0].shape is not None)
    skip_unless(len(x.shape or ()) == len(node.outputs[0].shape or ()))
    return x, ((-INFINITY, number) if node.op_type == "Min" else (number, INFINITY))
