"""`python3 hwc.pyz VERB`: what is printed where, and the exit code of every way to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hwc import device_cli
from hwc.errors import EngineError
from tests.fake_board import FakeBackend, plant_xavier, seal_bundle, write_bundle, xavier_target

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def backend(monkeypatch) -> FakeBackend:
    fake = FakeBackend()
    monkeypatch.setattr("hwc.engines.base.load_backend", lambda name: fake)
    return fake


@pytest.fixture
def board(tmp_path, monkeypatch, backend):
    """A bundle on a board that is a folder; its Python is the one that runs here."""
    monkeypatch.setenv("HWC_BOARD_ROOT", str(plant_xavier(tmp_path / "root")))
    monkeypatch.setenv("HWC_ENGINE_STORE", str(tmp_path / "store"))
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def call(capsys):
    """Runs a command line; (exit code, stdout, stderr)."""

    def run(*words):
        code = device_cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_build_tells_its_result_and_progress_apart(board, call):
    code, out, err = call("build", board)
    assert code == 0 and out.splitlines()[-1] == "&&&& PASSED hwc.build"
    assert "engine      tensorrt 8.5.2, verified, built in 1.5 s: 1 kernels (fp16 1)" in out
    steps = [line.split(None, 2) for line in err.splitlines() if line.startswith("hwc-progress ")]
    fractions = [float(step[1]) for step in steps]
    assert fractions == sorted(fractions) and fractions[0] == 0.0 and fractions[-1] == 1.0 and len(steps) >= 3


def test_json_is_one_document_and_the_last_line_goes_to_stderr(board, call, tmp_path):
    code, out, err = call("build", board, "--format", "json")
    result = json.loads(out)
    assert code == 0 and err.splitlines()[-1] == "&&&& PASSED hwc.build"
    assert result["reused"] is False and result["differs"] == [] and result["kernels"] == 1
    assert result["state"] == "verified" and result["size_bytes"] == 24 and result["build_seconds"] == 1.5
    assert Path(result["engine_dir"]) == tmp_path / "store" / result["fingerprint"]
    plant_xavier(tmp_path / "root", commands={"usr/sbin/nvpmodel": "echo 'NV Power Mode: MODE_15W'; echo 2"})
    again = json.loads(call("build", board, "--format", "json")[1])
    assert again["differs"] == [{"field": "power_mode", "stored": "MAXN", "now": "MODE_15W"}]
    assert "power_mode: MAXN -> MODE_15W" in again["remarks"][-1]


def test_an_error_is_one_message_with_its_exit_code(board, call, backend):
    backend.failure = EngineError("no tactic", do="try again")
    code, out, err = call("build", board)
    assert code == 4 and out == "&&&& FAILED hwc.build\n"
    assert "EngineError: no tactic\n  do:        try again" in err and "Traceback" not in err


def test_an_error_in_json_is_the_document(board, call, backend):
    backend.failure = EngineError("no tactic", do="try again")
    code, out, err = call("build", board, "--format=json")
    expected = {"error": "EngineError", "exit_code": 4, "what": "no tactic", "do": "try again"}
    assert code == 4 and json.loads(out) == expected and err.splitlines()[-1] == "&&&& FAILED hwc.build"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "no verb was given"),
        (("destroy", "x"), "invalid choice"),
        (("build",), "required: BUNDLE"),
        (("build", "x", "--builds", "0"), "from 1 to 100"),
        (("build", "x", "--builds", "many"), "invalid"),
        (("build", "nowhere"), "is not a bundle"),
        (("build", "x", "--engine-option", "dla_core"), "NAME=VALUE"),
        (("run", "nowhere", "--format", "yaml"), "invalid choice"),
        (("profile", "nowhere", "--duration", "-1"), "positive duration"),
    ],
)
def test_wrong_usage_ends_with_2(call, words, part):
    code, out, err = call(*words)
    assert code == 2 and "UsageError" in err and part in err and "Traceback" not in err
    assert out.splitlines()[-1].startswith("&&&& FAILED hwc")


def test_help_and_version_pass(call):
    assert call("--version")[0] == 0 and call("build", "--help")[0] == 0


def test_a_bug_is_one_message_and_a_traceback_only_when_asked(board, call, backend):
    backend.failure = RuntimeError("a bug")
    code, out, err = call("build", board)
    assert code == 70 and "InternalError: RuntimeError: a bug" in err and "fake_board.py" in err
    assert "Traceback" not in err and "report" in err
    assert "Traceback" in call("build", board, "--verbose")[2]


@pytest.mark.parametrize(
    ("failure", "code", "part"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 4, "out of memory"),
        (ImportError("No module named 'numpy'", name="numpy"), 4, "'numpy' is missing"),
        (ImportError("No module named 'hwc.lost'", name="hwc.lost"), 70, "hwc.lost"),
    ],
)
def test_other_ends_have_their_code_too(board, call, backend, failure, code, part):
    backend.failure = failure
    got, out, err = call("build", board)
    assert got == code and part in err and out.splitlines()[-1] == "&&&& FAILED hwc.build"


def test_verify_tells_what_differs(board, call, tmp_path):
    code, out, _ = call("verify", board)
    assert code == 0 and "6 files intact" in out and "fingerprint " in out
    assert json.loads(call("verify", board, "--format", "json")[1])["target"] == "test-xavier"
    plant_xavier(tmp_path / "root", commands={"usr/bin/uname": "echo x86_64"})
    code, out, err = call("verify", board)
    assert code == 3 and "machine.architecture: expected aarch64, found x86_64" in err
    (board / "model.onnx").write_bytes(b"")
    code, _, err = call("verify", board)
    assert code == 2 and "'model.onnx' was changed" in err


def test_doctor_describes_and_judges(board, call, tmp_path):
    code, out, _ = call("doctor", "--bundle", board, "--format", "json")
    shown = json.loads(out)
    machine = shown["machine"]
    assert machine["arch"] == "aarch64" and machine["l4t"] == "35.6.4" and machine["jetpack"] == "5.1.6"
    assert machine["cuda"] == "11.4.19" and machine["gpu"] == "Xavier" and machine["sm_count"] == 8
    assert machine["compute_capability"] == "7.2" and machine["power_mode"] == "MAXN"
    assert machine["clocks_locked"] is True and machine["module_part"] == "p2888-0004"
    assert machine["memory_bytes"] == 31928000 * 1024 and machine["free_disk_bytes"] > 0
    assert machine["hostname"] == "xavier-on-the-shelf" and machine["tensorrt_rtx"] is None or machine["tensorrt_rtx"]
    assert {check["status"] for check in shown["checks"]} <= {"ok", "warn"} and code == 0
    assert all(set(check) == {"name", "status", "message", "do"} for check in shown["checks"])
    plant_xavier(tmp_path / "root", commands={"usr/bin/python3": "exit 1"})
    code, out, _ = call("doctor")
    assert code == 1 and "fail  gpu: the CUDA driver shows no GPU; check the driver" in out
    assert out.splitlines()[-1] == "&&&& FAILED hwc.doctor"


def test_doctor_compares_with_the_bundles_target(board, call):
    seal_bundle(board, "tensorrt", xavier_target())
    other = xavier_target()
    other.facts["jetson.soc"] = other.facts["jetson.soc"].__class__("tegra234", "name", "this test says so")
    seal_bundle(board, "tensorrt", other)
    code, out, _ = call("doctor", "--bundle", board)
    assert code == 1 and "fail  jetson.soc: expected tegra234, found tegra194" in out


def test_run_takes_inputs_and_writes_outputs(board, call, tmp_path):
    call("build", board)
    x = np.full((2, 3), 4, np.float32)
    np.save(tmp_path / "x.npy", x)
    out_file = tmp_path / "y.npz"
    code, out, _ = call("run", board, "--load-inputs", f"x:{tmp_path / 'x.npy'}", "--save-outputs", out_file)
    assert code == 0 and out.splitlines()[0] == "y: float32 2x3, min 8.0, max 8.0, mean 8.0"
    assert np.array_equal(np.load(out_file)["y"], 2 * x)
    shown = json.loads(call("run", board, "--format", "json")[1])
    assert shown["inputs"] == "seeded noise" and shown["outputs"][0]["shape"] == [2, 3]


def test_run_before_build_says_what_to_do(board, call):
    code, _, err = call("run", board)
    assert code == 2 and "no engine was built for this bundle" in err and "hwc.pyz build" in err


def test_profile_writes_all_samples(board, call, tmp_path):
    call("build", board)
    file = tmp_path / "report.json"
    flags = ("--duration", "0.01", "--warmup-ms", "0")
    code, out, _ = call("profile", board, *flags, "-o", file)
    assert code == 0 and "=== Performance summary: net ===" in out
    (profile,) = json.loads(file.read_text())["profiles"]
    assert len(profile["latency_ns"]) >= 10
    (shown,) = json.loads(call("profile", board, *flags, "--format", "json")[1])["profiles"]
    assert shown["machine"]["power_mode"] == "MAXN" and shown["latency_ms"]["median"] > 0
    code, _, err = call("profile", board, *flags, "-o", tmp_path)
    assert code == 2 and "not a regular file" in err


def test_a_meter_that_is_not_there_is_an_error_and_no_zero(board, call):
    call("build", board)
    code, out, err = call("profile", board, "--duration", "0.01", "--power", "ina3221")
    assert code in (2, 3, 4) and "Error: " in err and "Traceback" not in err
    assert out == "&&&& FAILED hwc.profile\n"


def test_a_build_ends_although_nobody_listens_any_more(board, tmp_path):
    """A cut link closes stderr under the build; the engine must be there for the next try."""
    code = (
        "import os, sys\n"
        "os.dup2(os.open(os.devnull, os.O_RDONLY), 2)\n"  # writing to it fails, as to a closed pipe
        "import hwc.engines.base as base\n"
        "from tests.fake_board import FakeBackend\n"
        "fake = FakeBackend()\n"
        "base.load_backend = lambda name: fake\n"
        "from hwc.device_cli import main\n"
        f"sys.exit(main(['build', {str(board)!r}]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=str(ROOT), env=environment, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0 and b"&&&& PASSED hwc.build" in done.stdout


def test_the_fake_root_is_said(board, call):
    assert "HWC_BOARD_ROOT: the machine that is looked at is" in call("verify", board)[2]
