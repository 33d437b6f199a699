"""Takes the padding out of a ConvTranspose, which a DLA refuses, and crops with a Conv instead.

Padding b and e of a ConvTranspose cuts b elements off the start and e off the end of its full result; output_padding o
gives o of them back at the end. A depthwise Conv whose kernel has b + e - o + 1 elements, all 0 but a 1 at place b,
does the same cut:

    y[i] = full[i + b],   0 <= i < length - b - e + o

Exact. It costs one pass over the data; Slice, the plain way, is not had by Xavier's DLA. A grouped ConvTranspose, which
a DLA refuses too, becomes a dense one with zeros between the groups where that stays below MAX_WEIGHTS elements.
Limit: o <= e, since beyond the full result there is nothing to give back.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import attribute, constant, require, skip_unless, sweep
from hwc.graph.model import Namer, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter
from hwc.passes.require_dla import has_dla, limit, static_dims

MAX_WEIGHTS = 1 << 22  # of a dense kernel: 8 MiB in FP16


def crop_deconv(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    if not has_dla(context.target):
        return PassReport(0)
    rule = partial(_crop, namer=Namer(model), target=context.target)
    return PassReport(sweep(model, ("ConvTranspose",), rule, misses=misses), tuple(misses))


def _crop(node: ir.Node, *, namer: Namer, target: Target) -> None:
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    pads, extra = attribute(node, "pads", [0] * 4), attribute(node, "output_padding", [0, 0])
    group = int(attribute(node, "group", 1))
    skip_unless(any(pads) or any(extra) or group > 1)
    n, channels, height, width = static_dims(x)
    after = static_dims(result)
    weight = constant(node.inputs[1], "the weight")
    require(weight.ndim == 4, "it is not over two axes")
    require(attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID") and "output_shape" not in node.attributes,
            "the padding is given by auto_pad or output_shape")
    begins, ends = pads[:2], [end - back for end, back in zip(pads[2:], extra)]
    require(min(ends) >= 0, "output_padding is larger than the padding at the end")
    window = [begin + end + 1 for begin, end in zip(begins, ends)]
    largest = limit(target, "dla.conv_kernel_max")
    require(max(window) <= largest, f"the crop needs a kernel of {max(window)}")
    outputs = weight.shape[1] * group
    require(group == 1 or channels * outputs * weight[0, 0].size <= MAX_WEIGHTS, "a dense kernel would be too large")
    emit = Emitter(node, namer)
    kernel = node.inputs[1] if group == 1 else emit.constant(_dense(weight, group), "dense")
    inputs = [value for value in (x, kernel, *node.inputs[2:]) if value is not None]
    kept = {name: attribute(node, name) for name in ("strides", "dilations", "kernel_shape") if name in node.attributes}
    full = (n, outputs, after[2] + begins[0] + ends[0], after[3] + begins[1] + ends[1])
    value = emit.one("ConvTranspose", "full", inputs, full, **kept)
    if max(window) > 1:
        place = np.zeros((outputs, 1, *window), weight.dtype)
        place[:, :, begins[0], begins[1]] = 1
        value = emit.one(
            "Conv", "crop", [value, emit.constant(place, "place")], after, group=outputs, kernel_shape=window
        )
    replace_nodes([node], emit.nodes, {result: value})


def _dense(weight: np.ndarray, group: int) -> np.ndarray:
    """[C, M/group, kh, kw] as [C, M, kh, kw] with zeros where a channel is not of the group."""
    channels, maps = weight.shape[:2]
    dense = np.zeros((channels, maps * group, *weight.shape[2:]), weight.dtype)
    per_group = channels // group
    for index in range(group):
        rows = slice(index * per_group, (index + 1) * per_group)
        dense[rows, index * maps : (index + 1) * maps] = weight[rows]
    return dense
