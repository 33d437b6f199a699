"""What all calibrators share: the signature, and the expected error of a quantizer on a histogram.

A calibrator answers with amax; the scale is amax / levels, with 127 levels for int8 (-127..127, zero point 0) and 255
for uint8. Calibrators see |x|: int8's extra level -128 is not counted on.

Error of the quantizer with step s and `levels` levels, values taken as evenly spread inside each bin:

    rounding, bin inside the range:   integral of (x - s round(x / s))^2 = F(high) - F(low),
                                      F(x) = s^3 (n / 12 + (x / s - n)^3 / 3),  n = round(x / s)
    clipping, bin above it:           integral of (x - levels s)^2

each times count / bin width, summed, over the number of elements. Exact zeros cost nothing. F is the closed integral,
so a bin wider than a step is judged rightly where its centre alone would not be.

Limit: values that sit on a few points are seen with the uncertainty of one bin, width^2 / 12.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hwc.calibrate.tensor_statistics import TensorStatistics
from hwc.errors import UsageError

INT8_LEVELS = 127
UINT8_LEVELS = 255
_BLOCK = 8  # candidates evaluated together; their arrays fit the cache


class Calibrator(Protocol):
    """Chooses the range of one tensor from its statistics."""

    def __call__(self, statistics: TensorStatistics, *, levels: int, unsigned: bool) -> float:
        """amax > 0, not above the largest |x|; 0.0 for a tensor that is all zero.

        Args:
            levels: the largest integer, 127 or 255.
            unsigned: whether the integers start at 0; then no value may be negative.
        """


def check_request(statistics: TensorStatistics, levels: int, unsigned: bool) -> None:
    """Raises UsageError for a tensor without elements, or for unsigned integers where values are negative."""
    if not statistics.count:
        raise UsageError("a tensor without elements cannot be calibrated", do="feed data that is not empty")
    if levels < 1:
        raise UsageError("a quantizer needs at least one level", got=str(levels))
    if unsigned and statistics.min < 0:
        raise UsageError(
            "unsigned integers were asked for a tensor that is negative", expected="min >= 0",
            got=f"min {statistics.min:.6g}",
        )  # fmt: skip


def expected_error(statistics: TensorStatistics, amax: np.ndarray | float, levels: int) -> np.ndarray:
    """Mean squared error over all elements for each candidate range.

    Args:
        amax: positive candidates, any shape.

    Returns:
        float64 of that shape, in units of x squared.
    """
    candidates = np.asarray(amax, np.float64)
    low, high, counts = statistics.histogram.filled()
    if not low.size:
        return np.zeros(candidates.shape)
    # In units of the largest value, so that nothing under- or overflows.
    unit = statistics.amax
    is_point = high <= low  # the largest value lies on an edge
    spread = np.where(is_point, 1.0, (high - low) / unit)
    density = np.where(is_point, 0.0, counts / spread)
    # A bin's high edge is its neighbour's low edge: F is evaluated once per edge, with the step in density there.
    edges, at = np.unique(np.concatenate([low, high]), return_inverse=True)
    jumps = np.bincount(at, np.concatenate([-density, density]))
    errors = np.empty(candidates.size)
    for start in range(0, candidates.size, _BLOCK):
        step = candidates.reshape(-1, 1)[start : start + _BLOCK] / unit / levels
        total = (_integral(edges / unit / step, levels) @ jumps) * step[:, 0] ** 3
        if is_point.any():
            point = high[is_point] / unit
            total += (point - step * np.minimum(np.rint(point / step), levels)) ** 2 @ counts[is_point]
        errors[start : start + _BLOCK] = np.maximum(total, 0.0)
    return errors.reshape(candidates.shape) * (unit * unit) / statistics.count


def _integral(u: np.ndarray, levels: int) -> np.ndarray:
    """Integral from 0 to u of (t - min(round(t), levels))^2 dt, for u >= 0."""
    n = np.minimum(np.rint(u), levels)
    rest = u - n
    return n / 12.0 + rest * rest * rest / 3.0
