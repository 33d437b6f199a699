"""A small PyTorch model from its file to a bundle, for a CPU, a GPU that is not here, and a board."""

import json
import subprocess
import sys

import numpy as np
import pytest

from hwc.bundle import read_bundle, verify_bundle
from tests.e2e.fixtures import document
from tests.e2e.tiny_models import write_onnx, write_torch

RANGES = ("--minShapes=image:1x3x16x16", "--optShapes=image:2x3x16x16", "--maxShapes=image:4x3x16x16")


def eager(model: str, x: np.ndarray) -> np.ndarray:
    """What PyTorch computes, from the text of the file and not through `hwc`."""
    import torch

    space: dict = {"__name__": "eager"}
    with open(model.rpartition(":")[0], encoding="utf-8") as stream:
        exec(compile(stream.read(), "tiny", "exec"), space)
    with torch.no_grad():
        return space["model"]()(torch.from_numpy(x)).numpy()


def compile_(hwc, model, target, out, *flags):
    """The bundle, read back and verified against its manifest, and the steps that were reused."""
    result = hwc("compile", model, "-t", target, "-o", out, *flags, "--format", "json")
    assert result.exit_code == 0, result.output
    bundle = read_bundle(out)
    verify_bundle(out, bundle)
    assert sorted(p.name for p in out.iterdir()) == sorted([*bundle.files, "manifest.json"])
    return bundle, document(result)["reused"]


def run(hwc, out, x, tmp_path, engine=""):
    np.save(tmp_path / "x.npy", x)
    result = hwc("run", out, f"--load-inputs=image:{tmp_path / 'x.npy'}", "-o", tmp_path / "y.npz", "--engine", engine)
    assert result.exit_code == 0, result.output
    return next(iter(np.load(tmp_path / "y.npz").values()))


def images(batch: int = 1) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((batch, 3, 16, 16)).astype(np.float32)


def test_the_cpu_runs_what_pytorch_computes(hwc, tmp_path):
    model = write_torch(tmp_path)
    bundle, _ = compile_(hwc, model, "cpu", tmp_path / "out", "--precision", "fp32")
    assert (bundle.engine.state, bundle.engine.backend) == ("verified", "openvino")
    assert any("parity with PyTorch" in note for note in bundle.notes)
    np.testing.assert_allclose(run(hwc, tmp_path / "out", images(), tmp_path), eager(model, images()), atol=1e-5)


def test_an_rtx_engine_is_built_without_its_gpu_and_never_called_verified(hwc, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    model = write_torch(tmp_path)
    bundle, _ = compile_(hwc, model, "rtx-4090", tmp_path / "out", "--precision", "fp16")
    assert bundle.engine.key.precision == "fp16" and bundle.engine.kernels
    assert bundle.engine.state == "built"
    assert dict(bundle.engine.precision_built)["fp16"] > 0
    got = run(hwc, tmp_path / "out", images(), tmp_path, "onnxruntime")
    np.testing.assert_allclose(got, eager(model, images()), atol=5e-3)


def test_a_board_gets_its_graph_and_builds_there(hwc, tmp_path):
    model = write_torch(tmp_path)
    bundle, _ = compile_(hwc, model, "agx-xavier", tmp_path / "out")
    assert bundle.engine.state == "deferred" and not bundle.engine.kernels
    arrays = {"check.feeds.npz", "check.expected.npz"}
    assert set(bundle.files) == {"model.onnx", "build.json", "hwc.pyz", *arrays}
    got = run(hwc, tmp_path / "out", images(), tmp_path, "onnxruntime")
    np.testing.assert_allclose(got, eager(model, images()), atol=1e-4)


def test_one_bundle_takes_every_batch_of_its_range(hwc, tmp_path):
    model = write_torch(tmp_path, batch=2)
    bundle, _ = compile_(hwc, model, "cpu", tmp_path / "out", "--precision", "fp32", *RANGES)
    (dim, *rest) = bundle.inputs[0].shape
    assert (dim.min, dim.opt, dim.max, rest) == (1, 2, 4, [3, 16, 16])
    for batch in (1, 2, 3, 4):
        got = run(hwc, tmp_path / "out", images(batch), tmp_path)
        np.testing.assert_allclose(got, eager(model, images(batch)), atol=1e-5)
    np.save(tmp_path / "x.npy", images(5))
    refused = hwc("run", tmp_path / "out", f"--load-inputs=image:{tmp_path / 'x.npy'}")
    assert refused.exit_code == 2 and "1..4x3x16x16" in refused.stderr


def test_an_rtx_engine_takes_a_range_too(hwc, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    bundle, _ = compile_(hwc, write_torch(tmp_path, batch=2), "rtx-4090", tmp_path / "out", *RANGES)
    dim = bundle.engine.inputs[0].shape[0]
    assert (dim.min, dim.opt, dim.max) == (1, 2, 4)


def test_folded_normalization_takes_raw_pixels(hwc, tmp_path):
    model = write_torch(tmp_path)
    flags = ("--precision=fp32", "--normalize", "image:127,110,90/128,64,60:uint8")
    bundle, _ = compile_(hwc, model, "cpu", tmp_path / "out", *flags)
    assert bundle.inputs[0].dtype == "uint8"
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16)).astype(np.uint8)
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ((127, 110, 90), (128, 64, 60)))
    expected = eager(model, (pixels - mean) / std)
    np.testing.assert_allclose(run(hwc, tmp_path / "out", pixels, tmp_path), expected, atol=1e-4)


def test_what_was_done_once_is_reused_and_an_edit_is_noticed(hwc, tmp_path):
    model, out = write_torch(tmp_path, seed=40), tmp_path / "out"
    flags = ("--precision", "fp32")
    first, reused = compile_(hwc, model, "cpu", out, *flags)
    assert reused == []
    second, reused = compile_(hwc, model, "cpu", out, *flags)
    assert reused == ["capture", "optimize", "build"]
    assert second.files == first.files
    _, reused = compile_(hwc, model, "agx-xavier", tmp_path / "other", *flags)
    assert reused == ["capture"]
    write_torch(tmp_path, seed=41)
    edited, reused = compile_(hwc, model, "cpu", out, *flags)
    assert reused == [] and edited.files["model.onnx"] != first.files["model.onnx"]
    np.testing.assert_allclose(run(hwc, out, images(), tmp_path), eager(model, images()), atol=1e-5)


def test_a_comment_in_the_file_repeats_the_capture_and_nothing_after_it(hwc, tmp_path):
    model = write_torch(tmp_path, seed=42)
    compile_(hwc, model, "agx-xavier", tmp_path / "out")
    with (tmp_path / "tiny.py").open("a") as stream:
        stream.write("# a remark\n")
    _, reused = compile_(hwc, model, "agx-xavier", tmp_path / "out")
    assert reused == ["optimize"]


def test_without_the_cache_nothing_is_reused_or_kept(hwc, tmp_path):
    model = write_onnx(tmp_path, seed=43)
    flags = ("--no-cache", "--cache-dir", tmp_path / "cache")
    assert compile_(hwc, model, "agx-xavier", tmp_path / "out", *flags)[1] == []
    assert compile_(hwc, model, "agx-xavier", tmp_path / "out", *flags)[1] == []
    assert not (tmp_path / "cache").exists()


CHILD = """
import json, sys
from hwc.cli import main
try:
    main(sys.argv[1:], standalone_mode=False)
finally:
    heavy = ("torch", "onnx", "onnx_ir", "onnxruntime", "openvino", "tensorrt_rtx")
    print(json.dumps([name for name in heavy if name in sys.modules]), file=sys.stderr)
"""


def test_a_second_compile_imports_neither_torch_nor_any_engine(tmp_path):
    model = write_torch(tmp_path)
    args = ["compile", model, "-o", "out", "--cache-dir", "cache", "--format", "json"]
    command, loaded, reused = [sys.executable, "-c", CHILD, *args], [], []
    for _ in range(2):
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        loaded.append(json.loads(ended.stderr.splitlines()[-1]))
        reused.append(json.loads(ended.stdout)["reused"])
    assert "torch" in loaded[0] and reused[0] == []
    assert loaded[1] == [] and reused[1] == ["capture", "optimize", "build"]
