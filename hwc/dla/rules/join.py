"""Concatenation, slices and splits, resizes: layers that move data.

Concat joins channels of maps of one size, of at least two inputs; in INT8 all inputs and the output have one scale.
Slice is static, of four dimensions, with step 1, on newer TensorRT and in FP16 alone. Resize has whole factors.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.finding import Finding, Judge
from hwc.dla.rules.scales import check_equal_scales
from hwc.dla.tensors import static_dims
from hwc.graph.match import attribute
from hwc.graph.model import constant_array

CHANNELS = 1
_SLICE = "dla.slice_precisions"


def check_concat(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A Concat of rank 4 with static shapes."""
    judge = Judge(node, board)
    axis = int(attribute(node, "axis")) % 4
    if axis != CHANNELS:
        yield judge.find("concat.axis", "dla.concat_axis", expected="the channel axis", got=f"axis {axis}")
    if len(node.inputs) < 2:
        yield judge.find("concat.inputs", "dla.concat_axis", expected="at least two inputs", got=str(len(node.inputs)))
    constants = [value.name for value in node.inputs if value is not None and constant_array(value) is not None]
    if constants:
        yield judge.find(
            "concat.constant", "dla.concat_axis", expected="computed inputs", got=f"the constant '{constants[0]}'"
        )
    yield from check_equal_scales(judge, [*node.inputs, node.outputs[0]])


def check_slice(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A Slice or Split of rank 4 with static shapes."""
    judge = Judge(node, board)
    allowed = board.names(_SLICE)
    axes = _sliced_axes(node)
    rewrite = "select channels" if axes == {CHANNELS} else ""
    if board.precision.upper() not in allowed:
        yield judge.find(
            "slice.precision", _SLICE, expected=", ".join(allowed) or "no slices", got=board.precision.upper(),
            rewrite=rewrite,
        )
        return
    if axes is None:
        yield judge.find("slice.static", _SLICE, expected="constant bounds", got="computed ones")
    steps = constant_array(node.inputs[4]) if len(node.inputs) > 4 else None
    if steps is not None and np.any(steps != 1):
        yield judge.find("slice.step", _SLICE, expected="step 1", got=f"step {steps.reshape(-1).tolist()}")


def check_resize(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A Resize or Upsample of rank 4 with static shapes."""
    judge = Judge(node, board)
    mode = attribute(node, "mode", "nearest")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    fact = {"nearest": "dla.resize_nearest_max", "linear": "dla.resize_bilinear_max"}.get(mode)
    if fact is None:
        yield judge.find(
            "resize.mode", "dla.resize_nearest_max", expected="nearest or linear", got=str(mode), rewrite="nearest"
        )
        return
    x, y = static_dims(node.inputs[0]) or (), static_dims(node.outputs[0]) or ()
    if x[:2] != y[:2]:
        yield judge.find("resize.axes", fact, expected="height and width alone", got="a resize of batch or channels")
    if any(big % small for small, big in zip(x[2:], y[2:])):
        yield judge.find(
            "resize.factor", fact, expected="whole factors", got=f"{x[2]}x{x[3]} to {y[2]}x{y[3]}",
            rewrite="integer factor",
        )
        return
    factors = tuple(big // small for small, big in zip(x[2:], y[2:]))
    yield from judge.beyond("resize.factor", fact, factors, low=1, what="a factor of")


def _sliced_axes(node: ir.Node) -> set[int] | None:
    """The axes on which anything is left out; None where bounds are computed."""
    if node.op_type == "Split":
        return {int(attribute(node, "axis", 0)) % 4}
    if any(value is not None and constant_array(value) is None for value in node.inputs[1:]):
        return None
    x, y = static_dims(node.inputs[0]) or (), static_dims(node.outputs[0]) or ()
    return {axis for axis, (before, after) in enumerate(zip(x, y)) if before != after}
