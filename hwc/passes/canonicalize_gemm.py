"""Gives every Gemm with constant operands its plain form, y = x W + c: alpha = beta = 1, transB = 0.

W becomes alpha * W^T where asked, c becomes beta * c, so that later passes (merging, pruning, calibration per channel)
see output channels on one axis only. Limit: transA stays, since its operand is computed, and so does a Gemm whose
W another node reads, since changing a copy would store the weights twice.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import attribute, constant, require, skip_unless, sweep
from hwc.graph.model import Namer, add_initializer, make_node, replace_nodes
from hwc.passes.base import PassContext, PassReport


def canonicalize_gemm(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    count = sweep(model, ("Gemm",), partial(_canonicalize, namer=Namer(model)), misses=misses)
    return PassReport(count, tuple(misses))


def _canonicalize(node: ir.Node, *, namer: Namer) -> None:
    alpha, beta = float(attribute(node, "alpha", 1.0)), float(attribute(node, "beta", 1.0))
    transposed = bool(attribute(node, "transB", 0))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    skip_unless(alpha != 1.0 or transposed or (beta != 1.0 and bias is not None))
    x, weight = node.inputs[0], node.inputs[1]
    assert weight is not None and node.graph is not None
    inputs = [x, weight, *([bias] if bias is not None else [])]
    matrix = constant(weight, "the weight")
    row = constant(bias, "the bias") if bias is not None and beta != 1.0 else None
    require(len(weight.uses()) == 1, f"{weight.name} is read by {len(weight.uses())} nodes")
    if alpha != 1.0 or transposed:
        matrix = matrix.T if transposed else matrix
        scaled = (matrix * np.asarray(alpha, matrix.dtype)).astype(matrix.dtype) if alpha != 1.0 else matrix
        inputs[1] = add_initializer(node.graph, namer.fresh(f"{weight.name}_plain"), scaled)
    if row is not None:
        assert bias is not None
        scaled = (row * np.asarray(beta, row.dtype)).astype(row.dtype)
        inputs[2] = add_initializer(node.graph, namer.fresh(f"{bias.name}_plain"), scaled)
    result = node.outputs[0]
    plain = make_node(
        "Gemm",
        inputs,
        name=namer.fresh(f"{node.name}_plain"),
        outputs=[namer.fresh(f"{result.name}_plain")],
        attributes={"transA": 1} if attribute(node, "transA", 0) else {},
        dtype=result.dtype,
        shapes=[result.shape],
    )
    replace_nodes([node], [plain], {result: plain.outputs[0]})
