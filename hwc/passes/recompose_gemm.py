"""Makes MatMul(x, W) + b one Gemm where x is a matrix, W a constant matrix and b a constant row.

For rank 3 and more the pair is left: Gemm takes matrices only, the Reshapes around it would cost more than the bias,
and engines fuse the Add behind the MatMul.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import constant, is_op, only_user, require, skip_unless, sweep
from hwc.graph.model import Namer, make_node, opset, replace_nodes
from hwc.passes.base import PassContext, PassReport


def recompose_gemm(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    rule = partial(_recompose, namer=Namer(model), version=opset(model))
    count = sweep(model, ("MatMul",), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _recompose(node: ir.Node, *, namer: Namer, version: int) -> None:
    x, weight = node.inputs
    assert x is not None
    skip_unless(weight is not None and (weight.is_initializer() or is_op(weight.producer(), "Constant")))
    skip_unless(x.shape is not None and len(x.shape) == 2)
    add = only_user(node.outputs[0])
    skip_unless(is_op(add, "Add"))
    bias = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
    columns = constant(weight, "the weight").shape
    skip_unless(len(columns) == 2)
    row = constant(bias, "the bias")
    # Up to opset 6 Gemm needs an attribute for what is now the rule, a bias that broadcasts.
    require(version >= 7, f"Gemm broadcasts its bias from opset 7 on, the model has {version}")
    require(row.ndim <= 2 and row.size in (1, columns[1]), "the bias is not a row")
    require(row.ndim < 2 or row.shape[0] == 1, "the bias is not a row")
    skip_unless(node.outputs[0].dtype is not None and node.outputs[0].dtype.is_floating_point())
    gemm = make_node(
        "Gemm",
        [x, weight, bias],
        name=namer.fresh(f"{node.name}_gemm"),
        outputs=[namer.fresh(f"{add.outputs[0].name}_gemm")],
        dtype=add.outputs[0].dtype,
        shapes=[add.outputs[0].shape],
    )
    replace_nodes([node, add], [gemm], {add.outputs[0]: gemm.outputs[0]})
