"""Selects channels by a 1x1 Conv where a DLA has no slices: Slice or Split over channels of N x C x H x W.

    y[n, i] = x[n, first + i * step] = sum_c S[i, c] x[n, c],   S[i, first + i * step] = 1, else 0

Exact: each sum has one term. It costs C multiplications per output element, which is far below the two transitions that
a slice on the GPU would cost in the middle of a network. Only for targets whose DLA has no slices in any precision, or
where INT8 is asked for.

Limits: constant bounds, the channel axis alone.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import attribute, constant, require, skip_unless, sweep
from hwc.graph.model import Namer, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter
from hwc.passes.require_dla import has_dla, static_dims

_CHANNELS = 1


def convolve_slice(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    if not has_dla(context.target):
        return PassReport(0)
    rows = context.target.fact("dla.slice_precisions").value
    has_slices = isinstance(rows, tuple) and any(not row.endswith(" none") for row in rows)
    if has_slices and context.precision != "int8":
        return PassReport(0)
    count = sweep(model, ("Slice", "Split"), partial(_convolve, namer=Namer(model)), misses=misses)
    return PassReport(count, tuple(misses))


def _convolve(node: ir.Node, *, namer: Namer) -> None:
    x = node.inputs[0]
    assert x is not None
    skip_unless(x.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16) and len(x.shape or ()) == 4)
    shape = static_dims(x)
    picked = _split(node, shape) if node.op_type == "Split" else [_slice(node, shape)]
    emit = Emitter(node, namer)
    assert x.dtype is not None
    values = {}
    for result, channels in zip(node.outputs, picked):
        selection = np.zeros((len(channels), shape[1], 1, 1), x.dtype.numpy())
        selection[np.arange(len(channels)), channels] = 1
        after = (shape[0], len(channels), *shape[2:])
        values[result] = emit.one("Conv", "select", [x, emit.constant(selection, "selection")], after)
    replace_nodes([node], emit.nodes, values)


def _split(node: ir.Node, shape: tuple[int, ...]) -> list[np.ndarray]:
    skip_unless(int(attribute(node, "axis", 0)) % 4 == _CHANNELS)
    ends = np.cumsum([0, *(static_dims(value)[1] for value in node.outputs)])
    require(ends[-1] == shape[1], "the parts do not add up to the channels")
    return [np.arange(first, last) for first, last in zip(ends[:-1], ends[1:])]


def _slice(node: ir.Node, shape: tuple[int, ...]) -> np.ndarray:
    skip_unless(len(node.inputs) > 2)
    starts, ends = (constant(node.inputs[i], "a bound").reshape(-1) for i in (1, 2))
    given = [node.inputs[i] if len(node.inputs) > i else None for i in (3, 4)]
    axes = constant(given[0], "the axes").reshape(-1) if given[0] is not None else np.arange(len(starts))
    steps = constant(given[1], "the steps").reshape(-1) if given[1] is not None else np.ones(len(starts), np.int64)
    channels = np.arange(shape[1])
    for start, end, axis, step in zip(starts, ends, axes, steps):
        part = np.arange(shape[int(axis) % 4])[int(start) : int(end) : int(step)]
        if int(axis) % 4 == _CHANNELS:
            channels = part
        else:
            require(np.array_equal(part, np.arange(shape[int(axis) % 4])), "it cuts another axis, too")
    require(len(channels), "it leaves no channel")
    return channels
