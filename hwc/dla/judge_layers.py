"""Asks each layer the rules of its family: may it run on DLA, and if not, why.

Every operator belongs to one family below; one that belongs to none is not listed by any source and falls back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.finding import Finding
from hwc.dla.rules import activation, conv, deconv, elementwise, general, join, pool, shuffle, softmax
from hwc.graph.match import is_op

Rule = Callable[[ir.Node, Board], Iterator[Finding]]

FAMILIES: dict[str, Rule] = {
    "Conv": conv.check_conv,
    **dict.fromkeys(general.MATRIX_OPS, conv.check_matrix),
    "ConvTranspose": deconv.check_deconv,
    **dict.fromkeys(("MaxPool", "AveragePool"), pool.check_pool),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2"),
        pool.check_reduce,
    ),
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh", "Clip", "LeakyRelu", "PRelu"), activation.check_activation),
    **dict.fromkeys(activation.UNLISTED, activation.check_activation),
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Pow", "Mod"), elementwise.check_elementwise
    ),
    "BatchNormalization": elementwise.check_batchnorm,
    **dict.fromkeys(
        ("Abs", "Exp", "Log", "Sqrt", "Neg", "Reciprocal", "Erf", "Sin", "Cos", "Tan", "Floor", "Ceil", "Round",
         "Sign"),
        elementwise.check_unary,
    ),
    "Concat": join.check_concat,
    **dict.fromkeys(("Slice", "Split"), join.check_slice),
    **dict.fromkeys(("Resize", "Upsample"), join.check_resize),
    "Softmax": softmax.check_softmax,
    "LRN": softmax.check_lrn,
    **dict.fromkeys(shuffle.SHUFFLES, shuffle.check_shuffle),
    **dict.fromkeys(shuffle.NORMALIZATIONS, shuffle.check_normalization),
    "Pad": shuffle.check_pad,
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), shuffle.check_quantize),
}
# These are refused whatever their shapes are, and the family says more than the rank does.
_REFUSED_FIRST = (*shuffle.SHUFFLES, *shuffle.NORMALIZATIONS, "Pad")


@dataclass(frozen=True)
class Verdict:
    """All findings about one layer."""

    node: str
    op_type: str
    findings: tuple[Finding, ...]

    @property
    def is_legal(self) -> bool:
        """Whether nothing blocks it; the best word for that is `likely`, until a board has built it."""
        return not any(finding.kind == "blocks" for finding in self.findings)

    @property
    def blocks(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.kind == "blocks")


def judge_layer(node: ir.Node, board: Board) -> Verdict:
    """The verdict about one layer; its values need shapes and types."""
    family = FAMILIES.get(node.op_type) if is_op(node, node.op_type) else None
    findings: tuple[Finding, ...] = ()
    if family is None:
        findings = tuple(general.check_unlisted(node, board))
    elif node.op_type in _REFUSED_FIRST or (node.op_type == "Softmax" and board.fact("dla.softmax").value is not True):
        findings = tuple(family(node, board))
    if not findings:
        findings = tuple(general.check_general(node, board))
    if not findings and family is not None:
        findings = tuple(family(node, board))
    return Verdict(str(node.name), node.op_type, findings)


def judge_layers(model: ir.Model, board: Board) -> tuple[Verdict, ...]:
    """One verdict per node of the main graph, in its order."""
    return tuple(judge_layer(node, board) for node in model.graph if node.op_type != "Constant")
