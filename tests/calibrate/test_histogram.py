"""The histogram of |x|: exact counts, whatever the order, the batches and the growth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hwc.calibrate.histogram import BINS, MIN_EXPONENT, Histogram, exponent_of, merge_histograms, merge_pairs
from hwc.calibrate.tensor_statistics import Accumulator, statistics_of

FLOATS = hnp.arrays(
    np.float32, st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32) | st.floats(-(2.0**-10), 2.0**-10, width=32)
)


def expected_counts(values: np.ndarray) -> np.ndarray:
    """np.histogram over the final range, in float64."""
    magnitude = np.abs(values.astype(np.float64))
    end = 2.0**MIN_EXPONENT
    while end <= magnitude.max():
        end *= 2
    counts, _ = np.histogram(magnitude[magnitude > 0], BINS, (0.0, end))
    return counts


@given(FLOATS)
def test_counts_are_those_of_numpy(values):
    histogram = statistics_of(values).histogram
    assert np.array_equal(histogram.counts, expected_counts(values))
    assert histogram.zeros == np.count_nonzero(values == 0)
    assert histogram.nonzeros + histogram.zeros == values.size


@given(FLOATS, st.data())
def test_order_and_batches_do_not_matter(values, data):
    order = np.array(data.draw(st.permutations(range(values.size))))
    cut = data.draw(st.integers(0, values.size))
    state = Accumulator("x", None)
    for part in np.split(values[order], [cut]):
        state.add(part, 0)
    split, whole = state.finish(), statistics_of(values)
    assert np.array_equal(split.histogram.counts, whole.histogram.counts)
    assert split.histogram.exponent == whole.histogram.exponent
    assert (split.min, split.max, split.negative, split.amax) == (whole.min, whole.max, whole.negative, whole.amax)
    assert split.sum == pytest.approx(whole.sum, rel=1e-5, abs=1e-5 * whole.amax * whole.count)


@given(FLOATS, FLOATS)
def test_merging_is_counting_both(first, second):
    merged = merge_histograms(statistics_of(first).histogram, statistics_of(second).histogram)
    direct = statistics_of(np.concatenate([first, second])).histogram
    assert np.array_equal(merged.counts, direct.counts)
    assert (merged.exponent, merged.zeros, merged.amax) == (direct.exponent, direct.zeros, direct.amax)


def test_the_range_is_the_power_of_two_above_the_largest():
    assert [exponent_of(x) for x in (0.0, 0.75, 1.0, 1.5, 2.0, 1e-40)] == [MIN_EXPONENT, 0, 1, 1, 2, MIN_EXPONENT]
    assert exponent_of(float(np.finfo(np.float32).max)) == 128


def test_growth_beyond_all_bins_leaves_one():
    counts = np.arange(BINS)
    for times in (13, 14, 200):
        merged = merge_pairs(counts, times)
        assert merged[0] == counts.sum()
        assert not merged[1:].any()
    assert np.array_equal(merge_pairs(counts, 0), counts)
    assert np.array_equal(merge_pairs(counts, 1)[: BINS // 2], counts[::2] + counts[1::2])


@pytest.mark.parametrize("values", [[1e-45, 2e-40], [3e38, -3e38], [1e-45, 3e38], [0.0, -0.0]])
def test_the_ends_of_float32(values):
    statistics = statistics_of(np.array(values, np.float32))
    assert statistics.histogram.nonzeros + statistics.histogram.zeros == 2
    assert np.isfinite([statistics.sum, statistics.sum_squares]).all()
    low, high, counts = statistics.histogram.filled()
    assert (high <= statistics.amax).all()
    assert (low <= high).all()
    assert counts.sum() == np.count_nonzero(values)


def test_a_lost_count_is_noticed():
    values = np.arange(1, 100, dtype=np.float32)
    histogram = statistics_of(values).histogram
    broken = histogram.counts.copy()
    broken[np.flatnonzero(broken)[3]] -= 1
    assert not np.array_equal(Histogram(broken, histogram.exponent, 0, 99.0).counts, expected_counts(values))
