"""Finds HardSigmoid, max(0, min(1, x / 6 + 1 / 2)), in the arithmetic that exporters write for it.

1. Clip(x + 3, 0, 6) / 6, with the division as Div or as Mul by 1/6
2. Clip(x / 6 + 1/2, 0, 1), with the inner part in any order, (x + 3) / 6 included

becomes HardSigmoid(alpha=1/6, beta=1/2), of which engines have one kernel and which they fuse behind a Conv. Where the
result is then multiplied by x, `recompose_hardswish` goes on; where the product comes before the division, it does all.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import skip_unless, sweep
from hwc.graph.model import Namer, opset
from hwc.passes.base import PassContext, PassReport
from hwc.passes.clip_bounds import clip_bounds
from hwc.passes.polynomial import Terms, climb, find_variable, replace_expression
from hwc.passes.require_operator import require_operator

RELU6_INPUT: Terms = {(0,): 3.0, (1,): 1.0}
UNIT_INPUT: Terms = {(0,): 0.5, (1,): 1.0 / 6.0}


def recompose_hardsigmoid(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the two forms."""
    misses: list[NearMiss] = []
    rule = partial(_recompose, namer=Namer(model), version=opset(model), target=context.target)
    count = sweep(model, ("Clip",), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _recompose(node: ir.Node, *, namer: Namer, version: int, target: Target) -> None:
    bounds = clip_bounds(node)
    skip_unless(bounds in ((0.0, 6.0), (0.0, 1.0)))
    clipped = node.outputs[0]
    assert node.inputs[0] is not None
    if bounds == (0.0, 6.0):
        x, inner, _ = find_variable(node.inputs[0], RELU6_INPUT)
        # x * Clip(x + 3, 0, 6) / 6 is no polynomial in the clipped value alone, so it is left for HardSwish.
        top, outer = climb(clipped, (clipped,), {(1,): 1.0 / 6.0})
        nodes = [*inner.nodes, node, *outer.nodes]
    else:
        x, inner, _ = find_variable(node.inputs[0], UNIT_INPUT)
        top, nodes = clipped, [*inner.nodes, node]
    require_operator("HardSigmoid", version, target)
    replace_expression(nodes, top, "HardSigmoid", [x], namer, {"alpha": 1.0 / 6.0, "beta": 0.5})
