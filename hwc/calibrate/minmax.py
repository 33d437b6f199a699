"""The largest magnitude seen: nothing is clipped, and one outlier costs every other value its resolution."""

from __future__ import annotations

from hwc.calibrate.base import check_request
from hwc.calibrate.tensor_statistics import TensorStatistics


def choose(statistics: TensorStatistics, *, levels: int, unsigned: bool) -> float:
    """amax = max |x|, exactly.

    Raises:
        UsageError: no elements, or negative ones where unsigned integers are asked for.
    """
    check_request(statistics, levels, unsigned)
    return statistics.amax
