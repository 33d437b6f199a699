"""The range with the least expected squared error: what rounding gains by a shorter range, clipping loses.

The error (`base.expected_error`) is evaluated on a geometric grid of ranges from max |x| down, then on a finer linear
grid around the best few, twice. The curve has ripples where values sit on a grid of their own, so a search by slope
would be caught in one of them.

Limit: ranges below max |x| / 2**10 are not tried: there the histogram has fewer bins than the quantizer has levels.
Source of the criterion: Banner, Nahshan, Soudry, "Post training 4-bit quantization of convolutional networks for
rapid-deployment", NeurIPS 2019 (clipping threshold by expected quantization error).
"""

from __future__ import annotations

import numpy as np

from hwc.calibrate.base import check_request, expected_error
from hwc.calibrate.tensor_statistics import TensorStatistics

_OCTAVES = 10
_PER_OCTAVE = 16
_BEST = 3  # neighbourhoods that are searched again
_FINE = 17  # ranges tried in each


def choose(statistics: TensorStatistics, *, levels: int, unsigned: bool) -> float:
    """amax of least error; max |x| where no shorter range is better.

    Raises:
        UsageError: no elements, or negative ones where unsigned integers are asked for.
    """
    check_request(statistics, levels, unsigned)
    smallest = max(-statistics.max, statistics.min)
    if smallest >= statistics.amax:  # constant, so exact with any range that ends on it
        return statistics.amax
    ratios = 2.0 ** (-np.arange(_OCTAVES * _PER_OCTAVE + 1) / _PER_OCTAVE)
    grid = statistics.amax * ratios
    errors = expected_error(statistics, grid, levels)
    for _ in range(2):
        best = np.argsort(errors, kind="stable")[:_BEST]
        finer = [np.linspace(grid[min(i + 1, grid.size - 1)], grid[max(i - 1, 0)], _FINE) for i in best]
        # Descending, so that of equal errors the longer range is first.
        grid = np.unique(np.concatenate([*finer, grid[best], [statistics.amax]]))[::-1]
        errors = expected_error(statistics, grid, levels)
    return float(grid[int(np.argmin(errors))])
