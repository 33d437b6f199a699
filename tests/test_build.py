"""An engine is called verified only after it ran here and was right; what the target must build is called deferred."""

import numpy as np
import pytest

from hwc import targets
from hwc.array_file import load_arrays
from hwc.build import build_engine, build_plain
from hwc.capture import capture_model
from hwc.compare import Tolerance
from hwc.engines.base import no_progress
from hwc.errors import EngineError, UsageError
from hwc.frontend.input_shapes import InputShapes
from hwc.optimize import EXPECTED, FEEDS, OptimizeOptions, optimize_model
from hwc.store import Store
from tests.e2e.tiny_models import write_onnx


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A captured and an optimized network, and the cache that holds them."""
    store = Store(tmp_path_factory.mktemp("cache"))
    captured, _ = capture_model(str(write_onnx(tmp_path_factory.mktemp("net"))), InputShapes(), store=store)
    options = OptimizeOptions("fp32", "openvino")
    optimized, _ = optimize_model(captured, targets.load("cpu"), options, store=store, progress=no_progress)
    return captured, optimized


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


def build(optimized, store, backend, target="cpu", options=None, threads=0):
    return build_engine(
        optimized, targets.load(target), backend, options or {}, threads, store=store, progress=no_progress
    )


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "reference"])
def test_an_engine_that_ran_here_and_was_right_is_verified_and_kept(kept, store, backend):
    built, reused = build(kept[1], store, backend)
    assert not reused and built.engine.state == "verified"
    assert all((built.folder / name).is_file() for name in built.engine.files)
    assert any(note.startswith("ran here") for note in built.engine.notes)
    again, reused = build(kept[1], store, backend)
    assert reused and again == built


def test_other_threads_are_another_engine(kept, store):
    one, _ = build(kept[1], store, "openvino", threads=1)
    two, reused = build(kept[1], store, "openvino", threads=2)
    assert not reused and one.engine.key != two.engine.key
    assert ("threads", "1") in one.engine.key.options


def test_an_engine_that_is_wrong_is_an_error_and_not_kept(kept, store, monkeypatch):
    monkeypatch.setattr("hwc.build.tolerance_of", lambda precision: Tolerance(0.0, -1.0))
    with pytest.raises(EngineError, match="openvino engine gives other outputs") as caught:
        build(kept[1], store, "openvino")
    assert caught.value.where == "output 'y'" and caught.value.do
    monkeypatch.undo()
    assert not build(kept[1], store, "openvino")[1]


def test_an_engine_for_a_board_is_deferred_and_nothing_is_claimed_of_it(kept, store):
    built, reused = build(kept[1], store, "tensorrt", "agx-xavier")
    assert not reused and built.engine.state == "deferred"
    assert (built.engine.files, built.engine.kernels, built.engine.size_bytes) == ((), (), 0)
    assert built.engine.activation_bytes is None and built.engine.key.target.startswith("agx-xavier")


def test_an_unknown_engine_is_refused_and_not_kept(kept, store):
    with pytest.raises(UsageError, match="nope"):
        build(kept[1], store, "nope")
    assert list((store.root / "build").iterdir()) == []


def test_the_plain_engine_leaves_its_figures_only(kept, store):
    how = ("fp32", targets.load("cpu"), "openvino", {}, 0)
    engine, reused = build_plain(kept[0], *how, store=store, progress=no_progress)
    assert not reused and engine.kernels and engine.state != "verified"
    (entry,) = (store.root / "plain").iterdir()
    assert not (entry / "work").exists()
    assert build_plain(kept[0], *how, store=store, progress=no_progress) == (engine, True)


def test_what_an_engine_is_judged_on_is_kept_with_the_graph(kept):
    feeds, expected = (load_arrays(kept[1].folder / name) for name in (FEEDS, EXPECTED))
    assert feeds["x"].shape == (1, 3, 8, 8) and np.abs(expected["y"]).max() > 0
