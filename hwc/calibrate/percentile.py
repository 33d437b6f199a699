"""The magnitude below which p percent of all elements lie: a fixed share of the data is clipped.

Zeros count as elements, as they do for the peers that offer a percentile. The value is read off the histogram, linear
inside the bin, so it is within one bin of the order statistic. Where more than p percent of the elements are zero the
percentile is 0, which is no range: it is then taken over the nonzero elements alone.

Limit: p knows nothing of the number of levels; the same p clips too much of one tensor and too little of another.
"""

from __future__ import annotations

import numpy as np

from hwc.calibrate.base import check_request
from hwc.calibrate.tensor_statistics import TensorStatistics
from hwc.errors import UsageError

DEFAULT_PERCENTILE = 99.99


def choose(
    statistics: TensorStatistics, *, levels: int, unsigned: bool, percentile: float = DEFAULT_PERCENTILE
) -> float:
    """The percentile of |x|.

    Args:
        percentile: above 0, at most 100 (which is max |x|).

    Raises:
        UsageError: another percentile, no elements, or negative ones where unsigned integers are asked for.
    """
    check_request(statistics, levels, unsigned)
    if not 0.0 < percentile <= 100.0:
        raise UsageError("a percentile lies above 0 and is at most 100", got=str(percentile))
    low, high, counts = statistics.histogram.filled()
    if not low.size or percentile == 100.0:
        return statistics.amax
    below = statistics.histogram.zeros + np.cumsum(counts)
    rank = percentile / 100.0 * statistics.count
    if rank <= statistics.histogram.zeros:
        below = below - statistics.histogram.zeros
        rank = percentile / 100.0 * float(counts.sum())
    index = min(int(np.searchsorted(below, rank)), low.size - 1)
    inside = 1.0 - (below[index] - rank) / counts[index]
    return float(min(low[index] + (high[index] - low[index]) * inside, statistics.amax))
