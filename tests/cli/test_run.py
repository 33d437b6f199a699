"""`hwc run` gives a bundle's outputs for real inputs or seeded noise."""

import os

import numpy as np
import pytest

from tests.e2e.fixtures import assert_refused, document, names_in
from tests.e2e.tiny_models import expected_onnx

X = np.random.default_rng(3).standard_normal((1, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "reference"])
def test_outputs_are_those_of_the_network_in_every_engine(hwc, cpu_bundle, tmp_path, engine):
    np.save(tmp_path / "x.npy", X)
    flags = ("--loadInputs=x:" + str(tmp_path / "x.npy"), "--engine", engine, "-o", tmp_path / "y.npz")
    result = hwc("run", cpu_bundle, *flags)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("y: float32 1x4x8x8, min 0, max ")
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["y"], expected_onnx(X), atol=1e-4)
    assert names_in(tmp_path) == ["x.npy", "y.npz"]


def test_an_npz_gives_all_inputs(hwc, cpu_bundle, tmp_path):
    np.savez(tmp_path / "in.npz", x=X)
    (row,) = document(hwc("run", cpu_bundle, "--load-inputs", tmp_path / "in.npz", "--format", "json"))["outputs"]
    assert row["shape"] == [1, 4, 8, 8]
    assert row["mean"] == pytest.approx(float(expected_onnx(X).mean()), rel=1e-4)


def test_noise_is_seeded_and_said(hwc, cpu_bundle):
    first, second = hwc("run", cpu_bundle), hwc("run", cpu_bundle)
    assert first.stdout == second.stdout
    assert first.stdout.startswith("inputs: seeded noise")


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("x", X[:, :, :, :7], ("input 'x' has the wrong shape", "1x3x8x8", "1x3x8x7", "--minShapes")),
        ("x", X.astype(np.float64), ("input 'x' has the wrong dtype", "float32", "float64")),
        ("z", X, ("no input is called 'z'", "expected:  x")),
    ],
)
def test_inputs_that_do_not_fit_are_refused(hwc, cpu_bundle, tmp_path, name, array, words):
    np.save(tmp_path / "x.npy", array)
    result = hwc("run", cpu_bundle, "--load-inputs", f"{name}:{tmp_path / 'x.npy'}", "-o", tmp_path / "y.npz")
    assert_refused(result, 2, *words)
    assert names_in(tmp_path) == ["x.npy"]


def test_files_that_hold_no_arrays_are_refused(hwc, cpu_bundle, tmp_path):
    assert_refused(hwc("run", cpu_bundle, "--load-inputs", f"x:{tmp_path / 'no.npy'}"), 2, "no.npy", ".npy or .npz")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert_refused(hwc("run", cpu_bundle, "--load-inputs", f"x:{tmp_path / 'pickled.npy'}"), 2, "pickled.npy")


def test_an_engine_that_is_not_built_yet_is_not_run(hwc, board_bundle):
    assert_refused(hwc("run", board_bundle), 2, "no engine yet", "agx-xavier", "--engine onnxruntime")
    assert hwc("run", board_bundle, "--engine", "onnxruntime").exit_code == 0


def test_an_unknown_engine_and_a_folder_that_is_no_bundle_are_refused(hwc, cpu_bundle, tmp_path):
    assert_refused(hwc("run", cpu_bundle, "--engine", "nope"), 2, "nope", "openvino")
    assert_refused(hwc("run", tmp_path), 2, "is not a bundle", "hwc compile -o")


def test_outputs_go_to_a_plain_file_only(hwc, cpu_bundle, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert_refused(hwc("run", cpu_bundle, "-o", tmp_path / "pipe"), 2, "not a regular file")
    assert_refused(hwc("run", cpu_bundle, "-o", tmp_path / "absent" / "y.npz"), 2, "cannot write", "choose another -o")
    assert (tmp_path / "pipe").is_fifo()
