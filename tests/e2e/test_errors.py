"""What cannot be done ends in one message that says what, where, expected, got and what to do; and nothing is left."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest

from hwc.bundle import read_bundle, verify_bundle
from tests.e2e.fixtures import assert_refused, document, invoke, names_in
from tests.e2e.tiny_models import TOO_NEW_TEXT, UNKNOWN_TEXT, write_onnx, write_text


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_model(hwc, tmp_path, share):
    path = write_onnx(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    result = hwc("compile", path, "-o", tmp_path / "out")
    assert_refused(result, 2, "net.onnx")
    assert names_in(tmp_path) == ["net.onnx"]


def test_a_truncated_model_says_all_five_things(hwc, tmp_path):
    path = write_onnx(tmp_path)
    path.write_bytes(path.read_bytes()[:300])
    shown = document(hwc("compile", path, "-o", tmp_path / "out", "--format", "json"))
    assert all(shown[part] for part in ("what", "where", "expected", "got", "do")), shown


def test_an_unknown_target_lists_close_names(hwc, tmp_path):
    result = hwc("compile", write_onnx(tmp_path), "-t", "agx-xavierr", "-o", tmp_path / "out")
    assert_refused(result, 2, "'agx-xavierr'", "agx-xavier", "hwc targets list")
    assert names_in(tmp_path) == ["net.onnx"]


def test_an_operator_that_does_not_exist(hwc, tmp_path):
    result = hwc("compile", write_text(tmp_path, UNKNOWN_TEXT), "-o", tmp_path / "out")
    assert_refused(result, 2, "no such operator: Frobnicate", "where:", "domain")
    assert names_in(tmp_path) == ["net.onnx"]


def test_an_operator_that_the_target_cannot_take_is_named_with_the_source_of_the_limit(hwc, tmp_path):
    path = write_text(tmp_path, TOO_NEW_TEXT)
    result = hwc("compile", path, "-t", "agx-xavier", "-o", tmp_path / "out", "--format", "json")
    assert result.exit_code == 3
    shown = document(result)
    assert shown["error"] == "TargetError" and "GridSample" in shown["what"] and "agx-xavier" in shown["what"]
    assert shown["where"] == "node 'GridSample_0'" and shown["expected"] == "opset 17"
    assert shown["source"].startswith("https://") and shown["do"]
    assert names_in(tmp_path) == ["net.onnx"]


def test_an_open_dimension_without_a_size(hwc, tmp_path):
    result = hwc("compile", write_onnx(tmp_path, batch="N"), "-o", tmp_path / "out")
    assert_refused(result, 2, "dimension 0 open (N)", "--input-shapes")
    assert names_in(tmp_path) == ["net.onnx"]


@pytest.mark.parametrize("flag", ["--precision=int8", "--int8"])
def test_int8_is_refused_with_a_next_step(hwc, tmp_path, flag):
    result = hwc("compile", write_onnx(tmp_path), flag, "-o", tmp_path / "out")
    assert_refused(result, 2, "samples to calibrate on", "--calibration-data")
    assert names_in(tmp_path) == ["net.onnx"]


def test_a_model_file_that_fails_is_named_with_its_line(hwc, tmp_path):
    (tmp_path / "bad.py").write_text("def model():\n    return 1 / 0\n")
    result = hwc("compile", f"{tmp_path / 'bad.py'}:model", "-o", tmp_path / "out")
    assert_refused(result, 2, "model() failed", f"{tmp_path / 'bad.py'}:2", "ZeroDivisionError", "by itself")
    assert names_in(tmp_path) == ["bad.py"]


# Where the disk fills up: the model is saved into the capture, the build copies it, the bundle is put together.
@pytest.mark.parametrize(
    ("place", "function"),
    [("hwc.capture", "save_arrays"), ("hwc.optimize", "save_arrays"), ("hwc.build.shutil", "copyfile"),
     ("hwc.compile", "write_manifest"), ("hwc.compile", "hash_files")],
)  # fmt: skip
def test_a_full_disk_is_said_and_loses_nothing(tmp_path, monkeypatch, place, function):
    out, cache = tmp_path / "out", tmp_path / "cache"
    model = write_onnx(tmp_path)
    assert invoke(cache, "compile", model, "-o", out).exit_code == 0
    kept, files = read_bundle(out), names_in(out)
    write_onnx(tmp_path, seed=1)

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(f"{place}.{function}", fail)
        result = invoke(cache, "compile", model, "-o", out)
    assert_refused(result, 4, "the disk is full", "where:", "free space", "nothing half written")
    assert read_bundle(out) == kept and names_in(out) == files
    verify_bundle(out, kept)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "net.onnx", "out"]
    assert [name for name in names_in(cache) if name.split("/")[-1].startswith(".") and "files.json" not in name] == []
    assert invoke(cache, "compile", model, "-o", out).exit_code == 0
    assert read_bundle(out).files != kept.files


# A process that stops in the middle of `place`, says so, and waits for its end.
STOPPED = """
import sys, time
import {module}
def stop(*args, **kwargs):
    print("stopped", file=sys.stderr, flush=True)
    time.sleep(60)
{module}.{function} = stop
from hwc.cli import main
main(["compile", "net.onnx", "-o", "out", "--cache-dir", "cache"])
"""


@pytest.mark.parametrize(
    ("module", "function"), [("hwc.build", "verify"), ("hwc.compile", "write_manifest")], ids=["build", "bundle"]
)
def test_a_killed_process_leaves_the_old_bundle_whole_and_no_half_step(cpu_bundle, tmp_path, module, function):
    shutil.copytree(cpu_bundle, tmp_path / "out")
    kept = read_bundle(tmp_path / "out")
    write_onnx(tmp_path, seed=2)
    script = STOPPED.format(module=module, function=function)
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "stopped\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    verify_bundle(tmp_path / "out", kept)
    assert read_bundle(tmp_path / "out") == kept
    result = invoke(tmp_path / "cache", "compile", tmp_path / "net.onnx", "-o", tmp_path / "out", "--format", "json")
    assert result.exit_code == 0, result.output
    # A finished build may be reused; one that was cut off may not.
    assert ("build" in document(result)["reused"]) == (function == "write_manifest")
    verify_bundle(tmp_path / "out", read_bundle(tmp_path / "out"))
    assert read_bundle(tmp_path / "out").files != kept.files
