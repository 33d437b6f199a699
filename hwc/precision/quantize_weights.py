"""Turns constant weights into int8: symmetric, one scale per output channel, zero point 0.

    scale = max |w| / 127 (float32), q = clamp(round_half_even(w / scale), -127, 127)

Each channel then holds an element of magnitude 127, so an engine that calibrates the dequantized weights by their
maximum (TensorRT's implicit mode) finds the same scale and the same integers again. With `rules.pair_limit` the scale
and the rounding of convolutions and products follow `limit_pairs`; depthwise kernels have no pairs and are spared.
A channel of zeros gets scale 1: harmless and legal. Two nodes that read one weight along different axes get one scale
for the whole of it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.artifacts import FusionGroup
from hwc.errors import InternalError
from hwc.graph.match import attribute, is_op
from hwc.graph.model import constant_array
from hwc.precision.integer_flow import WEIGHTED, IntegerFlow, weight_axis
from hwc.precision.limit_pairs import limit_pairs, pair_scale
from hwc.precision.plan import QuantPoint, QuantRules, QuantWeight


def quantize_weights(
    model: ir.Model, groups: tuple[FusionGroup, ...], points: tuple[QuantPoint, ...], rules: QuantRules
) -> dict[str, QuantWeight]:
    """Initializer name -> its integers, for every weighted node whose data arrives as integers.

    Args:
        points: of `find_points` on the same model; a group that was put back reads no integers, so its weight stays.
    """
    readers = weight_readers(model, points)
    return {name: quantize_weight(nodes, rules) for name, nodes in readers.items()}


def weight_readers(
    model: ir.Model, points: tuple[QuantPoint, ...], without: frozenset[str] = frozenset()
) -> dict[str, list[ir.Node]]:
    """Initializer name -> the nodes that read it as an integer weight, both in graph order.

    Args:
        without: names of nodes that were put back, although a carrier may hand integers to their neighbours.
    """
    flow = IntegerFlow(model, points)
    readers: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        if not is_op(node, *WEIGHTED) or len(node.inputs) < 2 or node.name in without:
            continue
        weight = node.inputs[1]
        if weight is not None and weight.is_initializer() and not weight.is_graph_input() and flow.is_integer(node, 0):
            readers.setdefault(str(weight.name), []).append(node)
    return readers


def quantize_weight(nodes: list[ir.Node], rules: QuantRules) -> QuantWeight:
    """Integers of the weight (input 1) that all of `nodes` read.

    Raises:
        InternalError: the weight is not a finite constant; `find_points` does not let such a one through.
    """
    array = constant_array(nodes[0].inputs[1])
    if array is None or not np.isfinite(array).all():
        raise InternalError(f"the weight of '{nodes[0].name}' is no finite constant", where="quantize_weights")
    axes = {weight_axis(node) for node in nodes}
    axis = axes.pop() if len(axes) == 1 else None
    paired = [node for node in nodes if has_pairs(node, rules)] if rules.pair_limit is not None else []
    scale = channel_scale(array, axis, paired, rules)
    return QuantWeight(round_weight(array, scale, axis, paired, rules), scale, axis)


def channel_scale(
    array: np.ndarray, axis: int | None, paired: list[ir.Node], rules: QuantRules
) -> np.ndarray:
    """float32 scales, one per channel of `axis` (shape () without an axis); 1 where all weights are zero."""
    other = tuple(i for i in range(array.ndim) if i != axis)
    scale = np.abs(array.astype(np.float64)).max(axis=other) / rules.weight_max
    for node in paired:
        assert rules.pair_limit is not None
        rows = pair_scale(pair_rows(array, node, rules), rules.pair_limit, rules.weight_max)
        scale = np.maximum(scale, rows.max() if axis is None else rows)
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    # A weight of 1e-45 would give scale 0 in float32.
    return np.asarray(np.maximum(scale, np.finfo(np.float32).tiny), np.float32)


def round_weight(
    array: np.ndarray, scale: np.ndarray, axis: int | None, paired: list[ir.Node], rules: QuantRules
) -> np.ndarray:
    """int8 of the weight's shape: round half to even in float32, as every engine does, then the limit on pairs."""
    exact = array.astype(np.float32) / spread(scale, axis, array.ndim)
    integers = np.clip(np.rint(exact), -rules.weight_max, rules.weight_max).astype(np.int8)
    for node in paired:
        assert rules.pair_limit is not None
        rows = limit_pairs(pair_rows(integers, node, rules), pair_rows(exact, node, rules), rules.pair_limit)
        integers = from_pair_rows(rows, node, rules, integers.shape)
    return integers


def spread(scale: np.ndarray, axis: int | None, rank: int) -> np.ndarray:
    """The scale in a shape that multiplies with a weight of that rank."""
    return scale.reshape([-1 if i == axis else 1 for i in range(rank)]) if axis is not None else scale.reshape(())


def has_pairs(node: ir.Node, rules: QuantRules | None = None) -> bool:
    """Whether the kernel adds adjacent products: all but depthwise ones, and single channels taken in blocks.

    Args:
        rules: of the engine; None stands for one that takes channels in blocks (oneDNN).
    """
    weight = constant_array(node.inputs[1])
    assert weight is not None
    group = int(attribute(node, "group", 1))
    if node.op_type == "ConvTranspose":
        return bool(group == 1 and weight.shape[0] > 1)  # grouped ones have float kernels only
    if node.op_type == "Conv" and weight.shape[1] == 1:
        return bool(_is_flat(node, rules) and weight.shape[0] != group)
    return True


def _is_flat(node: ir.Node, rules: QuantRules | None) -> bool:
    # oneDNN too unrolls patches where a grouped convolution does not fit its blocks of channels.
    unrolled = rules is not None and rules.pair_flat
    return node.op_type == "Conv" and (unrolled or int(attribute(node, "group", 1)) > 1)


def pair_rows(array: np.ndarray, node: ir.Node, rules: QuantRules | None = None) -> np.ndarray:
    """The weight as (output channels, elements that pair up along this axis, independent positions).

    Args:
        rules: as in `has_pairs`.
    """
    if node.op_type == "Conv":
        rows = array.reshape(array.shape[0], array.shape[1], -1)
        return rows.transpose(0, 2, 1).reshape(len(rows), -1, 1) if _is_flat(node, rules) else rows
    if node.op_type == "ConvTranspose":
        return array.reshape(array.shape[0], array.shape[1], -1).transpose(1, 0, 2)
    if node.op_type == "Gemm":
        return (array if attribute(node, "transB", 0) else array.T)[:, :, None]
    # MatMul: (..., inputs, outputs); leading axes are products of their own, so they count as positions.
    moved = array.reshape(-1, *array.shape[-2:]) if array.ndim > 1 else array.reshape(1, -1, 1)
    return moved.transpose(2, 1, 0)


def from_pair_rows(rows: np.ndarray, node: ir.Node, rules: QuantRules | None, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pair_rows`."""
    if node.op_type == "Conv":
        if _is_flat(node, rules):
            rows = rows.reshape(shape[0], -1, shape[1]).transpose(0, 2, 1)
        return rows.reshape(shape)
    if node.op_type == "ConvTranspose":
        return rows.transpose(1, 0, 2).reshape(shape)
    if node.op_type == "Gemm":
        return rows[:, :, 0] if attribute(node, "transB", 0) else rows[:, :, 0].T
    return rows.transpose(2, 1, 0).reshape(shape)
