"""Finds GELU in its two written-out forms, in any order of its products; ONNX has Gelu from opset 20 on.

    exact   0.5 x (1 + erf(x / sqrt(2)))
    tanh    0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))

Both are polynomials in x and in the Erf or Tanh: the inner one decides what x is, the outer one is 0.5 x + 0.5 x e.
Five to nine passes over the tensor become one, wherever the engine does not fuse them. An older opset is a near miss.
Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
"""

from __future__ import annotations

import math
from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import sweep
from hwc.graph.model import Namer, opset
from hwc.passes.base import PassContext, PassReport
from hwc.passes.polynomial import Terms, climb, find_variable, replace_expression
from hwc.passes.require_operator import require_operator

_CDF: Terms = {(1, 0): 0.5, (1, 1): 0.5}
_ERF: Terms = {(1,): math.sqrt(0.5)}
_TANH: Terms = {(1,): math.sqrt(2.0 / math.pi), (3,): math.sqrt(2.0 / math.pi) * 0.044715}


def recompose_gelu(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the two forms."""
    misses: list[NearMiss] = []
    rule = partial(_recompose, namer=Namer(model), version=opset(model), target=context.target)
    count = sweep(model, ("Erf", "Tanh"), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _recompose(node: ir.Node, *, namer: Namer, version: int, target: Target) -> None:
    assert node.inputs[0] is not None
    is_exact = node.op_type == "Erf"
    x, inner, _ = find_variable(node.inputs[0], _ERF if is_exact else _TANH)
    value = node.outputs[0]
    top, outer = climb(value, (x, value), _CDF)
    require_operator("Gelu", version, target)
    nodes = [*inner.nodes, node, *outer.nodes]
    replace_expression(nodes, top, "Gelu", [x], namer, {"approximate": "none" if is_exact else "tanh"})
