"""Puts the operands of Add and Mul, which commute exactly, in one order.

1. a computed value stands before a constant
2. of two computed values, one with the shape of the result stands before one that is broadcast to it
3. of two such, the result of a Conv, ConvTranspose, Gemm or MatMul that nothing else reads stands first:
   Add(conv, skip), the residual Add that engines fuse behind that Conv
4. where that decides nothing, the value that is made later stands first: it is the one that is still at hand

so that a fusion group has one pattern to know, and equal networks print alike. Runs behind the folding of
BatchNormalization, which stands between Conv and Add in a file as exported.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import is_op, skip_unless, sweep
from hwc.graph.model import constant_array
from hwc.passes.base import PassContext, PassReport

_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def canonicalize_operand_order(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the order."""
    misses: list[NearMiss] = []
    order = {node: index for index, node in enumerate(model.graph.all_nodes())}
    count = sweep(model, ("Add", "Mul"), partial(_swap, order=order), misses=misses)
    return PassReport(count, tuple(misses))


def _swap(node: ir.Node, *, order: dict[ir.Node, int]) -> None:
    first, second = node.inputs
    assert first is not None and second is not None
    result = node.outputs[0]
    skip_unless(_rank(second, result, order) > _rank(first, result, order))
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)


def _rank(value: ir.Value, result: ir.Value, order: dict[ir.Node, int]) -> tuple[bool, bool, bool, int]:
    """The higher of two stands first."""
    if constant_array(value) is not None:
        return (False, False, False, 0)
    is_full = value.shape is None or result.shape is None or list(value.shape) == list(result.shape)
    maker = value.producer()
    if maker is None:
        return (True, is_full, False, -1)
    is_fusible = is_op(maker, *_HEAVY) and len(value.uses()) == 1 and not value.is_graph_output()
    return (True, is_full, is_fusible, order[maker])
