"""Writes hard activations with what a DLA has: scale and clip.

    HardSigmoid(x; a, b) = max(0, min(1, a x + b)) = Clip(a x + b, 0, 1)
    HardSwish(x)         = x * HardSigmoid(x; 1/6, 1/2)

Both are exact. Only for targets with a DLA: elsewhere the operator is one kernel, and recompose_hardswish goes the
other way. Limit: in INT8 the product's two operands share one scale, so the gate, which is at most 1, gets few steps
where x is large; where that costs accuracy, Relu is the activation to train with.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import attribute, require, sweep
from hwc.graph.model import Namer, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter
from hwc.passes.require_dla import has_dla, static_dims

_GATE = {"HardSwish": (1 / 6, 0.5)}


def decompose_hardswish(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    if not has_dla(context.target):
        return PassReport(0)
    count = sweep(model, ("HardSigmoid", "HardSwish"), partial(_decompose, namer=Namer(model)), misses=misses)
    return PassReport(count, tuple(misses))


def _decompose(node: ir.Node, *, namer: Namer) -> None:
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    require(x.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16), f"{x.name} is not of FP32 or FP16")
    shape = static_dims(x)
    assert x.dtype is not None
    dtype = x.dtype.numpy()
    slope, shift = _GATE.get(node.op_type) or (attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5))
    emit = Emitter(node, namer)

    def number(value: float, what: str) -> ir.Value:
        return emit.constant(np.asarray(value, dtype), what)

    scaled = emit.one("Mul", "scaled", [x, number(slope, "slope")], shape)
    shifted = emit.one("Add", "shifted", [scaled, number(shift, "shift")], shape)
    gate = emit.one("Clip", "gate", [shifted, number(0, "zero"), number(1, "one")], shape)
    new = emit.one("Mul", "product", [x, gate], shape) if node.op_type == "HardSwish" else gate
    replace_nodes([node], emit.nodes, {result: new})
