"""The percentile against numpy's on the samples, against formulas, and against ONNX Runtime's collector."""

import contextlib
import io
import math

import numpy as np
import pytest

from hwc.calibrate.percentile import choose
from hwc.calibrate.tensor_statistics import statistics_of
from hwc.errors import UsageError
from tests.calibrate.distributions import SPREAD, draw


def at(values: np.ndarray, percentile: float) -> float:
    return choose(statistics_of(values), levels=127, unsigned=False, percentile=percentile)


@pytest.mark.parametrize("percentile", [99.99, 99.9, 99.0, 80.0])
@pytest.mark.parametrize("name", SPREAD)
def test_it_is_numpys_to_one_bin(name, percentile):
    values = draw(name)
    width = statistics_of(values).histogram.width
    expected = np.sort(np.abs(values))[math.ceil(percentile / 100 * values.size) - 1]
    assert at(values, percentile) == pytest.approx(float(expected), abs=width)


@pytest.mark.parametrize(
    ("name", "percentile", "expected"),
    [
        ("uniform", 90.0, 0.9),
        ("laplace", 99.0, -math.log(0.01)),
        ("gaussian", 95.0, 1.959964),
        ("relu", 97.5, 1.959964),  # half of it zero
    ],
)
def test_it_is_the_quantile_of_the_distribution(name, percentile, expected):
    assert at(draw(name, 400_000), percentile) == pytest.approx(expected, rel=0.02)


def test_100_is_the_largest_magnitude():
    values = draw("heavy")
    assert at(values, 100.0) == np.abs(values).max()


def test_it_grows_with_the_percentile():
    values = draw("laplace")
    ranges = [at(values, p) for p in (50, 90, 99, 99.9, 99.99, 100)]
    assert ranges == sorted(ranges)


def test_an_outlier_is_clipped():
    assert at(draw("outlier"), 99.99) < 5 < 40


def test_mostly_zeros_fall_back_on_the_values_that_are_not():
    values = np.zeros(100_000, np.float32)
    values[:3] = [1.0, 2.0, 4.0]
    assert at(values, 99.99) == pytest.approx(4.0, abs=0.01)
    assert at(values, 50.0) == pytest.approx(1.5, abs=0.51)


@pytest.mark.parametrize("percentile", [0.0, -1.0, 100.1, math.nan])
def test_other_percentiles_are_refused(percentile):
    with pytest.raises(UsageError, match="percentile"):
        at(draw("gaussian", 100), percentile)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "relu", "heavy"])
def test_onnx_runtime_finds_the_same(name):
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    values = draw(name)
    collector = calibrate.HistogramCollector("percentile", True, 2048, 128, 99.9, "same")
    with contextlib.redirect_stdout(io.StringIO()):
        collector.collect({"x": [values]})
        theirs = float(collector.compute_percentile()["x"][1])
    # Theirs has a bin of max |x| / 2048 and answers with an edge of it.
    assert at(values, 99.9) == pytest.approx(theirs, abs=2 * float(np.abs(values).max()) / 2048)
