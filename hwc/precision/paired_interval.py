r"""Is the mean of paired differences d in [-1, 1] below m? Honest for few samples, rare events and repeated looks.

Two tests, because one number of samples is fixed in advance and the other is not. Either gives an interval: all m that
it does not reject.

`score_statistic`, for a number of samples fixed in advance:

    z = (m - mean(d)) / sqrt(V(m) / n)

where V(m) is the variance of the nonparametric maximum-likelihood distribution on [-1, 1] whose mean is m: weights
w_i = 1 / (n (1 + x (m - d_i))), x the maximiser of sum log(1 + x (m - d_i)) over 0 <= x <= 1 / (1 - m), and the rest
on +1. On differences of yes/no scores (-1, 0, 1) this is Tango's score interval for paired proportions (Statistics
in Medicine 17:891, 1998), which keeps its level when few pairs differ. Without a single differing pair the interval
ends at z^2 / (n + z^2), where a t interval has no width at all. Below some 40 samples that is less than the rule of
three, so z is never taken for more than the chance that mass p on +1, enough to lift the mean to m, was not met once:
(1 - p)^n.

`log_capital`, for any number of samples, looked at as often as one likes. A gambler bets on "the mean is below m" the
share k of what can be lost: his capital prod (1 + k (m - d_i) / (1 - m)) is a supermartingale if the mean is m or more,
and so is its average over several k; by Ville's inequality it ever reaches 1 / alpha with probability at most alpha
(Waudby-Smith and Ramdas, JRSS B 86:1, 2024, with a grid of bets). True for every distribution on [-1, 1] and every n;
its intervals are up to twice as wide, so it decides early only what is plain.

Limit: both take samples as independent draws in random order; a set sorted by class must be shuffled before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

_BETS = np.geomspace(0.004, 0.98, 14)
_NORMAL = NormalDist()
_HALVINGS = 44  # of [-1, 1]: 1e-13, far below any drop that is reported
_NEWTON_STEPS = 60
_RESOLUTION = 1e-12  # of a mean; below it a variance is rounding


def find_bound(is_proved: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest limit in [low, high] that the mean is proved to be below; `high` if none is."""
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if is_proved(middle) else (middle, high)
    return high


def score_statistic(mean: float, differences: np.ndarray, counts: np.ndarray) -> float:
    """How many standard errors the samples' own mean lies below `mean`; negative if it lies above.

    Args:
        differences: values in [-1, 1], shape (k,).
        counts: how often each was seen, shape (k,); need not be whole.
    """
    if mean >= 1.0:
        return math.inf
    total = float(counts.sum())
    distance = mean - float(np.average(differences, weights=counts))
    if abs(distance) < _RESOLUTION:
        return 0.0
    if distance < 0.0:  # the mirror image of the problem above the samples' mean
        return -score_statistic(-mean, -differences, counts)
    gain = mean - differences
    bet = _restrict_mean(mean, gain, counts)
    weights = counts / (total * np.maximum(1.0 + bet * gain, 1e-300))
    rest = max(0.0, 1.0 - float(weights.sum()))
    variance = float(np.sum(weights * gain**2)) + rest * (1.0 - mean) ** 2
    return min(distance / math.sqrt(variance / total), _unseen(distance / (1.0 - mean + distance), total))


def _unseen(mass: float, total: float) -> float:
    """Standard errors of never meeting, in `total` samples, the mass on +1 that would make up for the distance."""
    chance = math.exp(max(-600.0, total * math.log1p(-min(mass, 1.0 - 1e-16))))
    return max(0.0, -_NORMAL.inv_cdf(chance)) if chance < 1.0 else 0.0


def _restrict_mean(mean: float, gain: np.ndarray, counts: np.ndarray) -> float:
    """The x of V(mean): where sum gain / (1 + x gain) is zero, or the edge, with unseen mass on +1 for the rest."""
    low, high = 0.0, 1.0 / (1.0 - mean)
    if float((1.0 + high * gain).min()) > 1e-9 and float(np.sum(counts * gain / (1.0 + high * gain))) >= 0.0:
        return high
    bet = 0.5 * high
    for _ in range(_NEWTON_STEPS):
        terms = gain / (1.0 + bet * gain)
        slope = float(np.sum(counts * terms))
        low, high = (bet, high) if slope > 0.0 else (low, bet)
        following = bet + slope / float(np.sum(counts * terms**2))
        if not low < following < high:  # Newton left the bracket: halve it
            following = 0.5 * (low + high)
        if abs(following - bet) <= 1e-12 * high:
            break
        bet = following
    return bet


def log_capital(mean: float, differences: np.ndarray, counts: np.ndarray) -> float:
    """Natural logarithm of what bets on "the mean is below `mean`" have made of 1; at log(1 / alpha) that is proved."""
    if abs(mean) >= 1.0:
        return math.copysign(math.inf, mean)
    won = np.log1p(np.outer(_BETS, (mean - differences) / (1.0 - mean))) @ counts
    top = float(won.max())
    return top + math.log(float(np.mean(np.exp(won - top))))


def count_needed(differences: np.ndarray, counts: np.ndarray, z: float, limit: float) -> int | None:
    """How many samples like these would prove, at z, a mean below `limit`; None if ten million would not."""
    total = float(counts.sum())
    if float(np.average(differences, weights=counts)) >= limit:
        return None
    low, high = 1.0, 1e7 / total
    if high <= low or score_statistic(limit, differences, counts * high) < z:
        return None
    while high - low > 0.002 * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if score_statistic(limit, differences, counts * middle) >= z else (middle, high)
    return math.ceil(high * total)
