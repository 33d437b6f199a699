"""Writes a Clip to any finite bounds as one that a DLA has, whose lower bound is 0 and whose upper is within limits:

    Clip(x, l, h) = l + (h - l)/6 * Clip( (x - l) * 6/(h - l), 0, 6 )

Exact; scale and shift are Scale layers. Where h - l is itself a legal bound, the factor is 1 and only shifts are
written. Limit: with one bound infinite it is a Max or Min with a constant, which no source lists.
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
from hwc.passes.require_dla import has_dla, limit, static_dims

_BOUND = 6.0  # of ReLU6, the clipped ReLU of most networks


def shift_clip(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    if not has_dla(context.target):
        return PassReport(0)
    bounds = limit(context.target, "dla.clip_upper_min"), limit(context.target, "dla.clip_upper_max")
    count = sweep(model, ("Clip",), partial(_shift, namer=Namer(model), bounds=bounds), misses=misses)
    return PassReport(count, tuple(misses))


def _shift(node: ir.Node, *, namer: Namer, bounds: tuple[int, int]) -> None:
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None and x.dtype is not None
    skip_unless(x.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16))
    low, high = _bound(node, 1, "min", -np.inf), _bound(node, 2, "max", np.inf)
    skip_unless(not (low == 0 and bounds[0] <= high <= bounds[1]))
    require(np.isfinite(low) and np.isfinite(high), f"a bound is infinite: [{low:g}, {high:g}]")
    require(low < high, f"the bounds leave nothing between them: [{low:g}, {high:g}]")
    shape = static_dims(x)
    dtype = x.dtype.numpy()
    emit = Emitter(node, namer)

    def number(value: float, what: str) -> ir.Value:
        return emit.constant(np.asarray(value, dtype), what)

    span = high - low
    upper = span if bounds[0] <= span <= bounds[1] else _BOUND
    value = x
    if low:
        value = emit.one("Sub", "from_zero", [value, number(low, "low")], shape)
    if upper != span:
        value = emit.one("Mul", "scaled", [value, number(upper / span, "scale")], shape)
    value = emit.one("Clip", "clipped", [value, number(0, "zero"), number(upper, "upper")], shape)
    if upper != span:
        value = emit.one("Mul", "unscaled", [value, number(span / upper, "unscale")], shape)
    if low:
        value = emit.one("Add", "shifted_back", [value, number(low, "low")], shape)
    replace_nodes([node], emit.nodes, {result: value})


def _bound(node: ir.Node, position: int, name: str, missing: float) -> float:
    value = node.inputs[position] if len(node.inputs) > position else None
    if value is None:
        return float(attribute(node, name, missing))
    return float(constant(value, f"the bound '{name}'").reshape(-1)[0])
