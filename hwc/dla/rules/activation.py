"""Activations: ReLU, clipped ReLU with an upper bound of 1 to 127, leaky ReLU, PReLU, Sigmoid, TanH."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.finding import Finding, Judge
from hwc.dla.rules.general import check_unlisted
from hwc.graph.match import attribute
from hwc.graph.model import constant_array

# Activations that no source lists, and what to do about each.
UNLISTED = {
    "HardSigmoid": "hard sigmoid", "HardSwish": "hard swish", "Elu": "relu", "Selu": "relu", "Celu": "relu",
    "Gelu": "relu", "Swish": "relu", "Mish": "relu", "Softplus": "relu", "Softsign": "relu", "ThresholdedRelu": "relu",
}  # fmt: skip


def check_activation(node: ir.Node, board: Board) -> Iterator[Finding]:
    """An activation of rank 4 with static shapes."""
    judge = Judge(node, board)
    if node.op_type not in board.names("dla.activation_ops"):
        yield from check_unlisted(
            node, board, fact="dla.activation_ops", rewrite=UNLISTED.get(node.op_type, "")
        )
        return
    if node.op_type == "Clip":
        yield from _check_clip(judge)
    if node.op_type == "PRelu" and constant_array(node.inputs[1]) is None:
        yield judge.find(
            "activation.slope", "dla.activation_ops", expected="a constant slope", got="a slope that is computed"
        )
    if node.op_type in ("Sigmoid", "Tanh") and board.is_int8:
        yield judge.find(
            "activation.int8", "dla.activation_ops", kind="condition", expected="FP16 for Sigmoid and TanH",
            got="INT8 asked; DLA computes it in FP16 by itself",
        )


def _check_clip(judge: Judge) -> Iterator[Finding]:
    low, high = read_clip(judge.node)
    smallest, largest = judge.board.number("dla.clip_upper_min"), judge.board.number("dla.clip_upper_max")
    if low is None or high is None:
        yield judge.find("activation.clip", "dla.clip_upper_max", expected="constant bounds", got="computed bounds")
    elif low != 0.0 or not (smallest <= high <= largest):
        is_exact = np.isfinite(low) and np.isfinite(high) and low < high
        yield judge.find(
            "activation.clip", "dla.clip_upper_max",
            expected=f"[0, b] with b in [{smallest:.0f}, {largest:.0f}]", got=f"[{low:g}, {high:g}]",
            rewrite="clip" if is_exact else "",
        )


def read_clip(node: ir.Node) -> tuple[float | None, float | None]:
    """The bounds of a Clip, infinite where absent, None where computed; attributes up to opset 10, inputs after."""
    bounds: list[float | None] = []
    for position, (name, missing) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        value = node.inputs[position] if len(node.inputs) > position else None
        if value is None:
            bounds.append(float(attribute(node, name, missing)))
            continue
        array = constant_array(value)
        bounds.append(float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None)
    return bounds[0], bounds[1]
