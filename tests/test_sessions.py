"""A bundle opens as something that runs, in any engine; inputs are checked, and outputs are never half written."""

import errno
import os

import numpy as np
import pytest

from hwc.artifacts import DynamicDim, TensorSpec
from hwc.bundle import read_bundle
from hwc.compile import CompileRequest, compile_model
from hwc.errors import EngineError, UsageError
from hwc.sessions import make_feeds, open_bundle, open_model, save_outputs, staged_file
from hwc.store import Store
from tests.e2e.tiny_models import expected_onnx, write_onnx


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Only read it."""
    folder = tmp_path_factory.mktemp("bundle")
    compile_model(
        CompileRequest(str(write_onnx(folder)), "cpu", folder / "out", precision="fp32"), store=Store(folder / "cache")
    )
    return folder / "out"


@pytest.mark.parametrize("engine", ["", "openvino", "onnxruntime", "reference"])
def test_every_engine_gives_the_same(bundle, engine):
    with open_bundle(bundle, engine=engine, threads=1) as session:
        feeds = make_feeds(session.inputs, {})
        np.testing.assert_allclose(session.run(feeds)["y"], expected_onnx(feeds["x"]), atol=1e-4)


def test_a_bare_model_runs_and_its_build_goes_away(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    specs = read_bundle(bundle)
    with open_model(bundle / "model.onnx", specs.inputs, specs.outputs, "onnxruntime") as session:
        assert session.run(make_feeds(session.inputs, {}))["y"].shape == (1, 4, 8, 8)
    assert list(tmp_path.iterdir()) == []


def test_noise_is_seeded_and_given_inputs_are_kept():
    specs = (TensorSpec("x", "float32", (DynamicDim(1, 2, 4), 3)), TensorSpec("n", "int64", (2,)))
    first, second, other = make_feeds(specs, {}), make_feeds(specs, {}), make_feeds(specs, {}, seed=1)
    assert np.array_equal(first["x"], second["x"]) and not np.array_equal(first["x"], other["x"])
    assert first["x"].shape == (2, 3) and set(first["n"].tolist()) <= {0, 1}
    mine = np.ones((4, 3), np.float32)
    assert make_feeds(specs, {"x": mine})["x"] is mine
    for bad in ({"x": np.ones((5, 3), np.float32)}, {"x": np.ones((2, 3))}, {"z": mine}):
        with pytest.raises(UsageError):
            make_feeds(specs, bad)


def test_outputs_replace_an_old_file_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "y.npz"
    save_outputs(path, {"y": np.ones(2)})
    save_outputs(path, {"y": np.zeros(3)})
    assert np.load(path)["y"].shape == (3,)

    def fail(stream, **arrays):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(EngineError, match="the disk is full"):
        save_outputs(path, {"y": np.ones(4)})
    assert np.load(path)["y"].shape == (3,) and [p.name for p in tmp_path.iterdir()] == ["y.npz"]


def test_an_error_in_the_block_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), staged_file(tmp_path / "x") as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_a_rename_would_destroy_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(UsageError, match="not a regular file"):
            save_outputs(path, {"y": np.ones(1)})
    with pytest.raises(UsageError, match="cannot write the file"):
        save_outputs(tmp_path / "absent" / "y.npz", {"y": np.ones(1)})
    assert (tmp_path / "pipe").is_fifo()
