"""The expected error of a quantizer on a histogram, against the error on the samples themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc.calibrate.base import check_request, expected_error
from hwc.calibrate.tensor_statistics import statistics_of
from hwc.errors import UsageError
from tests.calibrate.distributions import ON_POINTS, SPREAD, draw, error_of


@pytest.mark.parametrize("levels", [7, 127, 255])
@pytest.mark.parametrize("name", SPREAD)
def test_the_error_is_that_of_the_samples(name, levels):
    values = draw(name)
    statistics = statistics_of(values)
    for share in (1.0, 0.83, 0.4, 0.1, 0.02):
        amax = share * statistics.amax
        # 60 000 samples estimate a mean square to about 1 %; one outlier sits anywhere inside its bin.
        noise = statistics.amax * statistics.histogram.width / values.size * 2
        assert float(expected_error(statistics, amax, levels)) == pytest.approx(
            error_of(values, amax, levels), rel=0.02, abs=noise
        ), share


@pytest.mark.parametrize("name", ON_POINTS)
def test_values_on_points_are_seen_to_one_bin(name):
    values = draw(name)
    statistics = statistics_of(values)
    for share in (1.0, 0.7, 0.3):
        amax = share * statistics.amax
        found = float(expected_error(statistics, amax, 127)) ** 0.5
        assert found == pytest.approx(error_of(values, amax, 127) ** 0.5, abs=statistics.histogram.width)


def test_a_uniform_tensor_has_the_textbook_error():
    values = draw("uniform", 400_000)
    statistics = statistics_of(values)
    assert float(expected_error(statistics, 1.0, 127)) == pytest.approx((1 / 127) ** 2 / 12, rel=0.01)


def test_bins_wider_than_a_step_are_judged_rightly():
    values = np.append(draw("gaussian"), 4000.0).astype(np.float32)  # a bin of 0.5 against a step of 0.03
    statistics = statistics_of(values)
    assert statistics.histogram.width > 10 * 4 / 127
    inside = statistics_of(draw("gaussian"))
    fine = float(expected_error(inside, 4.0, 127)) * inside.count
    coarse = float(expected_error(statistics, 4.0, 127)) * statistics.count - (4000.0 - 4.0) ** 2
    assert coarse == pytest.approx(fine, rel=0.5, abs=4000 * statistics.histogram.width)


def test_candidates_are_independent_and_keep_their_shape():
    statistics = statistics_of(draw("laplace"))
    candidates = np.linspace(0.1, 1, 21).reshape(3, 7) * statistics.amax
    together = expected_error(statistics, candidates, 127)
    assert together.shape == (3, 7)
    apart = [float(expected_error(statistics, c, 127)) for c in candidates.ravel()]
    assert together.ravel() == pytest.approx(apart, rel=1e-12)


@given(st.floats(-60, 60))
def test_the_error_scales_with_the_square_of_the_values(power):
    values = draw("laplace", 2000)
    factor = 2.0 ** round(power)
    plain, scaled = statistics_of(values), statistics_of(values * np.float32(factor))
    expected = float(expected_error(plain, plain.amax / 3, 127)) * factor**2
    assert float(expected_error(scaled, scaled.amax / 3, 127)) == pytest.approx(expected, rel=1e-9)


def test_nothing_but_zeros_has_no_error():
    assert float(expected_error(statistics_of(np.zeros(5, np.float32)), 1.0, 127)) == 0.0


def test_requests_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="without elements"):
        check_request(statistics_of(np.empty(0, np.float32)), 127, False)
    with pytest.raises(UsageError, match="negative"):
        check_request(statistics_of(np.array([-1.0], np.float32)), 255, True)
    with pytest.raises(UsageError, match="level"):
        check_request(statistics_of(np.ones(1, np.float32)), 0, False)
    check_request(statistics_of(np.array([-0.0], np.float32)), 255, True)
