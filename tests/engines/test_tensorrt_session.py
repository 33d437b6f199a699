"""TensorRT sessions on the strict stand-ins: the contract of every engine, timing, profiles, memory, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from hwc.artifacts import DynamicDim
from hwc.engines import base, cuda_memory, tensorrt
from hwc.engines.tensorrt_session import TensorrtSession, measure_latency_ms
from hwc.errors import EngineError, TargetError
from tests.engines.contract import (
    BATCH,
    Contract,
    _model,
    assert_close,
    conv_graph,
    expected_of,
    feeds_for,
    gather_graph,
    request,
)
from tests.engines.fakes import FakeDriver, build_in_process, load_fake
from tests.engines.test_tensorrt import board


@pytest.fixture
def driver(monkeypatch):
    """A CUDA driver over host memory; pycuda is not there."""
    fake = FakeDriver()
    monkeypatch.setattr(cuda_memory, "load_driver", lambda: fake)
    monkeypatch.setattr(tensorrt, "has_cuda_gpu", lambda: True)
    return fake


@pytest.fixture
def stand_in(monkeypatch):
    """Loads a version, which then builds and runs."""
    build_in_process(monkeypatch)

    def use(version, **fields):
        return load_fake(monkeypatch, version, **fields)

    return use


def build(model, folder, **fields):
    asked = request(model, folder, **{"target": board(), **fields})
    return base.build("tensorrt", asked), asked


class TestContract(Contract):
    """All that every engine promises, by TensorRT 10.3's API."""

    backend = "tensorrt"

    @pytest.fixture(autouse=True)
    def _stand_in(self, stand_in, driver, monkeypatch):
        self.driver = driver
        stand_in("10.3.0.26")
        monkeypatch.setattr("tests.engines.contract.request", self.ask)
        yield
        assert driver.contexts == 0 and not driver.alive, "a session left something behind"

    @staticmethod
    def ask(model, folder, **fields):
        return request(model, folder, **{"target": board(), **fields})


@pytest.mark.parametrize("version", ["8.5.2.2", "8.6.1.6", "10.7.0.23", "10.16.0.1", "11.1.0.1"])
@pytest.mark.parametrize("owner", ["engine", "caller"])
def test_every_version_runs_with_its_own_memory_or_ours(version, owner, stand_in, driver, tmp_path):
    stand_in(version)
    engine, asked = build(conv_graph(TensorProto.FLOAT16), tmp_path, batch=BATCH, precision="fp16")
    feeds = feeds_for(asked.inputs)
    with base.open_session(engine, asked.out_dir, activation_memory=owner) as session:
        expected = expected_of(conv_graph(TensorProto.FLOAT16), feeds)
        assert_close(session.run(feeds)["pooled"], expected["pooled"], "fp16")
        assert session.activation_bytes == (4096 if owner == "caller" else 0)
    assert not driver.alive and driver.contexts == 0


def test_times_are_those_of_the_events(stand_in, driver, tmp_path):
    stand_in("10.3.0.26")
    engine, asked = build(conv_graph(), tmp_path)
    with base.open_session(engine, asked.out_dir) as session:
        assert session.last_times() == {} == session.stage_times_ns()
        session.run(feeds_for(asked.inputs))
        times = session.last_times()
        assert set(times) == {"h2d", "gpu", "d2h", "enqueue", "host"}
        # The stand-in driver copies at 10 GB/s after 1 us, and its kernels take no time.
        up, down = 2 * 8 * 64 * 4, 2 * 8 * 16 * 4
        assert times["h2d"] == pytest.approx(1e-3 + up / 1e7, rel=1e-4)
        assert times["d2h"] == pytest.approx(1e-3 + down / 1e7, rel=1e-4) and times["gpu"] == 0.0
        assert times["host"] >= times["enqueue"] > 0
        stages = session.stage_times_ns()
        assert set(stages) == {"enqueue", "h2d", "gpu", "d2h"} and stages["h2d"] == round(times["h2d"] * 1e6)
        assert measure_latency_ms(session, runs=2, warmup=1) == 0.0


def test_buffers_are_kept_and_only_grow(stand_in, driver, tmp_path):
    stand_in("10.3.0.26")
    engine, asked = build(conv_graph(), tmp_path, batch=BATCH)
    with base.open_session(engine, asked.out_dir) as session:
        session.run(feeds_for(asked.inputs, "max"))
        made = driver.calls.count("cuMemAlloc_v2")
        for which in ("min", "opt", "max", "min"):
            session.run(feeds_for(asked.inputs, which))
        assert driver.calls.count("cuMemAlloc_v2") == made


def test_the_profile_that_holds_the_shapes_is_taken(stand_in, driver, tmp_path):
    stand_in("10.3.0.26")
    wide = DynamicDim(1, 4, 16)
    options = {"extra_profiles": "x:1x8x8x8"}
    model = conv_graph()
    engine, asked = build(model, tmp_path, batch=DynamicDim(2, 4, 8), options=options)
    # The record says what any profile may take.
    inputs = tuple(base.TensorSpec(s.name, s.dtype, (wide, *s.shape[1:])) for s in engine.inputs)
    with base.open_session(replace(engine, inputs=inputs), asked.out_dir) as session:
        for size in (4, 1, 1, 8):
            feeds = {"x": np.random.default_rng(size).standard_normal((size, 8, 8, 8)).astype(np.float32)}
            assert_close(session.run(feeds)["pooled"], expected_of(model, feeds)["pooled"], "fp32")
        with pytest.raises(EngineError, match="refuses an input"):
            session.run({"x": np.zeros((16, 8, 8, 8), np.float32)})


def test_an_output_whose_size_the_data_decide_is_allocated_as_it_comes(stand_in, driver, tmp_path):
    stand_in("10.3.0.26")
    nodes = [helper.make_node("NonZero", ["x"], ["where"], name="find")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])]
    outputs = [helper.make_tensor_value_info("where", TensorProto.INT64, [2, "found"])]
    model = _model(nodes, inputs, outputs, [])
    asked = request(model, tmp_path, target=board(), batch=DynamicDim(1, 8, 16))
    engine = base.build("tensorrt", asked)
    with base.open_session(engine, asked.out_dir) as session:
        for count in (3, 16, 1):
            feeds = {"x": (np.arange(16) < count).astype(np.float32).reshape(2, 8)}
            got = session.run(feeds)["where"]
            assert np.array_equal(got, np.stack(np.nonzero(feeds["x"])))


def test_layers_are_timed_apart(stand_in, driver, tmp_path):
    stand_in("10.3.0.26")
    engine, asked = build(conv_graph(), tmp_path)
    with base.open_session(engine, asked.out_dir) as session:
        assert session.layers() == ()  # nothing ran yet
        session.run(feeds_for(asked.inputs))
        layers = session.layers()
    assert [(kernel.name, kernel.time_us) for kernel in layers] == [
        ("stem/conv + stem/relu", 250.0),
        ("stem/pool", 250.0),
    ]


def test_a_version_compatible_plan_may_run_its_host_code(stand_in, driver, tmp_path):
    stand_in("10.3.0.26")
    engine, asked = build(conv_graph(), tmp_path, options={"version_compatible": "yes"})
    with base.open_session(engine, asked.out_dir) as session:
        session.run(feeds_for(asked.inputs))
    (asked.out_dir / "engine.request.json").write_text('{"options": {}}')
    with pytest.raises(EngineError, match="does not load") as caught:
        base.open_session(engine, asked.out_dir)
    assert "host code is not allowed" in caught.value.got
    assert not driver.alive and driver.contexts == 0


def test_an_engine_of_another_version_is_refused_with_the_runtimes_words(stand_in, driver, tmp_path):
    stand_in("8.5.2.2")
    engine, asked = build(conv_graph(), tmp_path)
    stand_in("8.6.1.6")
    with pytest.raises(EngineError, match="does not load this engine") as caught:
        base.open_session(engine, asked.out_dir)
    assert "8.5.2.2" in caught.value.got and "build it again" in caught.value.do
    assert not driver.alive and driver.contexts == 0


def test_tensorrt_8_2_builds_and_says_that_it_cannot_run(stand_in, driver, tmp_path):
    stand_in("8.2.1.8")
    engine, asked = build(conv_graph(), tmp_path, precision="fp16", options={"workspace_bytes": "1024"})
    assert engine.kernels
    with pytest.raises(TargetError, match="no tensors by name") as caught:
        base.open_session(engine, asked.out_dir)
    assert "tensorrt 8.2.1.8" in caught.value.got and "trtexec --loadEngine" in caught.value.do


def test_too_little_gpu_memory_is_one_clear_error(stand_in, monkeypatch, tmp_path):
    stand_in("10.3.0.26")
    small = FakeDriver(memory=4096)
    monkeypatch.setattr(cuda_memory, "load_driver", lambda: small)
    monkeypatch.setattr(tensorrt, "has_cuda_gpu", lambda: True)
    engine, asked = build(conv_graph(), tmp_path)
    with base.open_session(engine, asked.out_dir) as session, pytest.raises(EngineError, match="out of GPU memory"):
        session.run(feeds_for(asked.inputs))
    assert not small.alive and small.contexts == 0


def test_another_engines_record_is_refused(stand_in, driver, tmp_path):
    stand_in("10.3.0.26")
    engine, asked = build(conv_graph(), tmp_path / "a")
    other, _ = build(gather_graph(), tmp_path / "b")
    with pytest.raises(EngineError, match="not those of its record"):
        TensorrtSession(replace(engine, inputs=other.inputs), asked.out_dir)
    assert not driver.alive and driver.contexts == 0
