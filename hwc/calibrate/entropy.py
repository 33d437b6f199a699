"""The range whose quantized distribution says most about the real one: least Kullback-Leibler divergence.

For each candidate of i bins: P is the first i bins with everything beyond added to the last of them; Q spreads the
first i bins, without what lies beyond, over levels + 1 groups and each group's total evenly over its bins that are not
empty in P. The i of least KL(P || Q) wins, the largest of equal ones. With running sums S of p, of
p log p and of "not empty",

    KL = [sum p log p - sum over groups S_g log(S_g / n_g)] / N + log(N_Q / N)

(N_Q: the mass of Q; the last bin corrected for what was added), so all candidates are evaluated at once.

Details on which implementations differ, as done here: exact zeros are left out, for they are represented exactly at
any scale and would otherwise drown the rest of a ReLU's output; groups are whole bins with boundaries ceil(g i /
groups), so that no remainder lands in the last one; the last bin counts as not empty if anything lies beyond, and a
group that is empty inside then holds 1e-4 of a count in Q: with none, log(p / 0) would refuse every range that ends in
a gap, and one far outlier would force max |x|; a range with nothing inside is never taken. The histogram is taken at
2048 to 4096 bins below max |x|, as TensorRT's 2048: with more, sampling noise is taken for information. A calibrator
that sees one histogram with as many bins as groups can only answer max |x|, a known fault of others; here that cannot
occur.

Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017, s7310, pages 31-38.
Limit: entropy is not error; it may clip much of a distribution with a heavy tail.
"""

from __future__ import annotations

import numpy as np

from hwc.calibrate.base import check_request
from hwc.calibrate.tensor_statistics import TensorStatistics

_MERGE = 2  # histogram bins per bin used here
_LITTLE = 1e-4  # counts
_EQUAL = 1e-9  # nats; well above the rounding of the sums


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
    found = divergences(counts, sizes, groups)
    best = int(sizes[np.flatnonzero(found <= found.min() + _EQUAL)[-1]])
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
    beyond = total - mass[sizes]
    own = counts[sizes - 1]  # the last bin of P before what lies beyond is added
    end = own + beyond

    edges = -(-np.arange(groups + 1) * sizes[:, None] // groups)  # ceil; [candidates, groups + 1]
    used = np.diff(_running((counts > 0).astype(np.float64))[edges], axis=1)
    used[:, -1] += (own == 0) & (beyond > 0)
    held = np.diff(mass[edges], axis=1)
    in_p = held.copy()
    in_p[:, -1] += beyond
    in_q = np.where((held == 0) & (in_p > 0), _LITTLE, held)
    # Sum over bins of p log q; q is one value per group, so a group gives (its mass in P) log(in_q / used).
    cross = (in_p * np.log(np.where(in_p > 0, in_q, 1.0) / np.maximum(used, 1.0))).sum(axis=1)
    own_entropy = plogp[sizes] - _xlogx(own) + _xlogx(end)
    result = (own_entropy - cross) / total + np.log(in_q.sum(axis=1) / total)
    # With all mass beyond it, P and Q are the same single bin: no divergence, and no information either.
    return np.where(mass[sizes] > 0, result, np.inf)


def _running(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values)])


def _xlogx(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.where(values > 0, values, 1.0))
