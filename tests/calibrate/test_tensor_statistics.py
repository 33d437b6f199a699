"""The figures of one tensor against numpy on all values at once."""

import sys

import numpy as np
import pytest

from hwc.calibrate.tensor_statistics import Accumulator, merge_statistics, statistics_of
from hwc.errors import InternalError, UsageError


def batches(count: int = 5, shape: tuple = (2, 3, 9, 11)) -> list:
    rng = np.random.default_rng(3)
    scale = np.array([1.0, 10.0, 0.1], np.float32).reshape(1, 3, 1, 1)
    return [(rng.normal(0.3, 1 + i, shape) * scale).astype(np.float32) for i in range(count)]


def gathered(parts: list, axis: int | None):
    state = Accumulator("x", axis)
    for index, part in enumerate(parts):
        state.add(part, index)
    return state.finish()


def test_every_figure_is_numpys():
    parts = batches()
    found, all_ = gathered(parts, 1), np.concatenate(parts).astype(np.float64)
    assert (found.samples, found.count) == (5, all_.size)
    assert (found.min, found.max, found.amax) == (all_.min(), all_.max(), np.abs(all_).max())
    assert found.negative == np.count_nonzero(all_ < 0)
    assert found.fraction_negative == pytest.approx(np.mean(all_ < 0))
    assert found.sum == pytest.approx(all_.sum(), rel=1e-5)
    assert found.sum_squares == pytest.approx((all_**2).sum(), rel=1e-5)
    assert found.mean == pytest.approx(all_.mean(), rel=1e-5)
    assert found.variance == pytest.approx(all_.var(), rel=1e-5)
    assert found.channel_mean == pytest.approx(all_.mean(axis=(0, 2, 3)), rel=1e-4)
    assert np.array_equal(found.channel_amax, np.abs(all_).max(axis=(0, 2, 3)))
    assert found.channel_count * 3 == found.count


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_channels_lie_on_the_axis_asked_for(axis):
    parts = batches(1)
    found = gathered(parts, axis)
    others = tuple(i for i in range(4) if i != axis)
    assert np.array_equal(found.channel_amax, np.abs(parts[0]).max(axis=others).astype(np.float64))
    assert found.channel_axis == axis


def test_large_tensors_are_read_in_pieces():
    values = np.random.default_rng(0).normal(size=200_003).astype(np.float32)
    found = statistics_of(values)
    assert found.count == found.histogram.nonzeros + found.histogram.zeros == values.size
    assert found.sum_squares == pytest.approx(float(np.sum(values.astype(np.float64) ** 2)), rel=1e-5)


def test_the_state_does_not_grow():
    def size(samples: int) -> int:
        state = Accumulator("x", 1)
        for index in range(samples):
            state.add(np.full((1, 3, 4), 1.0 + index, np.float32), index)
        held = [v for v in vars(state).values() if v is not None]
        return sum(v.nbytes if isinstance(v, np.ndarray) else sys.getsizeof(v) for v in held if not isinstance(v, int))

    assert size(2) == size(500)


def test_finished_statistics_do_not_change_afterwards():
    state = Accumulator("x", 1)
    state.add(np.ones((1, 2, 3), np.float32), 0)
    before = state.finish()
    state.add(np.full((1, 2, 3), 0.75, np.float32), 1)
    assert before.histogram.nonzeros == 6
    assert before.channel_sum.tolist() == [3.0, 3.0]
    assert state.finish().histogram.nonzeros == 12


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_names_tensor_and_sample(bad):
    state = Accumulator("conv_7", None)
    state.add(np.ones(4, np.float32), 0)
    with pytest.raises(UsageError, match="'conv_7' is not finite in sample 41") as caught:
        state.add(np.array([1, bad, 2, 3], np.float32), 41)
    assert ("1 NaN" if np.isnan(bad) else "1 infinite") in caught.value.got
    assert state.finish().samples == 1


def test_float64_beyond_float32_is_infinite():
    with pytest.raises(UsageError, match="not finite"):
        statistics_of(np.array([1e300]))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint8, np.int64])
def test_other_numbers_are_read_as_float32(dtype):
    assert statistics_of(np.array([0, 1, 100], dtype)).amax == 100.0


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([True]), np.array([1j])])
def test_what_is_no_number_is_refused(array):
    with pytest.raises(UsageError, match="no numbers"):
        statistics_of(array)


def test_another_number_of_channels_is_refused():
    state = Accumulator("x", 1)
    state.add(np.ones((1, 3), np.float32), 0)
    with pytest.raises(UsageError, match="number of channels in sample 1"):
        state.add(np.ones((1, 4), np.float32), 1)
    with pytest.raises(UsageError, match="number of channels"):
        Accumulator("x", 1).add(np.ones(3, np.float32), 0)


def test_empty_arrays_are_samples_without_elements():
    state = Accumulator("x", None)
    state.add(np.empty((0, 3), np.float32), 0)
    assert (state.finish().samples, state.finish().count, state.finish().amax) == (1, 0, 0.0)


def test_merged_statistics_are_those_of_both_together():
    first, second = batches(2)
    merged, direct = merge_statistics(statistics_of(first), statistics_of(second)), gathered([first, second], None)
    assert np.array_equal(merged.histogram.counts, direct.histogram.counts)
    assert (merged.count, merged.min, merged.max, merged.negative) == (
        direct.count, direct.min, direct.max, direct.negative,
    )  # fmt: skip
    assert merged.sum == pytest.approx(direct.sum)
    assert merged.sum_squares == pytest.approx(direct.sum_squares)


def test_channel_figures_that_were_not_collected_are_an_error():
    with pytest.raises(InternalError, match="per-channel"):
        statistics_of(np.ones(3, np.float32)).channel_mean  # noqa: B018
