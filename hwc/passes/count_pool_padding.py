"""Counts the padding in an AveragePool, as Xavier's DLA does, and makes up for it with a constant factor per element:

    average without padding = average with padding * (kh kw / number of real elements in the window)

Exact; the factor is a Scale layer of one number per element, 1 everywhere but at the border. Only where the target's
fact 'dla.average_exclusive' is a no. Limits: no ceil_mode, static shapes, a factor of at most MAX_FACTORS elements.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import attribute, require, skip_unless, sweep
from hwc.graph.model import Namer, replace_nodes
from hwc.graph.padding import explicit_pads
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter
from hwc.passes.require_dla import has_dla, static_dims

MAX_FACTORS = 1 << 20


def count_pool_padding(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    if not has_dla(context.target) or context.target.fact("dla.average_exclusive").value is not False:
        return PassReport(0)
    count = sweep(model, ("AveragePool",), partial(_count, namer=Namer(model)), misses=misses)
    return PassReport(count, tuple(misses))


def _count(node: ir.Node, *, namer: Namer) -> None:
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    skip_unless(not attribute(node, "count_include_pad", 0))
    before = static_dims(x)
    window = attribute(node, "kernel_shape")
    pads = explicit_pads(node, before[2:], window)
    skip_unless(any(pads))
    require(not attribute(node, "ceil_mode", 0), "ceil_mode lets windows hang over the edge")
    require(all(step == 1 for step in attribute(node, "dilations", [1])), "the windows are dilated")
    after = static_dims(result)
    require(int(np.prod(after[1:])) <= MAX_FACTORS, "a factor per element would be too large")
    strides = attribute(node, "strides", [1, 1])
    counts = [
        _real_elements(before[2 + axis], window[axis], strides[axis], pads[axis], after[2 + axis]) for axis in (0, 1)
    ]
    assert x.dtype is not None
    factor = window[0] * window[1] / np.outer(*counts)
    factors = np.broadcast_to(factor, (1, *after[1:])).astype(x.dtype.numpy())
    emit = Emitter(node, namer)
    attributes = {name: attribute(node, name) for name in node.attributes if name != "auto_pad"}
    attributes.update(pads=list(pads), count_include_pad=1)
    value = emit.one("AveragePool", "counted", [x], after, **attributes)
    value = emit.one("Mul", "made_up", [value, emit.constant(np.ascontiguousarray(factors), "factor")], after)
    replace_nodes([node], emit.nodes, {result: value})


def _real_elements(length: int, window: int, stride: int, pad: int, places: int) -> np.ndarray:
    starts = np.arange(places) * stride - pad
    return np.minimum(starts + window, length) - np.maximum(starts, 0)
