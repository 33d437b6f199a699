"""Softmax (never on Xavier) and local response normalization."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.finding import Finding, Judge
from hwc.dla.tensors import batch_of, static_dims
from hwc.graph.match import attribute

_SOFTMAX = "dla.softmax"


def check_softmax(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A Softmax of rank 4 with static shapes."""
    judge = Judge(node, board)
    if board.fact(_SOFTMAX).value is not True:
        yield judge.find(
            "softmax.generation", _SOFTMAX, expected="NVDLA 2.0 (Orin)", got=f"NVDLA {board.generation}",
            rewrite="softmax outside",
        )
        return
    dims = static_dims(node.inputs[0]) or ()
    axis = int(attribute(node, "axis", -1)) % 4
    is_alone = all(dim == 1 for i, dim in enumerate(dims) if i not in (0, axis))
    fact = "dla.softmax_axis_max" if is_alone else "dla.softmax_axis_wide_max"
    if axis == 0:
        yield judge.find("softmax.axis", _SOFTMAX, expected="channels, height or width", got="the batch")
    yield from judge.beyond("softmax.size", fact, (dims[axis],), low=1, what="an axis of", rewrite="softmax outside")
    if batch_of(node.inputs[0]) > 1:
        yield judge.find(
            "softmax.batch", _SOFTMAX, kind="unsure", expected="batch 1 by the guide of TensorRT 8.4",
            got=f"batch {batch_of(node.inputs[0])}",
        )


def check_lrn(node: ir.Node, board: Board) -> Iterator[Finding]:
    """An LRN, which is always across channels in ONNX."""
    windows = board.names("dla.lrn_windows")
    if str(attribute(node, "size")) not in windows:
        yield Judge(node, board).find(
            "lrn.window", "dla.lrn_windows", expected=", ".join(windows), got=str(attribute(node, "size"))
        )
