"""Reshapes and transposes, normalizations over maps, Pad, and Q/DQ nodes: what breaks a network apart most often."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.finding import Finding, Judge

SHUFFLES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
NORMALIZATIONS = ("InstanceNormalization", "GroupNormalization", "LayerNormalization", "LpNormalization",
                  "MeanVarianceNormalization", "RMSNormalization")


def check_shuffle(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A reshape or transpose."""
    yield from Judge(node, board).allowed(
        "shuffle.operator", "dla.shuffle", expected="no reshape or transpose", got=node.op_type,
        rewrite="gemm" if _feeds_gemm(node) else "",
    )


def check_normalization(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A normalization whose statistics are computed from its input."""
    yield Judge(node, board).find(
        "normalization.operator", "dla.layer_types", expected="BatchNormalization with constant statistics",
        got=node.op_type, rewrite="batch norm",
    )


def check_pad(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A Pad that no pass could fold."""
    yield Judge(node, board).find(
        "pad.operator", "dla.layer_types", expected="padding as part of a Conv or pool", got="Pad", rewrite="pad"
    )


def check_quantize(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A QuantizeLinear or DequantizeLinear."""
    if board.names("dla.explicit_quantization") != ("yes",):
        yield Judge(node, board).find(
            "quantize.explicit", "dla.explicit_quantization", expected="scales outside the graph",
            got=f"{node.op_type} under TensorRT {board.tensorrt}", rewrite="calibration cache",
        )


def _feeds_gemm(node: ir.Node) -> bool:
    return any(use.node.op_type in ("Gemm", "MatMul") for value in node.outputs for use in value.uses())
