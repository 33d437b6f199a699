"""What holds for every calibrator; each has its own file for what it alone promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hwc.calibrate import entropy, minmax, mse, percentile
from hwc.calibrate.base import expected_error
from hwc.calibrate.tensor_statistics import Accumulator, statistics_of
from hwc.errors import UsageError
from tests.calibrate.distributions import ON_POINTS, SPREAD, draw

CALIBRATORS = (minmax, percentile, entropy, mse)
VALUES = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-100, 100, width=32))
SETTINGS = pytest.mark.parametrize(("levels", "unsigned"), [(127, False), (255, True)])
each = pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda m: m.__name__.rsplit(".", 1)[-1])


@each
@SETTINGS
@pytest.mark.parametrize("name", [*SPREAD, *ON_POINTS])
def test_the_range_lies_within_the_data(calibrator, levels, unsigned, name):
    values = np.abs(draw(name)) if unsigned else draw(name)
    statistics = statistics_of(values)
    assert statistics.amax == np.abs(values).max()
    assert 0 < calibrator.choose(statistics, levels=levels, unsigned=unsigned) <= statistics.amax


@each
@settings(max_examples=25, deadline=None)
@given(values=VALUES)
def test_the_range_never_exceeds_the_data(calibrator, values):
    statistics = statistics_of(values)
    amax = calibrator.choose(statistics, levels=127, unsigned=False)
    assert (0 < amax <= statistics.amax) if statistics.amax else amax == 0


@each
@settings(max_examples=25, deadline=None)
@given(values=VALUES, power=st.integers(-20, 20))
def test_the_range_scales_with_the_data(calibrator, values, power):
    values = values[np.abs(values) > 2.0**-60]
    if values.size:
        plain = calibrator.choose(statistics_of(values), levels=127, unsigned=False)
        scaled = calibrator.choose(statistics_of(values * np.float32(2.0**power)), levels=127, unsigned=False)
        assert scaled == pytest.approx(plain * 2.0**power, rel=1e-9)


@each
@settings(max_examples=25, deadline=None)
@given(values=VALUES, data=st.data())
def test_neither_order_nor_batches_matter(calibrator, values, data):
    order = np.array(data.draw(st.permutations(range(values.size))))
    state = Accumulator("x", None)
    for part in np.split(values[order], [data.draw(st.integers(0, values.size))]):
        state.add(part, 0)
    whole = calibrator.choose(statistics_of(values), levels=127, unsigned=False)
    assert calibrator.choose(state.finish(), levels=127, unsigned=False) == whole


@each
def test_a_wider_tensor_gets_a_wider_range(calibrator):
    values = draw("laplace", 20_000)
    ranges = [
        calibrator.choose(statistics_of(values * np.float32(f)), levels=127, unsigned=False) for f in (1, 1.3, 1.9, 2.7)
    ]
    assert ranges == sorted(ranges)
    assert len(set(ranges)) == 4


@each
def test_a_constant_keeps_its_value_to_one_bin(calibrator):
    statistics = statistics_of(draw("constant"))
    amax = calibrator.choose(statistics, levels=127, unsigned=False)
    assert amax == pytest.approx(0.7, abs=statistics.histogram.width)


@each
def test_all_zeros_have_no_range(calibrator):
    assert calibrator.choose(statistics_of(draw("zero")), levels=127, unsigned=False) == 0.0


@each
def test_a_lone_spike_among_zeros_sets_the_range(calibrator):
    statistics = statistics_of(draw("spike"))
    amax = calibrator.choose(statistics, levels=127, unsigned=False)
    assert amax == pytest.approx(5.0, abs=2 * statistics.histogram.width)


@each
def test_unsigned_integers_for_negative_values_are_refused(calibrator):
    with pytest.raises(UsageError, match="negative"):
        calibrator.choose(statistics_of(draw("gaussian", 100)), levels=255, unsigned=True)


@each
def test_a_tensor_without_elements_is_refused(calibrator):
    with pytest.raises(UsageError, match="without elements"):
        calibrator.choose(statistics_of(np.empty(0, np.float32)), levels=127, unsigned=False)


@given(VALUES)
def test_mse_is_never_worse_than_minmax_on_its_own_measure(values):
    statistics = statistics_of(values)
    if statistics.amax:
        chosen = mse.choose(statistics, levels=127, unsigned=False)
        errors = expected_error(statistics, np.array([chosen, statistics.amax]), 127)
        assert errors[0] <= errors[1]
