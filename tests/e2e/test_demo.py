"""The demo on the real EfficientNet-Lite0: 18 of 20 photos, as PyTorch has, on a CPU and as an RTX graph."""

import numpy as np
import pytest

from benchmarks import demo
from benchmarks.models.efficientnet_lite0 import prepare_photos
from hwc.compile import CompileRequest, compile_model
from hwc.profile.measure import MeasureOptions
from hwc.store import Store
from tests.house.repository import ROOT


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One cache for both rows, so that the network is captured once."""
    return Store(tmp_path_factory.mktemp("steps"))


def row_of(target, precision, out, store):
    model = str(ROOT / demo.MODEL)
    bundle, _ = compile_model(CompileRequest(model, target, out, precision=precision), store=store)
    return bundle, dict(zip(demo.HEAD, demo.describe_row(bundle, out)))


@pytest.fixture
def short(monkeypatch):
    """Latency is measured for a moment only: no test judges it."""
    monkeypatch.setattr(demo, "MeasureOptions", lambda **_: MeasureOptions(warmup_s=0.01, duration_s=0.05, min_runs=3))


def test_the_cpu_row_is_built_run_and_right(store, tmp_path, short):
    bundle, row = row_of("cpu", "fp32", tmp_path / "out", store)
    assert bundle.engine.state == "verified"
    assert (row["target"], row["precision"], row["top-1"]) == ("cpu", "fp32", "18/20")
    low, _, high = row["p50 / p95 ms"].partition(" / ")
    assert 0 < float(low) <= float(high)


def test_the_rtx_row_is_built_judged_elsewhere_and_never_timed(store, tmp_path, short):
    pytest.importorskip("tensorrt_rtx")
    bundle, row = row_of("rtx-4090", "fp16", tmp_path / "out", store)
    assert bundle.engine.state == "built" and dict(bundle.engine.precision_built)["fp16"] > 0
    assert row["top-1"] == "18/20 (graph in ONNX Runtime)"
    assert row["p50 / p95 ms"] == "needs GeForce RTX 4090"
    assert float(row["activations MB"]) > 0


def test_a_network_that_always_says_the_same_is_counted_as_wrong():
    _, labels = prepare_photos()
    says_one = np.eye(1000, dtype=np.float32)[[1]]
    assert len(labels) == 20
    assert demo.count_photos(lambda feeds: {"y": says_one}) == f"{sum(int(label) == 1 for label in labels)}/20"
