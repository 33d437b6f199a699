"""Counts of |x| over a range that grows by doubling, the same whatever order the values came in.

BINS bins cover [0, 2**exponent) in equal steps of width 2**exponent / BINS, where 2**exponent is the smallest power of
two above the largest |x| seen. When a larger value comes, pairs of neighbours are added up and the width doubles. As
every width is a power of two, |x| / width is exact in float32 and floor(|x| / 2w) = floor(floor(|x| / w) / 2): the
counts are those of one pass with the final range, for any order of samples and any split into batches. So histograms
also merge exactly. Exact zeros are counted apart: every scale represents them without error.

Limit: 4096 to 8192 bins lie below the largest value, 16 to 64 per step of a quantizer that spans it. Below
2**MIN_EXPONENT all values share the first bins; such a tensor is zero for any use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 8192
MIN_EXPONENT = -100  # keeps BINS / 2**exponent inside float32


def exponent_of(amax: float) -> int:
    """The smallest e >= MIN_EXPONENT with amax < 2**e; `amax` is finite and not negative."""
    return max(MIN_EXPONENT, int(np.frexp(amax)[1])) if amax else MIN_EXPONENT


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of nonzero |x|.

    Args:
        counts: int64 [BINS]; bin k holds k * width <= |x| < (k + 1) * width, exact zeros left out.
        exponent: the range ends at 2**exponent.
        zeros: number of exact zeros, of either sign.
        amax: the largest |x|; closes the last bin that is not empty.
    """

    counts: np.ndarray
    exponent: int
    zeros: int
    amax: float

    @property
    def width(self) -> float:
        return float(2.0**self.exponent) / BINS

    @property
    def nonzeros(self) -> int:
        return int(self.counts.sum())

    def filled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(low edges, high edges, counts) of the bins that hold something, float64; no edge lies above `amax`."""
        index = np.flatnonzero(self.counts)
        low = index * self.width
        high = np.minimum(low + self.width, self.amax)
        return low, high, self.counts[index].astype(np.float64)

    def coarsened(self, exponent: int) -> Histogram:
        """The same counts over the longer range that ends at 2**exponent."""
        return Histogram(merge_pairs(self.counts, exponent - self.exponent), exponent, self.zeros, self.amax)


def empty_histogram() -> Histogram:
    """No values at all."""
    return Histogram(np.zeros(BINS, np.int64), MIN_EXPONENT, 0, 0.0)


def merge_pairs(counts: np.ndarray, times: int) -> np.ndarray:
    """Adds up neighbours so that the range doubles `times` times; a new array of the same length."""
    merged = np.zeros_like(counts)
    group = 1 << min(times, BINS.bit_length() - 1)  # beyond that everything lies in bin 0 already
    summed = counts.reshape(-1, group).sum(axis=1)
    merged[: summed.size] = summed
    return merged


def merge_histograms(first: Histogram, second: Histogram) -> Histogram:
    """The histogram of both sets of values together."""
    exponent = max(first.exponent, second.exponent)
    counts = first.coarsened(exponent).counts + second.coarsened(exponent).counts
    return Histogram(counts, exponent, first.zeros + second.zeros, max(first.amax, second.amax))
