"""Arithmetic of two tensors (ElementWise) and of a tensor with a constant (Scale, BatchNormalization); Abs.

Scale takes one number, one per channel, or one per element of a map, and only scales and shifts. Two tensors of one
shape are ElementWise; in INT8 both must have one scale.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.finding import Finding, Judge
from hwc.dla.rules.scales import check_equal_scales
from hwc.dla.tensors import computed_inputs, constant_inputs, static_dims

_OPS = "dla.elementwise_ops"
_SCALES = ("Add", "Sub", "Mul", "Div")


def check_elementwise(node: ir.Node, board: Board) -> Iterator[Finding]:
    """Arithmetic of rank 4 with static shapes."""
    judge = Judge(node, board)
    computed, constants = computed_inputs(node), constant_inputs(node)
    is_scale = len(computed) == 1 and len(constants) == 1 and node.op_type in _SCALES
    if is_scale and node.op_type == "Div" and node.inputs[1] is constants[0]:
        return  # TensorRT folds a division by a constant into a scale
    if node.op_type not in board.names(_OPS) and not (is_scale and node.op_type != "Div"):
        yield judge.find(
            "elementwise.operator", _OPS, expected=", ".join(board.names(_OPS)), got=node.op_type,
            rewrite="divide" if node.op_type == "Div" and constants else "",
        )
        return
    if is_scale:
        yield from _check_scale(judge, constants[0])
        return
    if node.op_type == "Pow" and len(constants) != 1:
        yield judge.find("elementwise.pow", _OPS, expected="exactly one constant", got=f"{len(constants)}")
    if node.op_type == "Sub" and board.generation == "1.0":
        yield judge.find(
            "elementwise.sub", _OPS, kind="condition", expected="Sub as Scale and Sum", got="two layers instead of one"
        )
    shapes = {static_dims(value) for value in computed}
    if len(shapes) > 1:
        yield from judge.allowed(
            "elementwise.broadcast", "dla.elementwise_broadcast", expected="operands of one shape",
            got=" and ".join("x".join(map(str, shape or ())) for shape in sorted(shapes, key=str)),
        )
    if len(computed) > 1:
        yield from check_equal_scales(judge, computed)


def check_batchnorm(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A BatchNormalization, which is a Scale per channel if its statistics are constants."""
    if len(computed_inputs(node)) > 1:
        yield Judge(node, board).find(
            "scale.constant", "dla.layer_types", expected="constant statistics", got="statistics that are computed"
        )


def check_unary(node: ir.Node, board: Board) -> Iterator[Finding]:
    """Functions of one tensor that are no activations."""
    allowed = board.names("dla.unary_ops")
    if node.op_type not in allowed:
        yield Judge(node, board).find(
            "unary.operator", "dla.unary_ops", expected=", ".join(allowed), got=node.op_type
        )


def _check_scale(judge: Judge, constant: ir.Value) -> Iterator[Finding]:
    result = static_dims(judge.node.outputs[0]) or ()
    dims = static_dims(constant) or ()
    aligned = (1,) * (len(result) - len(dims)) + dims
    is_uniform = all(dim == 1 for dim in aligned)
    is_per_channel = aligned[1:] == (result[1], 1, 1) and aligned[0] == 1
    is_per_element = aligned[1:] == result[1:] and aligned[0] == 1
    if not (is_uniform or is_per_channel or is_per_element):
        yield judge.find(
            "scale.shape", "dla.layer_types", expected="one number, one per channel, or one per element",
            got="x".join(str(dim) for dim in aligned),
        )
