"""Pads with a Conv where a DLA cannot: padding as large as the kernel, and Pad nodes that no pass could fold.

A depthwise Conv whose kernel has b + e + 1 elements, all 0 but a 1 at place e, with b + e zeros on both sides, is

    y[i] = x[i - b] or 0,   0 <= i < length + b + e

that is, padding b before and e after. So

* Pad by zeros over height and width becomes that Conv;
* a Conv with padding p >= k keeps k - 1 of it on each side, and the Conv in front adds the rest. Dilated convolutions
  have such padding, since DLA compares it with the kernel as it is written.

Exact; it costs one pass over the data. Limit: b + e + 1 within the largest kernel of a DLA, and b + e within its
largest padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import attribute, constant, require, skip_unless, sweep
from hwc.graph.model import Namer, replace_nodes
from hwc.graph.padding import explicit_pads
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter
from hwc.passes.fold_pads import read_pad
from hwc.passes.require_dla import has_dla, limit, static_dims


def convolve_pad(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    if not has_dla(context.target):
        return PassReport(0)
    namer = Namer(model)
    count = sweep(model, ("Pad",), partial(_pad, namer=namer, target=context.target), misses=misses)
    count += sweep(model, ("Conv",), partial(_conv, namer=namer, target=context.target), misses=misses)
    return PassReport(count, tuple(misses))


def _pad(node: ir.Node, *, namer: Namer, target: Target) -> None:
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    skip_unless(x.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16) and len(x.shape or ()) == 4)
    begins, ends, fill = read_pad(node)
    require(fill == 0, f"it pads with {fill}")
    require(not any([*begins[:2], *ends[:2]]), "it reaches batch or channels")
    require(min([*begins, *ends]) >= 0, "it crops")
    emit = Emitter(node, namer)
    value = _by_conv(emit, x, begins[2:], ends[2:], target)
    replace_nodes([node], emit.nodes, {result: value})


def _conv(node: ir.Node, *, namer: Namer, target: Target) -> None:
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    kernel = constant(node.inputs[1], "the weight").shape[2:]
    skip_unless(len(kernel) == 2)
    pads = explicit_pads(node, static_dims(x)[2:], kernel)
    most = [size - 1 for size in kernel]
    kept = [min(pad, size) for pad, size in zip(pads, [*most, *most])]
    skip_unless(kept != pads)
    rest = [pad - own for pad, own in zip(pads, kept)]
    emit = Emitter(node, namer)
    wider = _by_conv(emit, x, rest[:2], rest[2:], target)
    attributes = {name: attribute(node, name) for name in node.attributes if name not in ("auto_pad", "pads")}
    inputs = [value for value in (wider, *node.inputs[1:]) if value is not None]
    value = emit.one("Conv", "conv", inputs, static_dims(result), pads=kept, **attributes)
    replace_nodes([node], emit.nodes, {result: value})


def _by_conv(emit: Emitter, x: ir.Value, begins: Sequence[int], ends: Sequence[int], target: Target) -> ir.Value:
    n, channels, height, width = static_dims(x)
    both = [begin + end for begin, end in zip(begins, ends)]
    largest = min(limit(target, "dla.conv_kernel_max") - 1, limit(target, "dla.conv_padding_max"))
    require(max(both) <= largest, f"padding of {max(both)} on one axis is too large")
    assert x.dtype is not None
    place = np.zeros((channels, 1, both[0] + 1, both[1] + 1), x.dtype.numpy())
    place[:, :, ends[0], ends[1]] = 1
    return emit.one(
        "Conv", "padded", [x, emit.constant(place, "place")], (n, channels, height + both[0], width + both[1]),
        group=channels, kernel_shape=[both[0] + 1, both[1] + 1], pads=[*both, *both],
    )
