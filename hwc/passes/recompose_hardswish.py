"""Finds HardSwish, x * HardSigmoid(x), in the arithmetic that exporters write for it; ONNX has it from opset 14 on.

1. x * Clip(x + 3, 0, 6) / 6, product and division in any order (PaddlePaddle's Add, Clip, Mul, Div is one of them)
2. x * HardSigmoid(x) with alpha = 1/6 and beta = 1/2

Behind a Conv the four nodes of the first form cost four passes over the feature map wherever an engine does not fuse
them; HardSwish is one, and one that the fusion groups know. Howard et al., "Searching for MobileNetV3", 2019, 5.2.
Not for TensorRT for RTX, which fuses the arithmetic itself: with 1.7.1 on sm_86, the PP-OCRv4 classifier has 76
kernels as exported and 78 with the operator.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import attribute, require, skip_unless, sweep
from hwc.graph.model import Namer, opset
from hwc.passes.base import PassContext, PassReport
from hwc.passes.clip_bounds import clip_bounds
from hwc.passes.polynomial import climb, find_variable, is_equal, replace_expression
from hwc.passes.recompose_hardsigmoid import RELU6_INPUT
from hwc.passes.require_operator import require_operator


def recompose_hardswish(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the two forms."""
    misses: list[NearMiss] = []
    rule = partial(_recompose, namer=Namer(model), version=opset(model), target=context.target)
    count = sweep(model, ("Clip", "HardSigmoid"), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _recompose(node: ir.Node, *, namer: Namer, version: int, target: Target) -> None:
    gate = node.outputs[0]
    assert node.inputs[0] is not None
    if node.op_type == "Clip":
        skip_unless(clip_bounds(node) == (0.0, 6.0))
        x, inner, _ = find_variable(node.inputs[0], RELU6_INPUT)
        top, outer = climb(gate, (x, gate), {(1, 1): 1.0 / 6.0})
        nodes = [*inner.nodes, node, *outer.nodes]
    else:
        x = node.inputs[0]
        top, outer = climb(gate, (x, gate), {(1, 1): 1.0})
        alpha, beta = float(attribute(node, "alpha", 0.2)), float(attribute(node, "beta", 0.5))
        is_sixth = is_equal({(0,): beta, (1,): alpha}, {(0,): 0.5, (1,): 1.0 / 6.0}, x.dtype)
        require(is_sixth, f"alpha {alpha:.6g} and beta {beta:.6g}, expected 0.166667 and 0.5")
        nodes = [node, *outer.nodes]
    require_operator("HardSwish", version, target)
    require(target.engine != "tensorrt_rtx", "TensorRT for RTX has fewer kernels with the arithmetic written out")
    replace_expression(nodes, top, "HardSwish", [x], namer)
