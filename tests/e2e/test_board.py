"""From `hwc compile` to an engine on a board: the very hwc.pyz of the bundle, in a process of its own.

The board is a folder and its TensorRT 8.5.2 a stand-in that records what it was told (tests/fake_board.py,
tests/engines/fake_modules). The engine for the RTX 4090 is a real one, built ahead of time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from hwc.bundle import read_bundle, sha256_file, verify_bundle
from tests.e2e.fixtures import document, invoke
from tests.engines.contract import conv_graph
from tests.fake_board import plant_xavier

FAKE_TENSORRT = Path(__file__).resolve().parents[1] / "engines" / "fake_modules"
SHAPES = ("--min-shapes", "x:1x8x8x8", "--opt-shapes", "x:2x8x8x8", "--max-shapes", "x:4x8x8x8")


class Board:
    """A fake Xavier: a root, a store and a TensorRT stand-in for the processes that are started on it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.store = plant_xavier(folder / "root"), folder / "store"

    def environment(self, mode: str = "") -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "HWC_"))}
        told = {"HWC_BOARD_ROOT": str(self.root), "HWC_ENGINE_STORE": str(self.store), "HWC_FAKE_TENSORRT": mode}
        return {**kept, **told, "PYTHONPATH": str(FAKE_TENSORRT)}

    def run(self, bundle: Path, *words: object, mode: str = "") -> subprocess.CompletedProcess:
        command = [sys.executable, bundle / "hwc.pyz", words[0], bundle, *words[1:]]
        environment = self.environment(mode)
        return subprocess.run(list(map(str, command)), cwd="/", env=environment, capture_output=True, text=True,
                              check=False)  # fmt: skip

    def build(self, bundle: Path, *words: object) -> dict:
        done = self.run(bundle, "build", "--format", "json", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr.splitlines()[-1] == "&&&& PASSED hwc.build"
        return json.loads(done.stdout)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.store.iterdir() if not path.name.endswith((".lock", ".cache")))


@pytest.fixture
def board(tmp_path) -> Board:
    return Board(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "conv.onnx"
    onnx.save(conv_graph(), str(path))
    return path


@pytest.fixture(scope="module")
def xavier_bundle(cache, model) -> Path:
    """Only read it."""
    result = invoke(cache, "compile", model, "-t", "agx-xavier", *SHAPES, "-o", model.parent / "net")
    assert result.exit_code == 0, result.output
    return model.parent / "net"


def test_a_bundle_for_a_board_holds_all_that_the_board_needs(xavier_bundle):
    bundle = read_bundle(xavier_bundle)
    verify_bundle(xavier_bundle, bundle)
    assert bundle.files["hwc.pyz"] == sha256_file(xavier_bundle / "hwc.pyz")
    assert set(bundle.files) == {"model.onnx", "build.json", "hwc.pyz", "check.feeds.npz", "check.expected.npz"}
    assert bundle.engine.state == "deferred" and bundle.engine.key.runtime == "tensorrt 8.5.2"
    request = json.loads((xavier_bundle / "build.json").read_text())
    assert request["options"] == dict(bundle.engine.key.options) == {"workspace_bytes": str(16383 << 20)}
    assert request["why"]["workspace_bytes"].startswith("a limit, not a measurement")
    assert request["engine"] == "tensorrt" and request["precision"] == request["tolerance"] == "fp16"
    opset = {item.domain: item.version for item in onnx.load(xavier_bundle / "model.onnx").opset_import}
    assert opset[""] <= 17  # the newest that TensorRT 8.5 parses


def test_a_users_own_limit_is_kept(hwc, model, tmp_path):
    flags = ("--engine-option", "workspace_bytes=1048576", "-o", tmp_path / "net")
    assert hwc("compile", model, "-t", "agx-xavier", *SHAPES, *flags).exit_code == 0
    request = json.loads((tmp_path / "net" / "build.json").read_text())
    assert request["options"] == {"workspace_bytes": "1048576"} and request["why"] == {}


def test_a_bundle_for_the_cpu_holds_nothing_of_this(cpu_bundle):
    assert not {"build.json", "hwc.pyz"} & set(read_bundle(cpu_bundle).files)


def test_the_board_builds_reuses_and_explains(xavier_bundle, board):
    built = board.build(xavier_bundle)
    assert built["reused"] is False and built["state"] == "built" and built["kernels"] >= 1 and built["differs"] == []
    plan = json.loads((Path(built["engine_dir"]) / "engine.plan").read_text())
    assert "FP16" in plan["flags"] and plan["pools"]["WORKSPACE"] == 16383 << 20
    assert plan["profiles"] == [{"x": [[1, 8, 8, 8], [2, 8, 8, 8], [4, 8, 8, 8]]}]
    again = board.build(xavier_bundle)
    assert again["reused"] is True and again["fingerprint"] == built["fingerprint"]
    plant_xavier(board.root, commands={"usr/sbin/nvpmodel": "echo 'NV Power Mode: MODE_15W'; echo 2"})
    other = board.build(xavier_bundle)
    assert other["differs"] == [{"field": "power_mode", "stored": "MAXN", "now": "MODE_15W"}]
    assert board.left() == sorted([built["fingerprint"], other["fingerprint"]])


def test_a_library_of_operators_is_named_on_the_board_and_counts_by_content(xavier_bundle, board):
    mapped = Path("/proc/self/maps").read_text().splitlines()
    library = next(Path(line.split()[-1]) for line in mapped if "/libm" in line)
    built = board.build(xavier_bundle, "--engine-option", f"static_plugins={library}")
    assert f"plugins: {library.name}" in built["notes"] and (Path(built["engine_dir"]) / library.name).is_file()
    assert board.build(xavier_bundle, "--engine-option", f"static_plugins={library}")["reused"] is True
    assert [change["field"] for change in board.build(xavier_bundle)["differs"]] == ["options", "plugins"]


def test_a_builder_that_crashes_or_refuses_leaves_nothing(xavier_bundle, board):
    for mode, word in (("crash", "crashed"), ("none", "no implementation for node stem/conv")):
        done = board.run(xavier_bundle, "build", mode=mode)
        assert done.returncode == 4 and word in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert done.stdout.splitlines()[-1] == "&&&& FAILED hwc.build" and board.left() == []
    assert board.build(xavier_bundle)["reused"] is False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_build_that_is_ended_leaves_no_engine_and_the_next_one_builds(xavier_bundle, board, number):
    command = [sys.executable, str(xavier_bundle / "hwc.pyz"), "build", str(xavier_bundle)]
    with subprocess.Popen(command, env=board.environment("sleep"), stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as build:  # fmt: skip
        deadline = time.monotonic() + 60
        while not (board.store.is_dir() and list(board.store.glob(".*.tmp/**/engine.log"))):
            assert build.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        build.send_signal(number)
    # Nobody cleans up after SIGKILL; what it left is hidden, and goes with the next build.
    assert [name for name in board.left() if number == signal.SIGTERM or not name.startswith(".")] == []
    assert build.returncode == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    built = board.build(xavier_bundle)
    assert built["reused"] is False and board.left() == [built["fingerprint"]]


def test_the_board_says_no_where_it_is_not_the_target(xavier_bundle, board):
    plant_xavier(board.root, files={"proc/device-tree/compatible": "nvidia,p3701-0005\x00nvidia,tegra234\x00"},
                 commands={"usr/bin/uname": "echo x86_64"})  # fmt: skip
    for verb in ("verify", "build"):
        done = board.run(xavier_bundle, verb)
        assert done.returncode == 3 and "jetson.soc: expected tegra194, found tegra234" in done.stderr
        assert "machine.architecture: expected aarch64, found x86_64" in done.stderr
    assert not board.store.exists()


def test_an_engine_of_the_board_does_not_run_here_and_says_so(xavier_bundle, board):
    done = board.run(xavier_bundle, "run")
    assert done.returncode == 2 and "no engine was built for this bundle" in done.stderr
    board.build(xavier_bundle)
    for verb in ("run", "profile"):
        done = board.run(xavier_bundle, verb)
        assert done.returncode == 3 and "cannot run here" in done.stderr, done.stderr


def test_the_same_file_builds_a_real_engine_with_tensorrt_rtx(hwc, model, board, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="the extra 'rtx' is not installed")
    out = tmp_path / "rtx"
    result = hwc("compile", model, "-t", "rtx-4090", *SHAPES, "-o", out)
    assert result.exit_code == 0, result.output
    here = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "HWC_"))}
    board.environment = lambda mode="": {**here, "HWC_ENGINE_STORE": str(board.store)}
    built = board.build(out)
    assert built["runtime"].startswith("tensorrt_rtx 1.") and built["state"] in ("built", "verified")
    bundle = read_bundle(out)
    assert built["kernels"] == len(bundle.engine.kernels) >= 2
    plan = Path(built["engine_dir"]) / "engine.plan"
    assert plan.stat().st_size == built["size_bytes"] == bundle.engine.size_bytes
    assert board.build(out)["reused"] is True
    plan.write_bytes(plan.read_bytes()[:-1] + b"\0")
    rebuilt = board.build(out)
    assert rebuilt["reused"] is False and "is damaged (engine.plan was changed): dropped" in rebuilt["remarks"][-2]


def test_an_int8_bundle_carries_both_dialects(hwc, sound, board, tmp_path):
    out = tmp_path / "int8"
    result = hwc("compile", sound.model, "-t", "agx-xavier", "--precision", "int8", *sound.flags, "-o", out)
    assert result.exit_code == 0, result.output
    request = json.loads((out / "build.json").read_text())
    assert request["implicit"] == {"model": "model.float.onnx", "calibration_cache": "calib.cache"}
    assert request["tolerance"] == "int8" and request["precision"] == "fp32"
    operators = {node.op_type for node in onnx.load(out / request["model"]).graph.node}
    assert "QuantizeLinear" in operators and board.run(out, "verify").returncode == 0
    assert "QuantizeLinear" not in {node.op_type for node in onnx.load(out / "model.float.onnx").graph.node}
    assert (out / "calib.cache").read_text().startswith("TRT-8502-EntropyCalibration2\n")


def test_a_packed_bundle_is_built_where_it_was_unpacked(hwc, xavier_bundle, board, tmp_path):
    packed = document(hwc("pack", xavier_bundle, "-o", tmp_path / "net.hwc", "--format", "json"))
    assert packed["sha256"] == sha256_file(tmp_path / "net.hwc") and "hwc.pyz" in packed["files"]
    result = hwc("unpack", tmp_path / "net.hwc", "--verify", "-o", tmp_path / "there")
    assert result.exit_code == 0, result.output
    assert board.build(tmp_path / "there")["state"] == "built"
