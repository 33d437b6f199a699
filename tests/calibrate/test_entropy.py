"""The entropy calibrator against the definition written out bin by bin, and against ONNX Runtime's."""

import contextlib
import io

import numpy as np
import pytest

from hwc.calibrate.entropy import choose, divergences
from hwc.calibrate.tensor_statistics import statistics_of
from tests.calibrate.distributions import SPREAD, divergence, draw


@pytest.mark.parametrize("groups", [16, 128])
@pytest.mark.parametrize("name", SPREAD)
def test_divergences_are_those_of_the_definition(name, groups):
    magnitude = np.abs(draw(name, 5_000))
    counts, _ = np.histogram(magnitude[magnitude > 0], 400)
    sizes = np.array([groups, groups + 1, 200, 255, 256, 257, 399, 400])
    found = divergences(counts.astype(np.float64), sizes, groups)
    assert found == pytest.approx([divergence(list(counts), size, groups) for size in sizes], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("levels", "unsigned"), [(127, False), (255, True)])
@pytest.mark.parametrize("name", ["gaussian", "outlier", "relu"])
def test_the_choice_is_the_best_of_the_definition(name, levels, unsigned):
    values = np.abs(draw(name, 3_000))
    statistics = statistics_of(values)
    amax = choose(statistics, levels=levels, unsigned=unsigned)
    width = 2 * statistics.histogram.width
    counts, _ = np.histogram(values[values > 0], 4096, (0, 4096 * width))
    used = int(np.flatnonzero(counts)[-1]) + 1
    own = divergence(list(counts), min(round(amax / width), used), levels + 1)
    tried = range(levels + 1, used + 1, 499)
    assert all(own <= divergence(list(counts), size, levels + 1) + 1e-12 for size in tried)


def test_the_divergence_is_zero_where_nothing_is_lost():
    counts = np.zeros(64)
    counts[:16] = 3.0
    assert divergences(counts, np.array([16]), 16) == pytest.approx([0.0], abs=1e-12)
    assert divergences(counts, np.array([64]), 16)[0] == pytest.approx(0.0, abs=1e-12)  # 4 equal bins per group
    counts[:16] = np.arange(1, 17)
    assert divergences(counts, np.array([64]), 16)[0] > 0.01


def test_a_range_with_nothing_inside_is_never_taken():
    counts = np.zeros(64)
    counts[40] = 9.0
    found = divergences(counts, np.array([16, 40, 41, 64]), 16)
    assert np.isinf(found[:2]).all()
    assert np.isfinite(found[2:]).all()
    assert found.tolist() == pytest.approx([divergence(list(counts), size, 16) for size in (16, 40, 41, 64)])


def test_an_outlier_behind_a_gap_does_not_force_the_whole_range():
    assert choose(statistics_of(draw("outlier")), levels=127, unsigned=False) < 10


def test_it_is_not_minmax():
    for name in ("laplace", "heavy", "outlier", "relu"):
        statistics = statistics_of(draw(name))
        assert choose(statistics, levels=127, unsigned=False) < 0.95 * statistics.amax, name


def test_zeros_change_nothing():
    values = draw("laplace", 20_000)
    padded = np.concatenate([values, np.zeros(200_000, np.float32)])
    ranges = [choose(statistics_of(v), levels=127, unsigned=False) for v in (values, padded)]
    assert ranges[0] == ranges[1]


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_onnx_runtime_is_not_far(name):
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    values = draw(name)
    collector = calibrate.HistogramCollector("entropy", True, 1024, 255, 99.99, "same")
    with contextlib.redirect_stdout(io.StringIO()):
        collector.collect({"x": [values]})
        theirs = float(collector.compute_entropy()["x"][1])
    # Theirs has both signs in one histogram of 1024 bins and puts the remainder of a division into the last group, so
    # it moves in coarse steps; a third is the agreement to be had.
    assert choose(statistics_of(values), levels=127, unsigned=False) == pytest.approx(theirs, rel=0.33)
