"""Folds inference BatchNormalization, y = s x + t with s = gamma / sqrt(variance + epsilon), t = beta - mean s.

1. into the layer behind it: Conv, ConvTranspose, Gemm, MatMul (which leaves its Add), also through pools;
2. else into the layer ahead of it (Conv - Relu - BatchNormalization - MaxPool - Conv), through pools, Transpose and
   Reshape; before a padded Conv of static size the shift becomes a constant added behind that Conv.

`move_affine` has the formulas. Limit: between Concat and Relu, as DenseNet has it, neither is exact, and the node
stays; engines run it together with the Relu as one pointwise kernel.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import NoMatch, sweep
from hwc.graph.model import Namer
from hwc.passes.base import PassContext, PassReport
from hwc.passes.channel_affine import read_affine
from hwc.passes.move_affine import fold_backward, fold_forward


def fold_batchnorm(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the two directions."""
    misses: list[NearMiss] = []
    names = Namer(model)
    count = sweep(model, ("BatchNormalization",), lambda node: _fold(node, names), misses=misses)
    return PassReport(count, tuple(misses))


def _fold(node: ir.Node, names: Namer) -> None:
    source, affine = read_affine(node)
    try:
        return fold_backward(node, source, affine, names)
    except NoMatch as miss:
        producer = source.producer()
        behind = miss.reason or f"it follows {producer.op_type if producer is not None else 'a graph input'}"
    try:
        return fold_forward(node, source, affine, names, as_add=True)
    except NoMatch as miss:
        raise NoMatch(f"{behind}; {miss.reason}") from None
