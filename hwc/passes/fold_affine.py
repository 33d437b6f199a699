"""Folds Mul, Div, Add and Sub by a per-channel (or scalar) constant into the linear layer next to them.

1. into the layer behind: Conv + Mul + Add becomes Conv; also into the scale and bias of a BatchNormalization or
   InstanceNormalization, so a chain that no Conv can take becomes one node;
2. else into the layer ahead of it, where that is exact without a further node: a shift only without padding.

`move_affine` has the formulas. Limits: MatMul + Add stays, since it is a bias already and becomes one by becoming a
Gemm. An activation that is spelled out (x * clip(x + 3) / 6) must be recomposed before this pass runs, as its constants
would be folded into the next layer and the pattern lost.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import NoMatch, sweep
from hwc.graph.model import Namer
from hwc.passes.base import PassContext, PassReport
from hwc.passes.channel_affine import read_affine
from hwc.passes.move_affine import fold_backward, fold_forward


def fold_affine(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the two directions."""
    misses: list[NearMiss] = []
    names = Namer(model)
    count = sweep(model, ("Mul", "Div", "Add", "Sub"), lambda node: _fold(node, names), misses=misses)
    return PassReport(count, tuple(misses))


def _fold(node: ir.Node, names: Namer) -> None:
    source, affine = read_affine(node)
    try:
        return fold_backward(node, source, affine, names)
    except NoMatch as miss:
        behind = miss
    try:
        return fold_forward(node, source, affine, names)
    except NoMatch as ahead:
        near = behind.near or ahead.near
        raise NoMatch("; ".join(filter(None, (behind.reason, ahead.reason))), near=near) from None
