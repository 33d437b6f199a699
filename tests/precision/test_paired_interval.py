"""Against the published interval, against a closed form, and on true means that are known."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwc.precision.paired_interval import count_needed, find_bound, log_capital, score_statistic

SIGNS = np.array([1.0, -1.0, 0.0])


def upper(values, counts, z):
    return find_bound(lambda mean: score_statistic(mean, values, counts) >= z, -1.0, 1.0)


def tango(lost, won, n, delta):
    """Tango's statistic in his own closed form: an independent way to the same number."""
    a, b, c = 2 * n, -lost - won + (2 * n - lost + won) * delta, -won * delta * (1 - delta)
    p = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
    return (n * delta - (lost - won)) / math.sqrt(n * (2 * p + delta * (1 - delta)))


def test_the_published_interval_of_airway_responsiveness():
    """Bentur et al. 1991, 1 against 7 of 21 pairs: -0.517 to -0.026 (Fagerland et al., Stat. Med. 33:2850, 2014)."""
    counts = np.array([1.0, 7.0, 13.0])
    assert upper(SIGNS, counts, 1.959964) == pytest.approx(-0.026, abs=5e-4)
    assert -upper(-SIGNS, counts, 1.959964) == pytest.approx(-0.517, abs=5e-4)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 2000), st.floats(-0.2, 0.2))
def test_signs_give_tangos_statistic(lost, won, same, delta):
    n = lost + won + same
    counts = np.array([lost, won, same], float)
    assume(abs(delta) > 1e-6)  # 0 / 0 in the closed form where nothing differs
    expected, got = tango(lost, won, n, delta), score_statistic(delta, SIGNS, counts)
    own = (lost - won) / n
    mass = (delta - own) / (1 - own) if delta > own else (own - delta) / (1 + own)
    never_met = (1 - mass) ** n
    unseen = -NormalDist().inv_cdf(min(0.5, never_met)) if never_met > 1e-200 else math.inf
    assert got == pytest.approx(math.copysign(min(abs(expected), unseen), delta - own), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("n", [1, 20, 300, 5000])
def test_no_difference_at_all_still_has_a_width(n):
    bound = upper(np.array([0.0]), np.array([float(n)]), 1.96)
    exact = -math.expm1(math.log(0.024998) / n)  # of zero events in n
    assert bound == pytest.approx(max(1.96**2 / (n + 1.96**2), exact), rel=1e-5)
    constant = upper(np.array([0.2]), np.array([float(n)]), 1.96)
    assert constant == pytest.approx(0.2 + 0.8 * bound)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.floats(-0.99, 0.99), st.floats(0.001, 0.5))
def test_both_tests_grow_with_the_mean_they_reject(values, mean, step):
    values, counts = np.array(values), np.ones(len(values))
    higher = min(mean + step, 0.999)
    assert log_capital(higher, values, counts) >= log_capital(mean, values, counts) - 1e-9
    own = values.mean()
    if higher > own > mean:
        assert score_statistic(higher, values, counts) >= 0 >= score_statistic(mean, values, counts)
    assert score_statistic(mean, values, counts) == pytest.approx(-score_statistic(-mean, -values, counts), abs=1e-6)


def test_capital_is_what_the_bets_make():
    values, counts, mean = np.array([0.5, -0.25]), np.array([3.0, 2.0]), 0.1
    stakes = np.geomspace(0.004, 0.98, 14)
    by_hand = np.mean([math.prod(1 + k * (mean - d) / 0.9 for d in (0.5, 0.5, 0.5, -0.25, -0.25)) for k in stakes])
    assert log_capital(mean, values, counts) == pytest.approx(math.log(by_hand))
    assert log_capital(1.0, values, counts) == math.inf and log_capital(-1.0, values, counts) == -math.inf
    assert log_capital(0.999999, np.array([1.0]), np.array([1e5])) < 0  # no overflow where all is lost


# Skewed and mixed: mean 0.01 each. A t interval fails on the second (1 in 100 lost whole, the rest equal).
def _small_noise(rng, n):
    return np.clip(rng.normal(0.01, 0.02, n), -1, 1)


def _rare_loss(rng, n):
    return (rng.random(n) < 0.01).astype(float)


def _exponential(rng, n):
    return np.minimum(rng.exponential(0.01, n), 1)


def _small_noise_and_rare_loss(rng, n):
    return np.where(rng.random(n) < 0.005, 1.0, rng.normal(0.005 / 0.995, 0.01, n))


@pytest.mark.parametrize("draw", [_small_noise, _rare_loss, _exponential, _small_noise_and_rare_loss])
@pytest.mark.parametrize("n", [100, 500])
def test_a_true_mean_is_rarely_rejected(draw, n):
    """At z = 1.96 a mean that is true is called too high in 2.5 % of cases; 400 runs, so up to 5 % may be seen."""
    rng, wrong = np.random.default_rng(5), 0
    for _ in range(400):
        values = draw(rng, n)
        wrong += score_statistic(0.01, values, np.ones(n)) >= 1.96
    assert wrong / 400 <= 0.05, (draw.__name__, n, wrong)


def test_a_t_interval_would_fail_there():
    """The reason for the score test; also shows that the check above can fail."""
    rng, wrong = np.random.default_rng(5), 0
    for _ in range(400):
        values = _rare_loss(rng, 100)
        wrong += values.mean() + 1.96 * values.std(ddof=1) / 10 <= 0.01
    assert wrong / 400 > 0.3


def test_count_needed():
    assert count_needed(np.array([0.0]), np.array([20.0]), 1.96, 0.005) == pytest.approx(765, abs=2)
    counts = np.array([3.0, 2.0, 295.0])
    needed = count_needed(SIGNS, counts, 1.96, 0.01)
    assert score_statistic(0.01, SIGNS, counts * needed / 300) >= 1.96 > score_statistic(
        0.01, SIGNS, counts * needed / 310
    )
    assert count_needed(SIGNS, counts, 1.96, 1 / 300) is None  # the measured drop is the limit itself
    assert count_needed(SIGNS, counts, 1.96, 0.001) is None
