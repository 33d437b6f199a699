"""The largest magnitude, exactly."""

import numpy as np
import pytest

from hwc.calibrate.minmax import choose
from hwc.calibrate.tensor_statistics import statistics_of
from tests.calibrate.distributions import SPREAD, draw


@pytest.mark.parametrize("name", SPREAD)
def test_the_range_is_the_largest_magnitude(name):
    values = draw(name)
    assert choose(statistics_of(values), levels=127, unsigned=False) == np.abs(values).max()


def test_the_negative_side_counts():
    assert choose(statistics_of(np.array([-3.0, 2.0], np.float32)), levels=127, unsigned=False) == 3.0
