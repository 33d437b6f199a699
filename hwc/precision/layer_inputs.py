"""What a weighted node multiplies its weight with, as rows of a matrix: y = W x for Conv, Gemm and MatMul alike.

A convolution's row is one window: the input channels of a group times the positions of the kernel, in the order of the
weight. Only a sample of the windows is taken, since neighbours say nearly the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.graph.match import attribute
from hwc.precision.torch_layers import pad_constant, window_of

Tensor = Any


def has_rows(node: ir.Node) -> bool:
    """Whether the node is one of those below: a ConvTranspose scatters its windows, a stack of MatMuls has no one W."""
    rank = len(node.inputs[1].shape or ()) if node.inputs[1] is not None else 0
    plain = not attribute(node, "transA", 0) and attribute(node, "alpha", 1.0) == 1.0 == attribute(node, "beta", 1.0)
    return node.op_type == "Conv" or (node.op_type == "Gemm" and plain) or (node.op_type == "MatMul" and rank == 2)


def weight_rows(array: np.ndarray, node: ir.Node) -> np.ndarray:
    """(groups, rows, columns): the weight as W of y = W x."""
    if node.op_type == "Conv":
        group = int(attribute(node, "group", 1))
        return array.reshape(group, array.shape[0] // group, -1)
    return (array if node.op_type == "Gemm" and attribute(node, "transB", 0) else array.T)[None]


def weight_from_rows(rows: np.ndarray, node: ir.Node, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `weight_rows`."""
    if node.op_type == "Conv":
        return rows.reshape(shape)
    return rows[0] if node.op_type == "Gemm" and attribute(node, "transB", 0) else rows[0].T


def channel_axis(node: ir.Node) -> int:
    """The axis of output channels in a weighted node's result."""
    return 1 if node.op_type in ("Conv", "ConvTranspose") else -1


def own_bias(node: ir.Node) -> ir.Value | None:
    """The vector that is added to the node's result alone, and may be changed: its bias, or an Add behind a MatMul."""
    bias = node.inputs[2] if len(node.inputs) > 2 and node.op_type != "MatMul" else None
    if node.op_type == "MatMul" and not node.outputs[0].is_graph_output():
        followers = [use.node for use in node.outputs[0].uses()]
        if len(followers) == 1 and followers[0].op_type == "Add" and len(set(followers[0].inputs)) == 2:
            bias = next(value for value in followers[0].inputs if value is not node.outputs[0])
    result = node.outputs[0].shape
    if bias is None or not bias.is_initializer() or bias.is_graph_input() or len(bias.uses()) != 1 or result is None:
        return None
    if node.op_type == "Gemm" and attribute(node, "beta", 1.0) != 1.0:
        return None
    is_vector = bias.shape is not None and len(bias.shape) == 1 and bias.shape[0] == result[channel_axis(node)]
    return bias if is_vector else None


def partner_columns(node: ir.Node, shape: tuple[int, ...], pairs: np.ndarray) -> np.ndarray:
    """int64 (columns,): the earlier column of W that shares a bounded sum with this one, or -1.

    Args:
        pairs: (pairs, 2), flat positions in the weight; alike in every row.
    """
    first = weight_rows(np.arange(int(np.prod(shape))).reshape(shape), node)[0, 0]
    column = np.full(int(np.prod(shape)), -1)
    column[first] = np.arange(first.size)
    ends = column[pairs[(column[pairs] >= 0).all(axis=1)]]
    partner = np.full(first.size, -1)
    partner[ends.max(axis=1)] = ends.min(axis=1)
    return partner


def input_rows(
    node: ir.Node, shape: tuple[int, ...], inputs: Sequence[Tensor], most: int, generator: Any
) -> list[Tensor]:
    """(windows, groups, columns) of at most `most` windows, the same ones of each of `inputs`.

    Args:
        shape: of the weight.
        inputs: values of the node's data input; all of one shape.
        generator: torch.Generator that picks the windows, without repetition.
    """
    import torch

    if node.op_type != "Conv":
        stacked = [x.reshape(-1, x.shape[-1]) for x in inputs]
        picked = torch.randperm(stacked[0].shape[0], generator=generator)[:most]
        return [rows[picked].unsqueeze(1) for rows in stacked]
    rank, kernel = inputs[0].dim() - 2, list(shape[2:])
    given = {name: attribute(node, name) for name in ("strides", "dilations", "pads", "auto_pad")}
    given = {name: value for name, value in given.items() if value is not None}
    strides, dilations, front, back = window_of(given, inputs[0], kernel)
    group, picked, found = int(attribute(node, "group", 1)), None, []
    for x in inputs:
        x = pad_constant(x, front, back, 0.0)
        for i in range(rank):  # each unfold is a view that moves the window to a new last axis
            x = x.unfold(2 + i, (kernel[i] - 1) * dilations[i] + 1, strides[i])
        counts = [x.shape[0], *x.shape[2 : 2 + rank]]
        if picked is None:
            picked = torch.randperm(int(np.prod(counts)), generator=generator)[:most].numpy()
        index = tuple(torch.from_numpy(part) for part in np.unravel_index(picked, counts))
        windows = x.movedim(1, 1 + rank)[index]
        for i in range(rank):
            windows = windows[(slice(None),) * (2 + i) + (slice(None, None, dilations[i]),)]
        found.append(windows.reshape(windows.shape[0], group, -1))
    return found
