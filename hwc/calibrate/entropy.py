"""The range whose quantized distribution says most about the real one: least Kullback-Leibler divergence.

For each candidate of i bins: P is the first i bins with everything beyond added to the last of them; Q spreads the
first i bins, without what lies beyond, over levels + 1 groups and each group's total evenly over its bins that are not
empty in P. The i of least KL(P || Q) wins. With running sums S of p, of p log p and of "not empty",

    KL = [sum p log p - sum over groups S_g log(S_g / n_g)] / N + log(N_inside / N)

(the last bin corrected for what was added), so all candidates are evaluated at once.

Details on which implementations differ, as done here: exact zeros are left out, for they are represented exactly at
any scale and would otherwise drown the rest of a ReLU's output; groups are whole bins with boundaries ceil(g i /
groups), so that no remainder lands in the last one; an outlier bin that is empty inside counts as not empty, and a
candidate that gives a group no mass where P has some is infinitely bad. The histogram is taken at 2048 to 4096 bins
below max |x|, as TensorRT's 2048: with more, sampling noise is taken for information. A calibrator that sees one
histogram with as many bins as groups can only answer max |x|, a known fault of others; here that cannot occur.

Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017, s7310, pages 31-38.
Limit: entropy is not error; it may clip much of a distribution with a heavy tail.
"""

from __future__ import annotations

import numpy as np

from hwc.calibrate.base import check_request
from hwc.calibrate.tensor_statistics import TensorStatistics

_MERGE = 2  # histogram bins per bin used here


def choose(statistics: TensorStatistics, *, levels: int, unsigned: bool) -> float:
    """amax of least divergence.

    Raises:
        UsageError: no elements, or negative ones where unsigned integers are asked for.
    """
    check_request(statistics, levels, unsigned)
    counts = statistics.histogram.counts.reshape(-1, _MERGE).sum(axis=1).astype(np.float64)
    width = statistics.histogram.width * _MERGE
    filled = np.flatnonzero(counts)
    if not filled.size:
        return 0.0
    last = int(filled[-1]) + 1
    groups = levels + 1
    if last <= groups:  # denormal range only: fewer bins than levels, nothing to choose between
        return statistics.amax
    sizes = np.arange(groups, last + 1)
    best = int(sizes[int(np.argmin(divergences(counts, sizes, groups)))])
    return min(best * width, statistics.amax)


def divergences(counts: np.ndarray, sizes: np.ndarray, groups: int) -> np.ndarray:
    """KL(P || Q) in nats for each candidate number of bins.

    Args:
        counts: float64 [bins], the last not beyond the largest candidate being empty.
        sizes: int [candidates], each at least `groups`.
    """
    mass = _running(counts)
    plogp = _running(_xlogx(counts))
    total = mass[-1]
    inside = mass[sizes]
    beyond = total - inside
    own = counts[sizes - 1]  # the last bin of P before what lies beyond is added
    end = own + beyond

    edges = -(-np.arange(groups + 1) * sizes[:, None] // groups)  # ceil; [candidates, groups + 1]
    used = np.diff(_running((counts > 0).astype(np.float64))[edges], axis=1)
    used[:, -1] += (own == 0) & (beyond > 0)
    held = np.diff(mass[edges], axis=1)
    # Sum over bins of p log q; q is one value per group, so a group gives (its mass in P) log(held / used).
    in_p = held.copy()
    in_p[:, -1] += beyond
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.where(in_p > 0, np.log(held / used), 0.0)
        cross = (in_p * log_q).sum(axis=1)
        own_entropy = plogp[sizes] - _xlogx(own) + _xlogx(end)
        result = (own_entropy - cross) / total + np.log(inside / total)
    return np.where(np.isfinite(result), result, np.inf)


def _running(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values)])


def _xlogx(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.where(values > 0, values, 1.0))
