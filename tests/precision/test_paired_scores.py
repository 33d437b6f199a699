"""How often the guard is wrong, by simulation: the promise is 2.5 % on each side, looks included."""

import numpy as np
import pytest

from hwc.precision.paired_interval import score_statistic
from hwc.precision.paired_scores import PairedScores


def simulate(n, lost, won, *, runs, look_every=50, limit=0.5, drop_type="absolute", right=0.8, seed=0):
    """Decisions of `runs` guards, as shares, and the mean number of samples each saw.

    `lost` and `won` are the shares of samples that only the baseline, only the candidate gets right.
    """
    rng, found, used = np.random.default_rng(seed), {"passed": 0, "failed": 0, "undecided": 0}, 0
    for _ in range(runs):
        draw = rng.random(n)
        both = (rng.random(n) < right).astype(float)
        base = np.where(draw < lost, 1.0, np.where(draw < lost + won, 0.0, both))
        got = np.where(draw < lost, 0.0, np.where(draw < lost + won, 1.0, both))
        scores = PairedScores(limit, drop_type, 0.95, has_looks=look_every > 0)
        step = look_every or n
        for start in range(0, n, step):
            scores.extend(base[start : start + step].tolist(), got[start : start + step].tolist())
            if len(scores) < n and scores.look():
                break
        found[scores.decide()] += 1
        used += len(scores)
    return {decision: count / runs for decision, count in found.items()}, used / runs


@pytest.mark.parametrize("won", [0.0, 0.002, 0.02])
@pytest.mark.parametrize(("n", "look_every"), [(300, 25), (1500, 50), (1500, 0)])
def test_a_drop_just_over_the_limit_rarely_passes(n, look_every, won):
    """True drop 0.51 points, limit 0.5: 2.5 % of 250 runs may pass, 13 of them once in 100 tries."""
    found, _ = simulate(n, 0.0051 + won, won, runs=250, look_every=look_every)
    assert found["passed"] <= 0.052
    assert found["failed"] >= 0.35  # about half: the measured drop is over the limit as often as not


def test_looking_without_paying_for_it_would_pass_too_often():
    """The same drop and the score test at 1.96 at each look: what the betting test is for, and a check of the check."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        lost = np.cumsum((rng.random(3000) < 0.0251 + 0.02).reshape(30, 100).sum(axis=1))
        won = np.cumsum((rng.random(3000) < 0.02).reshape(30, 100).sum(axis=1))
        seen = np.arange(1, 31) * 100
        wrong += any(
            score_statistic(0.025, np.array([1.0, -1.0, 0.0]), np.array([a, b, n - a - b], float)) >= 1.96
            for a, b, n in zip(lost, won, seen)
        )
    assert wrong / 200 > 0.08


def test_a_drop_just_under_the_limit_rarely_stops_as_failed():
    """Only a proof may stop early; the end goes by the measured drop."""
    for seed, (lost, won) in enumerate([(0.0049, 0.0), (0.0149, 0.01)]):
        rng, stopped = np.random.default_rng(seed), 0
        for _ in range(100):
            draw = rng.random(1500)
            scores = PairedScores(0.5, "absolute", 0.95, has_looks=True)
            for start in range(0, 1450, 50):
                part = draw[start : start + 50]
                scores.extend([1.0 - (lost < d < lost + won) for d in part], [1.0 - (d < lost) for d in part])
                if scores.look() == "failed":
                    break
            stopped += scores.stopped == "failed"
        assert stopped / 100 <= 0.02


def test_the_power_that_is_stated():
    """No drop, 1 % differ: 4 in 5 pass with 3400 samples; nothing differs: all pass with 840, none with 300."""
    found, _ = simulate(3400, 0.005, 0.005, runs=120)
    assert 0.70 <= found["passed"] <= 0.90 and found["failed"] <= 0.01
    assert simulate(850, 0.0, 0.0, runs=1)[0]["passed"] == 1.0
    assert simulate(300, 0.0, 0.0, runs=1)[0]["undecided"] == 1.0


def test_what_is_plain_stops_early():
    found, used = simulate(2000, 0.10, 0.0, runs=60)
    assert found["failed"] == 1.0 and used < 250
    found, used = simulate(2000, 0.0, 0.0, limit=5.0, runs=5)
    assert found["passed"] == 1.0 and used < 250


def test_a_relative_limit_is_of_the_baseline():
    """80 % right, 5 % of it allowed: 4 points. Just over it rarely passes, half of it passes."""
    found, _ = simulate(1000, 0.0405, 0.0, runs=200, limit=5.0, drop_type="relative", right=0.8 / 0.96)
    assert found["passed"] <= 0.06
    found, _ = simulate(1000, 0.015, 0.0, runs=50, limit=5.0, drop_type="relative")
    assert found["passed"] >= 0.9


@pytest.mark.parametrize("drop_type", ["absolute", "relative"])
def test_the_interval_holds_the_drop_and_agrees_with_the_decision(drop_type):
    rng = np.random.default_rng(3)
    for limit in (0.5, 2.0, 5.0, 20.0):
        base = (rng.random(200) < 0.7).astype(float)
        got = np.where(rng.random(200) < 0.05, 0.0, base)
        scores = PairedScores(limit, drop_type, 0.95, has_looks=False)
        scores.extend(base.tolist(), got.tolist())
        low, high = scores.interval()
        assert low < scores.drop < high
        assert (scores.decide() == "passed") == (high <= limit)


def test_the_relative_interval_is_the_absolute_one_over_a_sure_baseline():
    """If every baseline score is 1, a relative point is a point."""
    ends = []
    for drop_type in ("absolute", "relative"):
        scores = PairedScores(1.0, drop_type, 0.95, has_looks=True)
        scores.extend([1.0] * 100, [1.0] * 97 + [0.0, 0.3, 0.5])
        ends.append((scores.drop, *scores.interval()))
    (drop, low, high), (relative_drop, relative_low, relative_high) = ends
    assert (drop, high) == pytest.approx((relative_drop, relative_high))
    assert low - 0.3 < relative_low <= low  # wider: a gain is bounded by the scale of the loss


def test_a_gain_is_a_negative_drop():
    scores = PairedScores(0.0, "relative", 0.95, has_looks=False)
    scores.extend([0.1] * 50 + [0.2] * 50, [0.9] * 100)
    low, high = scores.interval()
    assert scores.drop == pytest.approx(-500)
    assert low < scores.drop < high < 0 and scores.decide() == "passed"


def test_identical_scores_are_not_a_proof():
    for drop_type in ("absolute", "relative"):
        scores = PairedScores(0.5, drop_type, 0.95, has_looks=True)
        scores.extend([1.0] * 20, [1.0] * 20)
        low, high = scores.interval()
        assert low < -10 and high > 10 and scores.decide() == "undecided" and not scores.look()
