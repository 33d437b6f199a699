"""Integers of weights: rounding, axes, zero channels, shared weights, the limit on pairs, calibration by maximum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.precision.find_points import find_points
from hwc.precision.limit_pairs import exceeds, limit_pairs, pair_scale
from hwc.precision.plan import QuantRules
from hwc.precision.quantize_weights import from_pair_rows, pair_rows, quantize_weight, quantize_weights
from tests.passes.build import build, node, weight
from tests.precision.placed import TENSORRT, groups_of

PAIRS = QuantRules(unsigned=True, pair_limit=128)
UNROLLED = QuantRules(unsigned=True, pair_limit=128, pair_flat=True)


def one(op, array, x, rules=TENSORRT, **attributes):
    model = build([node(op, ["x", "w"], ["y"], name="n", **attributes)], {"x": list(x)}, ["y"], {"w": array})
    points, _ = find_points(model, groups_of(model), rules)
    return model.graph.node("n"), quantize_weights(model, groups_of(model), points, rules)["w"]


LAYERS = [
    ("Conv", (6, 4, 3, 3), (1, 4, 8, 8), {}, 0),
    ("Conv", (6, 5, 3), (1, 5, 8), {}, 0),
    ("Conv", (6, 2, 3, 3, 3), (1, 2, 6, 6, 6), {}, 0),
    ("Conv", (6, 1, 3, 3), (1, 6, 8, 8), {"group": 6}, 0),
    ("Conv", (6, 3, 3, 3), (1, 6, 8, 8), {"group": 2}, 0),
    ("ConvTranspose", (4, 6, 2, 2), (1, 4, 5, 5), {"strides": [2, 2]}, 1),
    ("ConvTranspose", (4, 3, 2, 2), (1, 4, 5, 5), {"group": 2}, None),
    ("Gemm", (6, 8), (2, 8), {"transB": 1}, 0),
    ("Gemm", (8, 6), (2, 8), {}, 1),
    ("MatMul", (8, 6), (2, 3, 8), {}, 1),
    ("MatMul", (3, 8, 6), (3, 2, 8), {}, 2),
    ("MatMul", (8,), (2, 8), {}, None),
]


@pytest.mark.parametrize(("op", "shape", "x", "attributes", "axis"), LAYERS)
def test_each_layer_has_its_axis_and_rounds_half_to_even(op, shape, x, attributes, axis):
    array = weight(*shape)
    _, got = one(op, array, x, **attributes)
    assert got.axis == axis and got.integers.dtype == np.int8 and got.scale.dtype == np.float32
    rows = array[None] if axis is None else np.moveaxis(array, axis, 0)
    integers = got.integers[None] if axis is None else np.moveaxis(got.integers, axis, 0)
    for row, found, scale in zip(rows, integers, got.scale.reshape(-1), strict=True):
        assert scale == np.float32(np.abs(row.astype(np.float64)).max() / 127)
        expected = [max(-127, min(127, round(float(v / scale)))) for v in row.reshape(-1)]  # Python rounds half to even
        assert found.reshape(-1).tolist() == expected
    assert np.abs(got.dequantize() - array).max() <= got.scale.max() / 2 * 1.0001


@pytest.mark.parametrize(("op", "shape", "x", "attributes", "axis"), LAYERS)
@pytest.mark.parametrize("rules", [PAIRS, UNROLLED])
def test_rows_of_pairs_go_back_to_where_they_came_from(op, shape, x, attributes, axis, rules):
    found, got = one(op, weight(*shape), x, **attributes)
    if op == "ConvTranspose" and axis is None:
        return  # a grouped one has no integer kernel, so no pairs
    rows = pair_rows(got.integers, found, rules)
    assert np.array_equal(from_pair_rows(rows, found, rules, shape), got.integers)


def test_pairs_are_adjacent_input_channels_at_one_position():
    found, _ = one("Conv", weight(2, 4, 1, 2), (1, 4, 3, 3))
    names = np.arange(16).reshape(2, 4, 1, 2)
    assert pair_rows(names, found, PAIRS)[0, :, 0].tolist() == [0, 2, 4, 6]
    assert pair_rows(names, found, UNROLLED)[0, :, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    found, _ = one("ConvTranspose", weight(4, 2, 1, 2), (1, 4, 3, 3))
    assert pair_rows(names.reshape(4, 2, 1, 2), found, PAIRS)[1, :, 0].tolist() == [2, 6, 10, 14]


def test_a_channel_of_zeros_gets_a_harmless_scale():
    array = weight(3, 4, 1, 1)
    array[1] = 0
    array[2] = 1e-42
    for rules in (TENSORRT, PAIRS):
        _, got = one("Conv", array, (1, 4, 3, 3), rules)
        assert got.scale[1] == 1 and not got.integers[1].any()
        assert np.isfinite(got.dequantize()).all() and (got.scale > 0).all()


def test_a_weight_of_two_layers_is_quantized_once_and_two_axes_make_one_scale():
    nodes = [node("MatMul", ["x", "w"], ["a"], name="a"), node("MatMul", ["a", "w"], ["y"], name="b")]
    array = weight(6, 6)
    model = build(nodes, {"x": [2, 6]}, ["y"], {"w": array})
    points, _ = find_points(model, groups_of(model), TENSORRT)
    assert quantize_weights(model, groups_of(model), points, TENSORRT)["w"].axis == 1
    nodes[1] = node("Gemm", ["a", "w"], ["y"], name="b", transB=1)
    model = build(nodes, {"x": [2, 6]}, ["y"], {"w": array})
    got = quantize_weight([model.graph.node("a"), model.graph.node("b")], PAIRS)
    assert got.axis is None and got.scale.shape == ()
    for name in "ab":
        assert exceeds(pair_rows(got.integers, model.graph.node(name), PAIRS), 128) == 0


@pytest.mark.parametrize(("op", "shape", "x", "attributes", "axis"), LAYERS)
@pytest.mark.parametrize("rules", [PAIRS, UNROLLED])
def test_no_pair_exceeds_the_limit(op, shape, x, attributes, axis, rules):
    found, got = one(op, np.sign(weight(*shape)) * 0.3, x, rules, **attributes)
    depthwise = op == "Conv" and shape[1] == 1
    if depthwise or (op == "ConvTranspose" and axis is None):
        assert np.abs(got.integers).max() == 127
        return
    assert exceeds(pair_rows(got.integers, found, rules), 128) == 0
    assert np.abs(got.integers).max() <= 127


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(1, 3), st.sampled_from([0.1, 1.0, 3.0]), st.integers(0, 10**6))
def test_limited_pairs_lose_less_than_seven_bits(channels, positions, tail, seed):
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((2, channels, positions)) ** 3 * tail).astype(np.float32)
    scale = pair_scale(rows, 128, 127)[:, None, None]
    exact = rows / scale
    got = limit_pairs(np.rint(exact).astype(np.int8), exact, 128)
    assert exceeds(got, 128) == 0
    # A pair over the limit is moved by one step at most, and only towards zero.
    moved = np.abs(np.rint(exact)) - np.abs(got)
    assert moved.min() >= 0 and moved.max() <= 1
    half = np.abs(rows).max(axis=(1, 2), keepdims=True) / 64
    assert (scale <= half * (1 + 1e-12)).all()


def test_the_cheaper_element_of_a_pair_is_moved():
    exact = np.array([64.4, 64.9]).reshape(1, 2, 1)
    assert limit_pairs(np.array([64, 65]).reshape(1, 2, 1), exact, 128).ravel().tolist() == [64, 64]
    exact = np.array([-65.5, 62.6]).reshape(1, 2, 1)
    assert limit_pairs(np.array([-66, 63]).reshape(1, 2, 1), exact, 128).ravel().tolist() == [-65, 63]


def test_the_check_of_pairs_bites():
    assert exceeds(np.array([[[100], [29], [127], [1]]]), 128) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))
def test_calibrating_dequantized_weights_by_their_maximum_gives_the_same_integers(outputs, inputs, seed):
    rng = np.random.default_rng(seed)
    array = (rng.standard_normal((outputs, inputs, 3, 3)) * 10.0 ** rng.integers(-6, 4)).astype(np.float32)
    _, got = one("Conv", array, (1, inputs, 4, 4))
    grid = got.dequantize()
    again = np.float32(np.abs(grid).reshape(outputs, -1).max(axis=1)) / np.float32(127)
    integers = np.clip(np.rint(grid / again[:, None, None, None]), -127, 127)
    assert np.array_equal(integers, got.integers)
    assert (np.abs(got.integers).reshape(outputs, -1).max(axis=1) == 127).all()


def test_a_step_is_never_taken_from_a_zero():
    exact = np.array([-0.4, 200.0]).reshape(1, 2, 1)
    assert limit_pairs(np.array([0, 200], np.int16).reshape(1, 2, 1), exact, 128).ravel().tolist() == [0, 128]
    # The best pair within the limit, found step by step, is the nearest one.
    exact = np.array([100.0, 60.0]).reshape(1, 2, 1)
    assert limit_pairs(np.array([100, 60]).reshape(1, 2, 1), exact, 128).ravel().tolist() == [84, 44]
