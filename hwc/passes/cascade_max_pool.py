"""Maxima over large windows as steps that fit a DLA, whose windows are at most 8x8.

The maximum over k elements is that over k2 neighbours of maxima over k1 = k - k2 + 1 elements, so per axis

    MaxPool k, stride s, pads p = MaxPool k1, stride 1, pads p1 -> MaxPool k2, stride 1, pads p2 -> ... , last stride s

with k = k1 + k2 + ... - (steps - 1) and pads p = p1 + p2 + ...: each step pads with -infinity less than its window,
and a window that begins in the padding of one step still covers all real elements. Where windows do not overlap and a
side factors, as for a global maximum, the steps are disjoint (see cascade_average_pool), which is cheaper. Exact.

Limits: no ceil_mode, no dilation, and a side's padding has to fit into the steps.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import attribute, require, skip_unless, sweep
from hwc.graph.model import Namer, replace_nodes
from hwc.graph.padding import explicit_pads
from hwc.passes.base import PassContext, PassReport
from hwc.passes.cascade_average_pool import factor_steps
from hwc.passes.emitter import Emitter
from hwc.passes.require_dla import has_dla, limit, static_dims
from hwc.passes.standardized import reduced_axes

Step = tuple[int, int, int, int]  # window, stride, padding before, padding after, of one axis


def cascade_max_pool(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    if not has_dla(context.target):
        return PassReport(0)
    rule = partial(_cascade, namer=Namer(model), target=context.target)
    count = sweep(model, ("MaxPool", "GlobalMaxPool", "ReduceMax"), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _cascade(node: ir.Node, *, namer: Namer, target: Target) -> None:
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    skip_unless(x.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16))
    largest, most_padding = limit(target, "dla.pool_window_max"), limit(target, "dla.pool_padding_max")
    if node.op_type == "ReduceMax":
        skip_unless(len(x.shape or ()) == 4 and reduced_axes(node) == (2, 3))
        require(attribute(node, "keepdims", 1), "the maximum drops its axes")
    if node.op_type == "MaxPool":
        skip_unless(any(side > largest for side in attribute(node, "kernel_shape")))
    size = static_dims(x)[2:]
    axes: list[list[Step]] = []
    if node.op_type != "MaxPool":
        axes = [_axis_steps(length, 1, 0, 0, length, largest, most_padding) for length in size]
    else:
        require(not attribute(node, "ceil_mode", 0), "ceil_mode lets windows hang over the edge")
        require(all(step == 1 for step in attribute(node, "dilations", [1])), "the windows are dilated")
        require(not any(v.uses() or v.is_graph_output() for v in node.outputs[1:]), "MaxPool's indices are read")
        window = attribute(node, "kernel_shape")
        pads = explicit_pads(node, size, window)
        strides = attribute(node, "strides", [1, 1])
        axes = [
            _axis_steps(window[i], strides[i], pads[i], pads[i + 2], size[i], largest, most_padding) for i in (0, 1)
        ]
    emit = Emitter(node, namer)
    value = x
    for index in range(max(len(steps) for steps in axes)):
        # The shorter axis waits, so that both take their stride in their own last step.
        pair = [steps[index] if index < len(steps) else (1, 1, 0, 0) for steps in axes]
        shape = static_dims(value)
        after = [(s + a + b - k) // stride + 1 for s, (k, stride, a, b) in zip(shape[2:], pair)]
        value = emit.one(
            "MaxPool", "step", [value], (*shape[:2], *after), kernel_shape=[p[0] for p in pair],
            strides=[p[1] for p in pair], pads=[p[2] for p in pair] + [p[3] for p in pair],
        )
    replace_nodes([node], emit.nodes, {result: value})


def _axis_steps(
    window: int, stride: int, before: int, after: int, length: int, largest: int, most_padding: int
) -> list[Step]:
    """The steps of one axis; a near miss if the padding does not fit into them."""
    is_disjoint = not before and not after and length % window == 0 and (stride == window or length == window)
    factors = factor_steps(window, largest) if is_disjoint else None
    if factors is not None:
        return [(factor, factor, 0, 0) for factor in factors] or [(1, 1, 0, 0)]
    rest, sides = window, []
    while rest > largest:
        sides.append(largest)
        rest -= largest - 1
    sides.append(rest)
    steps: list[Step] = []
    for index, side in enumerate(sides):
        room = min(side - 1, most_padding)
        lead, trail = min(before, room), min(after, room)
        before, after = before - lead, after - trail
        steps.append((side, stride if index == len(sides) - 1 else 1, lead, trail))
    require(not before and not after, "the padding does not fit into the steps")
    return steps
