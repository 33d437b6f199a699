"""What one pass over the data leaves of a tensor, and the running state that makes it.

Per tensor: number of elements, min, max, sum, sum of squares, number of negative elements, the histogram of |x|, and,
if asked for, sum and largest magnitude per channel. The state has a fixed size, so memory does not grow with samples.

Elements are read in float32 and in pieces that stay in the cache; each piece is scaled by a power of two (exact) so
that its integer part is the bin, which `np.bincount` counts several times faster than `np.histogram` would. Sums are
float32 pairwise inside a row or a piece and float64 across: about 1e-6 relative. Counts, min and max are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwc.calibrate.histogram import BINS, Histogram, empty_histogram, exponent_of, merge_histograms, merge_pairs
from hwc.errors import InternalError, UsageError

_PIECE = 1 << 16  # elements; float32 and int64 copies of it fit the second-level cache
_SAFE_SUM = 1e25  # above this a float32 sum over a row could overflow


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """Statistics of one tensor over all samples.

    Args:
        samples: inferences seen.
        count: elements seen in them.
        sum, sum_squares: of the elements, float64.
        negative: number of elements below zero.
        histogram: of |x|.
        channel_axis: axis of the per-channel figures; None where there are none.
        channel_count: elements per channel.
        channel_sum: float64 [channels].
        channel_amax: float64 [channels], largest |x|.
    """

    samples: int
    count: int
    min: float
    max: float
    sum: float
    sum_squares: float
    negative: int
    histogram: Histogram
    channel_axis: int | None = None
    channel_count: int = 0
    channel_sum: np.ndarray | None = None
    channel_amax: np.ndarray | None = None

    @property
    def amax(self) -> float:
        return self.histogram.amax

    @property
    def mean(self) -> float:
        return self.sum / self.count

    @property
    def variance(self) -> float:
        return max(0.0, self.sum_squares / self.count - self.mean**2)

    @property
    def fraction_negative(self) -> float:
        return self.negative / self.count

    @property
    def fraction_zero(self) -> float:
        return self.histogram.zeros / self.count

    @property
    def channel_mean(self) -> np.ndarray:
        """float64 [channels].

        Raises:
            InternalError: none were collected for this tensor.
        """
        if self.channel_sum is None:
            raise InternalError("no per-channel statistics were collected for this tensor")
        return self.channel_sum / self.channel_count


def merge_statistics(first: TensorStatistics, second: TensorStatistics) -> TensorStatistics:
    """The statistics of two tensors taken as one, as for the inputs of a Concat; without per-channel figures."""
    return TensorStatistics(
        samples=max(first.samples, second.samples),
        count=first.count + second.count,
        min=min(first.min, second.min),
        max=max(first.max, second.max),
        sum=first.sum + second.sum,
        sum_squares=first.sum_squares + second.sum_squares,
        negative=first.negative + second.negative,
        histogram=merge_histograms(first.histogram, second.histogram),
    )


def statistics_of(array: np.ndarray, channel_axis: int | None = None) -> TensorStatistics:
    """The statistics of one array, as one sample."""
    accumulator = Accumulator("array", channel_axis)
    accumulator.add(array, 0)
    return accumulator.finish()


class Accumulator:
    """The running state of one tensor; `start` continues from finished statistics."""

    def __init__(self, name: str, channel_axis: int | None, start: TensorStatistics | None = None) -> None:
        self.name = name
        self._axis = channel_axis
        begin = start or TensorStatistics(0, 0, float("inf"), float("-inf"), 0.0, 0.0, 0, empty_histogram())
        self._samples, self._count, self._min, self._max = begin.samples, begin.count, begin.min, begin.max
        self._sum, self._squares, self._negative = begin.sum, begin.sum_squares, begin.negative
        self._counts, self._exponent = begin.histogram.counts.copy(), begin.histogram.exponent
        self._zeros, self._amax = begin.histogram.zeros, begin.histogram.amax
        self._channel_count = begin.channel_count
        self._channel_sum, self._channel_amax = begin.channel_sum, begin.channel_amax

    def add(self, array: np.ndarray, sample: int) -> None:
        """Takes in the tensor's value in one inference.

        Raises:
            UsageError: not numbers, not finite, or another number of channels than before. The state is unchanged.
        """
        if array.dtype.kind not in "fiu":
            raise UsageError(f"tensor '{self.name}' holds no numbers to calibrate", got=str(array.dtype))
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is refused below
            values = np.ascontiguousarray(array, np.float32)
        self._samples += 1
        if not values.size:
            return
        rows = self._rows(values, sample)
        low, high = rows.min(axis=2), rows.max(axis=2)
        smallest, largest = float(low.min()), float(high.max())
        if not (np.isfinite(smallest) and np.isfinite(largest)):
            self._samples -= 1
            raise _not_finite(self.name, values, sample)
        self._min, self._max = min(self._min, smallest), max(self._max, largest)
        self._add_sums(rows, low, high)
        self._grow(max(-smallest, largest))
        self._add_pieces(values.reshape(-1), smallest)
        self._count += values.size

    def finish(self) -> TensorStatistics:
        """The statistics so far; the state may go on."""
        return TensorStatistics(
            samples=self._samples,
            count=self._count,
            min=self._min,
            max=self._max,
            sum=self._sum,
            sum_squares=self._squares,
            negative=self._negative,
            histogram=Histogram(self._counts.copy(), self._exponent, self._zeros, self._amax),
            channel_axis=None if self._channel_sum is None else self._axis,
            channel_count=self._channel_count,
            channel_sum=self._channel_sum,
            channel_amax=self._channel_amax,
        )

    def _rows(self, values: np.ndarray, sample: int) -> np.ndarray:
        """A view [before, channels, after] around the channel axis; one channel where none is asked for."""
        if self._axis is None:
            return values.reshape(1, 1, -1)
        channels = values.shape[self._axis] if values.ndim > self._axis else 0
        if not channels or (self._channel_sum is not None and self._channel_sum.size != channels):
            self._samples -= 1
            raise UsageError(
                f"tensor '{self.name}' has another number of channels in sample {sample}",
                expected=f"{self._channel_sum.size if self._channel_sum is not None else 'some'} on axis {self._axis}",
                got=f"shape {list(values.shape)}",
                do="leave it out of the tensors whose channels are asked for",
            )
        before = int(np.prod(values.shape[: self._axis], dtype=np.int64))
        return values.reshape(before, channels, -1)

    def _add_sums(self, rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        wide = max(-float(low.min()), float(high.max())) > _SAFE_SUM
        sums = rows.sum(axis=2, dtype=np.float64 if wide else np.float32).astype(np.float64).sum(axis=0)
        self._sum += float(sums.sum())
        if self._axis is None:
            return
        amax = np.maximum(-low.min(axis=0), high.max(axis=0)).astype(np.float64)
        # New arrays, never in place: finished statistics may hold the old ones.
        self._channel_sum = sums if self._channel_sum is None else self._channel_sum + sums
        self._channel_amax = amax if self._channel_amax is None else np.maximum(self._channel_amax, amax)
        self._channel_count += rows.shape[0] * rows.shape[2]

    def _grow(self, amax: float) -> None:
        self._amax = max(self._amax, amax)
        exponent = exponent_of(self._amax)
        if exponent > self._exponent:
            self._counts = merge_pairs(self._counts, exponent - self._exponent)
            self._exponent = exponent

    def _add_pieces(self, flat: np.ndarray, smallest: float) -> None:
        per_unit = np.float32(BINS * 2.0**-self._exponent)
        unit = float(per_unit) ** -2
        scaled = np.empty(min(_PIECE, flat.size), np.float32)
        bins = np.empty(scaled.size, np.intp)
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE]
            u, k = scaled[: piece.size], bins[: piece.size]
            if smallest < 0:
                self._negative += int(np.count_nonzero(piece < 0))
            zeros = piece.size - int(np.count_nonzero(piece != 0))
            np.abs(piece, out=u)
            np.multiply(u, per_unit, out=u)
            self._squares += float(np.dot(u, u)) * unit
            np.copyto(k, u, casting="unsafe")
            self._counts += np.bincount(k, minlength=BINS)
            self._counts[0] -= zeros
            self._zeros += zeros


def _not_finite(name: str, values: np.ndarray, sample: int) -> UsageError:
    nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    return UsageError(
        f"tensor '{name}' is not finite in sample {sample}",
        got=f"{nan} NaN and {infinite} infinite of {values.size} elements",
        do="check that sample and its preprocessing; a model that overflows on sound data cannot be quantized",
    )
