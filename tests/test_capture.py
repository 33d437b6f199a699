"""A capture computes what the model does, keeps the inputs it was judged on, and is repeated when a file changes."""

import numpy as np
import pytest

from hwc.array_file import load_arrays, save_arrays
from hwc.artifacts import DynamicDim, TensorSpec
from hwc.capture import FEEDS, MODEL, _feeds_for, capture_model
from hwc.errors import EngineError, UsageError
from hwc.frontend.input_shapes import InputShapes, parse_shapes
from hwc.graph.evaluate import Evaluator
from hwc.store import Fingerprint, Store
from tests.e2e.tiny_models import expected_onnx, write_onnx


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    # A test before may have loaded a reader whose files are not seen; then nothing would be reused.
    monkeypatch.setattr("hwc.store._UNSEEN_READERS", ())
    return Store(tmp_path / "cache")


def test_the_graph_and_its_inputs_are_kept(store, tmp_path):
    captured, reused = capture_model(str(write_onnx(tmp_path)), InputShapes(), store=store)
    assert not reused and captured.name == "net" and captured.source["kind"] == "onnx"
    feeds = load_arrays(captured.folder / FEEDS)
    np.testing.assert_allclose(Evaluator(captured.folder / MODEL).run(feeds)["y"], expected_onnx(feeds["x"]), atol=1e-4)
    assert [s.shape for s in (*captured.inputs, *captured.outputs)] == [(1, 3, 8, 8), (1, 4, 8, 8)]


def test_it_is_reused_until_the_file_or_the_shapes_change(store, tmp_path):
    path = str(write_onnx(tmp_path, batch="N"))
    one, two = parse_shapes("x:1x3x8x8"), parse_shapes("x:2x3x8x8")
    first, _ = capture_model(path, one, store=store)
    assert capture_model(path, one, store=store) == (first, True)
    assert not capture_model(path, two, store=store)[1]
    write_onnx(tmp_path, batch="N", seed=1)
    edited, reused = capture_model(path, one, store=store)
    assert not reused and edited.digest != first.digest and edited.feeds_digest == first.feeds_digest


def test_a_capture_that_may_have_read_unseen_files_is_repeated_and_says_so(store, tmp_path, monkeypatch):
    monkeypatch.setattr("hwc.store._UNSEEN_READERS", ("numpy",))
    path = str(write_onnx(tmp_path))
    for _ in range(2):
        captured, reused = capture_model(path, InputShapes(), store=store)
        assert not reused
    assert any("repeated every time" in note for note in captured.notes)
    assert not Fingerprint((), False).still_holds()


def test_an_import_that_computes_something_else_is_an_error_and_not_kept(store, tmp_path, monkeypatch):
    real = Evaluator.run
    monkeypatch.setattr(
        Evaluator, "run", lambda self, feeds: {k: v + isinstance(self, Broken) for k, v in real(self, feeds).items()}
    )

    class Broken(Evaluator):
        pass

    monkeypatch.setattr(
        "hwc.graph.evaluate.Evaluator", lambda model: (Broken if hasattr(model, "graph") else Evaluator)(model)
    )
    with pytest.raises(EngineError, match="something else after import") as caught:
        capture_model(str(write_onnx(tmp_path)), InputShapes(), store=store)
    assert "'y'" in caught.value.where
    assert list((store.root / "capture").iterdir()) == []


def test_noise_has_the_dtype_and_the_opt_shape_of_each_input():
    specs = (
        TensorSpec("f", "float16", (DynamicDim(1, 2, 4), 3)),
        TensorSpec("i", "int64", (5,)),
        TensorSpec("b", "bool", ()),
    )
    feeds = _feeds_for(specs, None)
    assert [(a.dtype.name, a.shape) for a in feeds.values()] == [("float16", (2, 3)), ("int64", (5,)), ("bool", ())]
    assert all(np.array_equal(a, b) for a, b in zip(feeds.values(), _feeds_for(specs, None).values()))


def test_example_inputs_must_fit():
    spec = (TensorSpec("x", "float32", (1, 2)),)
    assert _feeds_for(spec, np.ones((1, 2), np.float32))["x"].sum() == 2
    assert _feeds_for(spec, {"x": np.ones((1, 2), np.float32)})["x"].sum() == 2
    for bad in (np.ones((1, 3), np.float32), np.ones((1, 2)), {"z": np.ones((1, 2), np.float32)}):
        with pytest.raises(UsageError):
            _feeds_for(spec, bad)


def test_arrays_come_back_by_any_name(tmp_path):
    arrays = {"in/put:0": np.arange(3), "names": np.float32(2.5), "a0": np.zeros((0, 2), np.float16)}
    save_arrays(tmp_path / "x.npz", arrays)
    back = load_arrays(tmp_path / "x.npz")
    assert list(back) == list(arrays)
    assert all(back[k].dtype == arrays[k].dtype and np.array_equal(back[k], arrays[k]) for k in arrays)
