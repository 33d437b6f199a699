"""The range of least squared error against brute force on the samples and against published optima."""

import numpy as np
import pytest

from hwc.calibrate.mse import choose
from hwc.calibrate.tensor_statistics import statistics_of
from tests.calibrate.distributions import ON_POINTS, SPREAD, draw, error_of, least_error


@pytest.mark.parametrize("name", SPREAD)
@pytest.mark.parametrize("levels", [127, 7])
def test_no_range_found_by_brute_force_is_better(name, levels):
    values = draw(name, 20_000)
    amax = choose(statistics_of(values), levels=levels, unsigned=False)
    # 1 %: brute force sees the very samples, which the histogram spreads inside its bins.
    assert error_of(values, amax, levels) <= least_error(values, levels) * 1.01


@pytest.mark.parametrize("name", ["relu", "uniform"])
def test_unsigned_levels_are_searched_as_their_own(name):
    values = np.abs(draw(name, 20_000))
    amax = choose(statistics_of(values), levels=255, unsigned=True)
    assert error_of(values, amax, 255) <= least_error(values, 255) * 1.01


@pytest.mark.parametrize("name", ON_POINTS)
def test_values_on_points_lose_no_more_than_a_bin(name):
    values = draw(name)
    statistics = statistics_of(values)
    amax = choose(statistics, levels=127, unsigned=False)
    assert error_of(values, amax, 127) ** 0.5 <= least_error(values, 127) ** 0.5 + statistics.histogram.width


def test_the_optimum_of_a_gaussian_and_of_a_laplacian():
    # Minimum of 2 Q-terms + step^2 / 12 at 127 levels a side, solved numerically: 4.00 sigma and 9.8 b.
    for name, density, expected_at in (("gaussian", np.exp(-np.linspace(0, 12, 240_001) ** 2 / 2), 4.0),
                                       ("laplace", np.exp(-np.linspace(0, 30, 240_001)), 9.8)):  # fmt: skip
        x = np.linspace(0, 12 if name == "gaussian" else 30, 240_001)
        weight = density / density.sum()
        tried = np.linspace(2, 14, 481)
        errors = [(a / 127) ** 2 / 12 + (np.maximum(x - a, 0) ** 2 * weight).sum() for a in tried]
        optimum = tried[int(np.argmin(errors))]
        assert optimum == pytest.approx(expected_at, abs=0.15)
        found = choose(statistics_of(draw(name, 1_000_000)), levels=127, unsigned=False)
        assert found == pytest.approx(optimum, rel=0.05)


def test_a_uniform_tensor_is_hardly_clipped():
    statistics = statistics_of(draw("uniform"))
    assert choose(statistics, levels=127, unsigned=False) >= 0.99 * statistics.amax


def test_integers_keep_a_grid_of_their_own():
    # Every value is a whole number of steps at amax = 127: no rounding error there, some everywhere else.
    values = np.arange(-127, 128).repeat(50).astype(np.float32)
    amax = choose(statistics_of(values), levels=127, unsigned=False)
    assert amax == pytest.approx(127, abs=0.1)


def test_a_far_outlier_is_clipped_only_while_that_pays():
    many = np.append(draw("gaussian", 1_000_000), 40.0).astype(np.float32)
    few = np.append(draw("gaussian", 1_000), 40.0).astype(np.float32)
    assert choose(statistics_of(few), levels=127, unsigned=False) > 35
    assert choose(statistics_of(many), levels=127, unsigned=False) < 35
