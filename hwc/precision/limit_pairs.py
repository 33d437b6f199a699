"""Integers of a weight whose adjacent input channels never add up to more than a limit, on the finest such grid.

A CPU that multiplies with vpmaddubsw adds u8*s8 products of two adjacent input channels in 16 saturating bits. With
|a| + |b| <= 128 for each such pair (2k, 2k+1) at each spatial position no sum can saturate (255 * 128 < 2**15), so the
integer result is exact. The usual way out is 7 bits (|w| <= 64) for all; here only pairs that are both large cost:

    scale = max( max |w| / 127 , max over pairs (|a| + |b|) / 128 )        per output channel

After rounding, a pair may exceed the limit by one; then the element whose value lies nearer to the next smaller integer
moves there. Pairs are (0, 1), (2, 3), ... along the middle axis; the last of an odd number is alone.

Which elements a kernel pairs was seen on an AVX2 CPU by giving two weights 127 and all data 255: OpenVINO 2026.4 pairs
input channels 2k and 2k+1 at one kernel position in every convolution, transposed convolution and product; grouped
convolutions whose channels do not fill its blocks, and all convolutions of ONNX Runtime 1.32, pair neighbours in the
unrolled patch (position, channel); depthwise kernels pair nothing. Both are the same for an even number of channels.
"""

from __future__ import annotations

import numpy as np


def pair_scale(rows: np.ndarray, limit: int, largest: int) -> np.ndarray:
    """The finest scale of each row.

    Args:
        rows: float, (output channels, elements that pair up, independent positions).
        limit: largest |a| + |b| of a pair of integers.
        largest: largest magnitude of one integer.

    Returns:
        float64, one scale per output channel; 0 for a row of zeros.
    """
    size = np.abs(rows.astype(np.float64))
    single = size.max(axis=(1, 2), initial=0.0) / largest
    first, second = _split(size)
    return np.maximum(single, (first + second).max(axis=(1, 2), initial=0.0) / limit)


def limit_pairs(integers: np.ndarray, exact: np.ndarray, limit: int) -> np.ndarray:
    """Moves one element of each pair above `limit` towards zero, as often as needed.

    Args:
        integers: int, (output channels, elements that pair up, independent positions).
        exact: the same weights divided by the scale, before rounding.

    Returns:
        New integers of the same shape and dtype; every pair keeps the limit.
    """
    kept = integers.astype(np.int64)
    while True:
        first, second = _split(np.abs(kept))
        over = np.argwhere(first + second > limit)
        if not over.size:
            return kept.astype(integers.dtype)
        for row, pair, position in over:
            channels = [c for c in (2 * pair, 2 * pair + 1) if kept[row, c, position] != 0]
            # Cost of a step towards zero in squared error: the one that was rounded away from zero gains.
            costs = [_step_cost(kept[row, c, position], exact[row, c, position]) for c in channels]
            channel = channels[int(np.argmin(costs))]
            kept[row, channel, position] -= np.sign(kept[row, channel, position])


def exceeds(integers: np.ndarray, limit: int) -> int:
    """How many pairs of such an array are above the limit."""
    first, second = _split(np.abs(integers.astype(np.int64)))
    return int((first + second > limit).sum())


def _split(size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Even and odd elements; an odd count is filled up with a zero."""
    if size.shape[1] % 2:
        size = np.concatenate([size, np.zeros_like(size[:, :1])], axis=1)
    return size[:, 0::2], size[:, 1::2]


def _step_cost(integer: int, exact: float) -> float:
    step = integer - np.sign(integer)
    return float((step - exact) ** 2 - (integer - exact) ** 2)
