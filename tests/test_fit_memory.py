"""The memory step: a bundle under a budget computes the same; what cannot be kept is refused with the number."""

import numpy as np
import onnx_ir as ir
import pytest

from hwc.bundle import read_bundle
from hwc.compile import CompileRequest, compile_model
from hwc.errors import TargetError, UsageError
from hwc.quantize import CalibrationOptions
from hwc.reduce.live_bytes import peak_bytes
from hwc.sessions import open_bundle
from hwc.store import Store
from tests.reduce.nets import chain

SHAPE = (3, 40, 40)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.onnx"
    ir.save(chain(SHAPE), path)
    return path


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def run(folder, feed):
    with open_bundle(folder) as session:
        return session.run({"image": feed})


@pytest.mark.parametrize("target", ["cpu", "rtx-4090"])
def test_the_graph_of_the_bundle_keeps_the_budget(model, store, tmp_path, target):
    plain = peak_bytes(chain(SHAPE))
    budget = int(plain * 0.6)
    request = CompileRequest(str(model), target, tmp_path / "out", precision="fp32", memory_budget=budget)
    if target != "cpu":
        pytest.importorskip("tensorrt_rtx")
    bundle, _ = compile_model(request, store=store)
    step = next(step for step in bundle.steps if step.name == "fit_memory")
    assert step.rewrites and step.digest_before != step.digest_after == bundle.engine.key.model_digest
    assert any("memory budget: peak of activations" in note for note in bundle.notes)
    found = ir.load(tmp_path / "out" / "model.onnx")
    assert peak_bytes(found) <= budget and any(node.op_type == "Slice" for node in found.graph)
    assert read_bundle(tmp_path / "out") == bundle


def test_the_engine_computes_what_the_whole_graph_computes(model, store, tmp_path):
    feed = np.random.default_rng(3).standard_normal((1, *SHAPE)).astype(np.float32)
    for name, budget in (("whole", 0), ("tiled", int(peak_bytes(chain(SHAPE)) * 0.6))):
        request = CompileRequest(str(model), "cpu", tmp_path / name, precision="fp32", memory_budget=budget)
        _, reused = compile_model(request, store=store)
        again, reused = compile_model(request, store=store)
        assert ("memory budget" in reused) == bool(budget)
    whole, tiled = (run(tmp_path / name, feed) for name in ("whole", "tiled"))
    for key, array in whole.items():
        np.testing.assert_allclose(tiled[key], array, rtol=1e-5, atol=1e-6)


def test_a_budget_below_the_least_names_the_least(model, store, tmp_path):
    request = CompileRequest(str(model), "cpu", tmp_path / "out", precision="fp32", memory_budget=100)
    with pytest.raises(TargetError, match="no set of rewrites found fits") as caught:
        compile_model(request, store=store)
    assert "bytes" in caught.value.got and not (tmp_path / "out").exists()


def test_a_budget_and_calibration_exclude_each_other(model, tmp_path):
    calibration = CalibrationOptions("photos")
    with pytest.raises(UsageError, match="cannot be asked for together"):
        CompileRequest(str(model), "cpu", tmp_path / "out", calibration=calibration, memory_budget=10**6)
