"""Scores of two engines on the same samples, and what they prove about the drop from one to the other.

b, c in [0, 1] are the scores of baseline and candidate. An absolute drop below L points is mean(b - c) < L / 100;
one below L % of the baseline's own score is mean(b (1 - L / 100) - c) < 0. Both speak of the mean of numbers within -1
and 1, so `paired_interval` tests them, and the interval of the drop is all L that are not rejected.

The chance of error is (1 - confidence) / 2 on each side, as in non-inferiority trials (ICH E9, 3.3.2). With looks on
the way, a fifth of it pays for them, by the betting test, which holds however often one looks; four fifths are left for
the end, by the score test; their sum is the union bound. So no plan of looks is needed, and the end pays little
(z = 2.05 in place of 1.96).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from hwc.precision.paired_interval import count_needed, find_bound, log_capital, score_statistic

_EARLY_SHARE = 0.2  # of the chance of error, for looks before the end
RANGES = {"absolute": (-100.0, 100.0), "relative": (-1000.0, 100.0)}  # of a drop, in points or % of the baseline


class PairedScores:
    """Scores so far; `stopped` is the decision of an early look, or empty."""

    def __init__(self, limit: float, drop_type: str, confidence: float, *, has_looks: bool) -> None:
        """No scores yet; `limit` is in points, or in % of the baseline for a relative drop."""
        alpha = 0.5 * (1.0 - confidence)
        self.limit, self.drop_type, self.stopped = limit, drop_type, ""
        self.baseline: list[float] = []
        self.candidate: list[float] = []
        self._pairs: Counter[tuple[float, float]] = Counter()
        self._z = NormalDist().inv_cdf(1.0 - alpha * (1.0 - _EARLY_SHARE if has_looks else 1.0))
        self._capital = -math.log(alpha * _EARLY_SHARE)

    def __len__(self) -> int:
        return len(self.baseline)

    def extend(self, baseline: Sequence[float], candidate: Sequence[float]) -> None:
        """Adds samples, in the order in which they were drawn."""
        self.baseline.extend(baseline)
        self.candidate.extend(candidate)
        self._pairs.update(zip(baseline, candidate))

    @property
    def drop(self) -> float:
        """As measured, in points, or in % of the baseline."""
        base, got = math.fsum(self.baseline), math.fsum(self.candidate)
        return 100.0 * (base - got) / (base if self.drop_type == "relative" else len(self.baseline))

    def look(self) -> str:
        """"passed" or "failed" if it is plain already, else ""; may be asked at any time, and as often as wanted."""
        if any(self.baseline):  # a baseline that is never right proves nothing
            if self._is_above(self.limit, by_bets=True):
                self.stopped = "failed"
            elif self._is_below(self.limit, by_bets=True):
                self.stopped = "passed"
        return self.stopped

    def decide(self) -> str:
        """The decision, with all samples seen or after a look that stopped: "passed", "failed" or "undecided"."""
        if self.stopped or self._is_below(self.limit):
            return self.stopped or "passed"
        return "failed" if self.drop > self.limit else "undecided"

    def interval(self) -> tuple[float, float]:
        """Of the drop, in its unit; after an early stop by the test that stopped it."""
        low, high = RANGES[self.drop_type]
        by_bets = bool(self.stopped)
        upper = find_bound(lambda limit: self._is_below(limit, by_bets=by_bets), low, high)
        return -find_bound(lambda limit: self._is_above(-limit, by_bets=by_bets), -high, -low), upper

    def needed(self) -> int | None:
        """How many samples like these would prove that the limit is kept; None if none would."""
        values, counts, bound = self._differences(self.limit)
        return count_needed(values, counts, self._z, bound)

    def _is_below(self, limit: float, *, by_bets: bool = False) -> bool:
        values, counts, bound = self._differences(limit)
        return self._is_proved(bound, values, counts, by_bets)

    def _is_above(self, limit: float, *, by_bets: bool = False) -> bool:
        values, counts, bound = self._differences(limit)
        return self._is_proved(-bound, -values, counts, by_bets)

    def _is_proved(self, bound: float, values: np.ndarray, counts: np.ndarray, by_bets: bool) -> bool:
        if by_bets:
            return log_capital(bound, values, counts) >= self._capital
        return score_statistic(bound, values, counts) >= self._z

    def _differences(self, limit: float) -> tuple[np.ndarray, np.ndarray, float]:
        """(values, counts, bound): the drop is below `limit` exactly when the mean of the values is below `bound`."""
        base, got = np.array(list(self._pairs), np.float64).T
        counts = np.array(list(self._pairs.values()), np.float64)
        if self.drop_type == "absolute":
            return base - got, counts, limit / 100.0
        kept = 1.0 - limit / 100.0
        # A negative limit, asked for in an interval, would reach beyond [-1, 1].
        return (base * kept - got) / max(1.0, kept), counts, 0.0
