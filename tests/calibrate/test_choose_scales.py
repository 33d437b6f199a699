"""From statistics to scales: sharing, signs, float32, and the choice among methods."""

from dataclasses import dataclass

import numpy as np
import pytest

from hwc.artifacts import TensorScale
from hwc.calibrate import mse
from hwc.calibrate.base import expected_error
from hwc.calibrate.choose_scales import METHODS, choose_best, choose_scales
from hwc.calibrate.tensor_statistics import statistics_of
from hwc.errors import InternalError, UsageError
from hwc.precision.plan import QuantPoint
from tests.calibrate.distributions import SPREAD, draw, error_of


@dataclass(frozen=True)
class Point:
    tensor: str
    share: str = ""
    is_unsigned: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", self.share or self.tensor)


def scales_of(tensors: dict, points: list | None = None, *, method: str = "minmax", unsigned: bool = False, **options):
    found = {name: statistics_of(np.asarray(values, np.float32)) for name, values in tensors.items()}
    points = points if points is not None else [Point(name) for name in tensors]
    return choose_scales(found, points, method=method, unsigned_allowed=unsigned, **options)


def test_the_scale_is_amax_over_levels_in_float32():
    (scale,) = scales_of({"x": [-3.0, 1.0]}).values()
    assert scale == TensorScale((float(np.float32(3.0 / 127)),), None, "int8", "minmax")


def test_points_are_those_of_a_plan():
    point = QuantPoint("x", (("conv", 0),), "x", True, ("g",))
    assert scales_of({"x": [1.0]}, [point], unsigned=True)["x"].dtype == "uint8"


def test_unsigned_needs_the_engine_and_the_proof():
    tensors = {"x": [0.0, 2.0]}
    for allowed, proved, dtype, levels in (
        (True, True, "uint8", 255), (True, False, "int8", 127), (False, True, "int8", 127)
    ):  # fmt: skip
        (scale,) = scales_of(tensors, [Point("x", is_unsigned=proved)], unsigned=allowed).values()
        assert (scale.dtype, scale.scale) == (dtype, (float(np.float32(2.0 / levels)),))


def test_a_proof_that_the_data_refutes_is_our_error():
    with pytest.raises(InternalError, match="'x' was proved never negative"):
        scales_of({"x": [-1.0, 2.0]}, [Point("x", is_unsigned=True)], unsigned=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_share_is_judged_as_one_tensor(method):
    small, large = draw("gaussian", 20_000), draw("laplace", 20_000, seed=8) * 3
    points = [Point("a", "concat"), Point("b", "concat"), Point("c")]
    found = scales_of({"a": small, "b": large, "c": small}, points, method=method)
    (direct,) = scales_of({"both": np.concatenate([small, large])}, method=method).values()
    assert found["a"] == found["b"] == direct
    assert found["c"] != direct


def test_one_signed_member_makes_the_share_signed():
    points = [Point("a", "s", True), Point("b", "s", False)]
    found = scales_of({"a": [1.0], "b": [0.5]}, points, unsigned=True)
    assert {scale.dtype for scale in found.values()} == {"int8"}
    points = [Point("a", "s", True), Point("b", "s", True)]
    assert {s.dtype for s in scales_of({"a": [1.0], "b": [0.5]}, points, unsigned=True).values()} == {"uint8"}


def test_a_tensor_that_two_points_name_is_counted_once():
    values = draw("laplace", 5_000)
    found = scales_of({"a": values}, [Point("a", "s"), Point("a", "s")], method="mse")
    assert found == scales_of({"a": values}, [Point("a", "s")], method="mse")


@pytest.mark.parametrize("values", [[0.0, -0.0], [1e-45], [1e-37]])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_zeros_gets_a_harmless_scale_and_says_so(method, values, caplog):
    (scale,) = scales_of({"x": values}, method=method).values()
    assert scale.scale == (float(np.float32(1 / 127)),)
    assert "(all zero)" in scale.method or "(nothing above" in scale.method
    assert "tensor 'x' holds" in caplog.text


@pytest.mark.parametrize("values", [[1.2e-36], [3.4e38], [1e-30, 3.4e38]])
def test_every_scale_is_a_normal_float32(values):
    (scale,) = scales_of({"x": values}).values()
    assert np.finfo(np.float32).tiny <= scale.scale[0] == float(np.float32(scale.scale[0]))


@pytest.mark.parametrize("name", SPREAD)
def test_auto_is_no_worse_than_any_method_and_names_the_winner(name):
    values = draw(name)
    found = {method: scales_of({"x": values}, method=method)["x"] for method in METHODS}
    errors = {method: error_of(values, scale.scale[0] * 127, 127) for method, scale in found.items()}
    # 1 % is what auto gives for a longer range, 1 % what the histogram may be off.
    assert errors["auto"] <= min(errors.values()) * 1.02
    winner = found["auto"].method.removeprefix("auto: ")
    assert found["auto"].scale == found[winner].scale


def fixed(amax: float):
    return lambda statistics, *, levels, unsigned: amax


def test_auto_takes_the_longest_range_of_equal_errors_and_no_longer_one():
    statistics = statistics_of(draw("gaussian"))
    best = mse.choose(statistics, levels=127, unsigned=False)
    near, far = best * 1.02, best * 1.1
    errors = expected_error(statistics, np.array([best, near, far]), 127) / expected_error(statistics, best, 127)
    assert errors[1] < 1.01 < errors[2]
    calibrators = {"mse": mse.choose, "near": fixed(near), "far": fixed(far), "short": fixed(best * 0.99)}
    assert choose_best(statistics, calibrators, levels=127, unsigned=False) == ("near", near)
    del calibrators["near"]
    assert choose_best(statistics, calibrators, levels=127, unsigned=False) == ("mse", best)


def test_max_is_minmax():
    assert scales_of({"x": [1.0]}, method="max")["x"].scale == scales_of({"x": [1.0]})["x"].scale


def test_the_percentile_is_the_callers():
    values = draw("outlier")
    scales = [scales_of({"x": values}, method="percentile", percentile_at=p)["x"].scale for p in (50.0, 99.0, 100.0)]
    assert scales == sorted(scales)
    assert scales[2] == (float(np.float32(40.0 / 127)),)


def test_wrong_requests_are_refused():
    with pytest.raises(UsageError, match="no calibration method is called 'kl'"):
        scales_of({"x": [1.0]}, method="kl")
    with pytest.raises(InternalError, match="not calibrated"):
        scales_of({"x": [1.0]}, [Point("y")])
    with pytest.raises(UsageError, match="without elements"):
        scales_of({"x": []})
