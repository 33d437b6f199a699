"""Averages over large windows as steps that fit a DLA, whose windows are at most 8x8 and which has no global average.

An average over a grid of equal, disjoint windows is the average of their averages. So where k = f1 f2 ... with every
factor within the limit, AveragePool k with stride k (or a global one over k rows) is

    AveragePool f1 stride f1 -> AveragePool f2 stride f2 -> ...

per axis, both axes stepping together. Where a side has a prime factor above the limit, one depthwise Conv with the
weight 1/(kh kw) does the same, if its kernel fits. All are exact; GlobalAveragePool, a ReduceMean over height and width
that keeps its axes, and AveragePool without padding whose windows are disjoint or single are rewritten.

Limits: no padding, no overlap. In INT8 each pool keeps the scale of its input (a rule of DLA), so an average that is
much smaller than its input has fewer steps.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import attribute, require, skip_unless, sweep
from hwc.graph.model import Namer, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter
from hwc.passes.require_dla import has_dla, limit, static_dims
from hwc.passes.standardized import reduced_axes


def cascade_average_pool(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    if not has_dla(context.target):
        return PassReport(0)
    rule = partial(_cascade, namer=Namer(model), target=context.target)
    count = sweep(model, ("GlobalAveragePool", "ReduceMean", "AveragePool"), rule, misses=misses)
    return PassReport(count, tuple(misses))


def factor_steps(size: int, largest: int) -> list[int] | None:
    """Factors of `size`, each at most `largest`, as few as a greedy choice gives; None if a prime factor is larger."""
    steps = []
    while size > 1:
        factor = next((f for f in range(min(largest, size), 1, -1) if size % f == 0), None)
        if factor is None:
            return None
        steps.append(factor)
        size //= factor
    return steps


def _cascade(node: ir.Node, *, namer: Namer, target: Target) -> None:
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    skip_unless(x.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16))
    largest = limit(target, "dla.pool_window_max")
    if node.op_type == "ReduceMean":
        skip_unless(len(x.shape or ()) == 4 and reduced_axes(node) == (2, 3))
        require(attribute(node, "keepdims", 1), "the mean drops its axes")
    if node.op_type == "AveragePool":
        skip_unless(any(side > largest for side in attribute(node, "kernel_shape")))
    n, channels, height, width = static_dims(x)
    window = (height, width)
    if node.op_type == "AveragePool":
        window = _ask_pool(node, (height, width))
    emit = Emitter(node, namer)
    steps = [factor_steps(side, largest) for side in window]
    if steps[0] is not None and steps[1] is not None:
        value = _pools(emit, x, steps[0], steps[1])
    else:
        value = _convolve(emit, x, window, limit(target, "dla.conv_kernel_max"), limit(target, "dla.conv_stride_max"))
    replace_nodes([node], emit.nodes, {result: value})


def _ask_pool(node: ir.Node, size: tuple[int, int]) -> tuple[int, int]:
    window = tuple(attribute(node, "kernel_shape"))
    require(not any(attribute(node, "pads", [0])) and attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID"),
            "the pool pads")
    require(not attribute(node, "ceil_mode", 0), "ceil_mode lets windows hang over the edge")
    require(all(step == 1 for step in attribute(node, "dilations", [1])), "the windows are dilated")
    # One window on an axis may have any stride; several have to lie side by side.
    for side, stride, length in zip(window, attribute(node, "strides", [1, 1]), size):
        require(stride == side or (length - side) // stride == 0, "windows overlap or leave gaps")
    require(all(length % side == 0 for side, length in zip(window, size)), "windows leave a rest of the map")
    return window[0], window[1]


def _pools(emit: Emitter, x: ir.Value, rows: list[int], columns: list[int]) -> ir.Value:
    n, channels, height, width = static_dims(x)
    value = x
    for index in range(max(len(rows), len(columns), 1)):
        tall = rows[index] if index < len(rows) else 1
        wide = columns[index] if index < len(columns) else 1
        height, width = height // tall, width // wide
        value = emit.one(
            "AveragePool", "step", [value], (n, channels, height, width), kernel_shape=[tall, wide],
            strides=[tall, wide],
        )
    return value


def _convolve(emit: Emitter, x: ir.Value, window: tuple[int, int], kernel_max: int, stride_max: int) -> ir.Value:
    n, channels, height, width = static_dims(x)
    require(max(window) <= kernel_max, f"a window of {window[0]}x{window[1]} has a large prime factor")
    counts = height // window[0], width // window[1]
    strides = [side if count > 1 else 1 for side, count in zip(window, counts)]
    require(max(strides) <= stride_max, f"a Conv would need a stride of {max(strides)}")
    assert x.dtype is not None
    weight = np.full((channels, 1, *window), 1 / (window[0] * window[1]), x.dtype.numpy())
    return emit.one(
        "Conv", "average", [x, emit.constant(weight, "weight")], (n, channels, *counts), group=channels,
        kernel_shape=list(window), strides=strides,
    )
