"""The judge of outputs bites: each kind of difference that published comparers let pass is refused here."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.compare import TOLERANCES, compare_arrays, compare_outputs, tolerance_of
from hwc.errors import UsageError

FP32 = TOLERANCES["fp32"]


def passes(expected, got, tolerance=FP32) -> bool:
    return compare_arrays("y", np.asarray(expected), np.asarray(got), tolerance).passed


@pytest.mark.parametrize("precision", TOLERANCES)
def test_gross_errors_fail_in_every_precision(precision):
    tolerance = tolerance_of(precision)
    assert not passes([1.0], [1000.0], tolerance)
    assert not passes([1000.0], [1.0], tolerance)
    assert not passes([0.0], [8.0], tolerance)
    assert not passes([8.0], [0.0], tolerance)
    assert not passes([1.0, 2.0], [2.0, 1.0], tolerance)
    assert not passes([1.0], [-1.0], tolerance)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_the_limit_is_where_it_is_stated(precision):
    tolerance = dataclasses.replace(tolerance_of(precision), sqnr_db=None)  # the way past the limit is tested by itself
    reference = np.asarray([4.0, 0.01])
    limit = tolerance.rtol * 4.0 + tolerance.atol
    assert passes(reference, reference + [0, 0.99 * limit], tolerance)
    assert not passes(reference, reference + [0, 1.01 * limit], tolerance)


def test_the_scale_is_the_largest_of_the_reference_not_of_what_came_out():
    assert not passes([0.0, 1.0], [0.0, 1e9])
    assert not passes(np.ones(1000), np.r_[np.ones(999), 1.001])


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ([1.0], [np.nan]),
        ([np.nan], [1.0]),
        ([1.0], [np.inf]),
        ([np.inf], [-np.inf]),
        ([np.nan], [np.inf]),
        ([np.nan, 1.0], [1.0, np.nan]),
    ],
)
def test_nan_and_infinity_in_other_places_fail_and_are_counted(expected, got):
    difference = compare_arrays("y", np.asarray(expected), np.asarray(got), FP32)
    assert not difference.passed
    assert f"({len(expected)} elements)" in difference.reason


def test_nan_and_infinity_in_the_same_places_pass_and_hide_nothing_else():
    assert passes([np.nan, np.inf, -np.inf, 1.0], [np.nan, np.inf, -np.inf, 1.0])
    assert not passes([np.nan, np.inf, 1.0], [np.nan, np.inf, 2.0])
    assert passes([np.nan], [np.nan])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_and_truth_values_must_be_equal(dtype):
    one = np.asarray([0, 1, 1], dtype)
    assert passes(one, one.copy())
    difference = compare_arrays("y", one, np.asarray([0, 1, 0], dtype), FP32)
    assert (difference.passed, difference.reason) == (False, "1 of 3 elements differ")


def test_large_integers_are_not_rounded_to_floats_before_they_are_compared():
    assert not passes(np.int64([2**53]), np.int64([2**53 + 1]))


def test_strings_must_be_equal():
    assert passes(np.asarray(["a"], object), np.asarray(["a"], object))
    assert not passes(np.asarray(["a"], object), np.asarray(["b"], object))


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (), (4,)])
def test_another_shape_fails_even_where_numpy_would_broadcast(shape):
    difference = compare_arrays("y", np.ones(3), np.ones(shape), FP32)
    assert not difference.passed and "shape" in difference.reason


def test_the_imaginary_part_counts():
    assert passes(np.asarray([1 + 2j]), np.asarray([1 + 2j]))
    assert not passes(np.asarray([1 + 2j]), np.asarray([1 + 3j]))


def test_bfloat16_is_compared_as_the_float_it_is():
    one = np.asarray([1.0, 2.0], ml_dtypes.bfloat16)
    assert passes(one, np.asarray([1.0, 2.015625], ml_dtypes.bfloat16), TOLERANCES["bf16"])
    assert not passes(one, np.asarray([1.0, 3.0], ml_dtypes.bfloat16), TOLERANCES["bf16"])


def test_empty_outputs_agree():
    assert passes(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))


def test_a_missing_output_fails_and_the_order_is_the_references():
    found = compare_outputs({"b": np.ones(2), "a": np.ones(2)}, {"a": np.ones(2), "c": np.ones(2)}, FP32)
    assert [(d.output, d.passed, d.reason) for d in found] == [("b", False, "missing"), ("a", True, "")]


def test_the_figures_of_a_known_difference():
    difference = compare_arrays("y", np.asarray([3.0, -4.0]), np.asarray([3.0, -3.0]), FP32)
    assert (difference.max_abs, difference.relative) == (1.0, 0.25)
    assert difference.sqnr_db == pytest.approx(10 * np.log10(25))
    assert compare_arrays("y", np.ones(2), np.ones(2), FP32).sqnr_db == float("inf")


@settings(max_examples=40, deadline=None, database=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(0, 19), st.floats(0.01, 10))
def test_one_element_off_by_a_hundredth_of_the_largest_never_passes_as_fp32(values, index, share):
    reference = np.asarray(values)
    wrong = reference.copy()
    wrong[index % len(values)] += share * (np.abs(reference).max() + 1)
    assert not passes(reference, wrong)


def test_a_precision_without_a_stated_tolerance_is_refused():
    with pytest.raises(UsageError, match="'fp8'"):
        tolerance_of("fp8")


def test_int8_passes_by_its_noise_and_fails_when_the_whole_tensor_is_wrong():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal(1000).astype(np.float32)
    one_off = reference.copy()
    one_off[7] += 5.0
    tolerance = tolerance_of("int8")
    assert compare_arrays("y", reference, one_off, tolerance).passed
    assert not compare_arrays("y", reference, one_off, tolerance_of("bf16")).passed
    drowned = compare_arrays("y", reference, reference + rng.standard_normal(1000).astype(np.float32), tolerance)
    assert not drowned.passed and "dB" in drowned.reason
