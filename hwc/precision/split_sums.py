"""Splits a convolution's integer weight so that a float32 machine adds up each part without rounding.

A float32 holds every integer up to 2**24. Whatever the order of summation, each partial sum of x_q * w_q is at most
(sum of |w_q| of one output channel) * max |x_q|; a weight whose sums are within 2**24 / max |x_q| is therefore exact.
A larger one is cut along its input channels into parts within the bound: greedy, in order.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.graph.match import attribute


def channel_sums(size: np.ndarray, node: ir.Node) -> np.ndarray:
    """Sums of magnitudes, int64: (input channels of one group, output channels); a product has one row.

    Args:
        size: magnitudes of the weight, int64, of the weight's shape.
    """
    if node.op_type == "Conv":
        return np.asarray(size.reshape(*size.shape[:2], -1).sum(axis=2).T)
    if node.op_type == "ConvTranspose":
        group = int(attribute(node, "group", 1))
        rows = size.reshape(group, size.shape[0] // group, size.shape[1], -1).sum(axis=3)
        return np.asarray(rows.transpose(1, 0, 2).reshape(rows.shape[1], -1))
    axis = -1 if node.op_type == "Gemm" and attribute(node, "transB", 0) else -2
    return np.asarray(size.sum(axis=axis if size.ndim > 1 else 0).reshape(1, -1))


def split_sums(integers: np.ndarray, node: ir.Node, limit: int) -> list[np.ndarray]:
    """Weights of the same shape that add up to `integers`, each with sums of magnitudes within `limit`.

    Args:
        integers: weight of a Conv or ConvTranspose.
        limit: largest sum of magnitudes of one output channel; one input channel alone may exceed it and stays whole.
    """
    rows = channel_sums(np.abs(integers.astype(np.int64)), node)
    if int(rows.sum(axis=0).max(initial=0)) <= limit:
        return [integers]
    part, running, owner = 0, np.zeros_like(rows[0]), np.zeros(len(rows), np.int64)
    for channel, row in enumerate(rows):
        running = running + row
        if int(running.max()) > limit and channel:
            part, running = part + 1, row
        owner[channel] = part
    if node.op_type == "Conv":
        mask = owner.reshape(1, -1, *[1] * (integers.ndim - 2))
    else:
        mask = np.tile(owner, int(attribute(node, "group", 1))).reshape(-1, *[1] * (integers.ndim - 1))
    return [np.where(mask == index, integers, 0).astype(integers.dtype) for index in range(part + 1)]
