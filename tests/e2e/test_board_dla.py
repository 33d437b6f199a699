"""From `hwc compile --use-dla-core` to what TensorRT was told on the board, in FP16 and in INT8.

The board is a folder and its TensorRT 8.5.2 with two DLA cores a stand-in that records what it was told and refuses
which layers it is told to (tests/engines/fake_modules).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from hwc.artifacts_dla import read_dla_plan
from hwc.bundle import read_bundle
from tests.e2e.fixtures import assert_refused, invoke
from tests.e2e.test_board import Board

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,16,16] x) => (float[1,4,8,8] y) <float[8,3,3,3] w, int64[4] i = {3, 1, 0, 6}> {
  [stem] c = Conv<pads=[1,1,1,1]>(x, w)
  [act] h = HardSwish(c)
  [pool] p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h)
  [pick] y = Gather<axis=1>(p, i)
}"""
FLAGS = ("-t", "agx-xavier", "--use-dla-core", "1", "--dla-objective", "all")


class DlaBoard(Board):
    """A fake Xavier whose TensorRT has two DLA cores; `refuses` names layers that they do not take."""

    refuses = ""

    def environment(self, mode: str = "") -> dict[str, str]:
        return {**super().environment(mode), "HWC_FAKE_DLA_CORES": "2", "HWC_FAKE_DLA_REFUSES": self.refuses}


@pytest.fixture
def board(tmp_path) -> DlaBoard:
    return DlaBoard(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("dla") / "net.onnx"
    parsed = onnx.parser.parse_model(TEXT)
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    parsed.graph.initializer.append(onnx.numpy_helper.from_array(0.2 * weights, "w"))
    onnx.save(parsed, path)
    return path


@pytest.fixture(scope="module")
def bundle(cache, model) -> Path:
    """Only read it."""
    out = model.parent / "net"
    result = invoke(cache, "compile", model, *FLAGS, "--gpu-fallback", "--fp16", "-o", out)
    assert result.exit_code == 0, result.output
    assert "DLA core 1: 6 of 7 layers in 1 loadables" in result.output
    return out


def told(built: dict) -> dict:
    return json.loads((Path(built["engine_dir"]) / "engine.plan").read_text())


def test_the_board_follows_the_plan(bundle, board):
    built = board.build(bundle)
    plan, seen = read_dla_plan(bundle), told(built)
    assert plan is not None and plan.core == 1 and plan.gpu_layers == ("pick",)
    assert seen["device"] == "GPU" and seen["devices"] == dict.fromkeys(plan.dla_layers, "DLA")
    assert seen["numbers"]["DLA_core"] == 1 and {"FP16", "GPU_FALLBACK"} <= set(seen["flags"])
    assert {name: seen["pools"][name] for name in ("DLA_MANAGED_SRAM", "DLA_LOCAL_DRAM", "DLA_GLOBAL_DRAM")} == {
        "DLA_MANAGED_SRAM": 1 << 20, "DLA_LOCAL_DRAM": 1 << 30, "DLA_GLOBAL_DRAM": 512 << 20,
    }  # fmt: skip
    assert "DLA core 1: 6 of 6 planned layers, 1 of the network's layers on the GPU" in built["notes"]
    assert "the build log names 1 loadables on the DLA: 'stem...pool'" in built["notes"]
    manifest = read_bundle(bundle)
    assert "dla_plan.json" in manifest.files and dict(manifest.engine.key.options)["dla_plan"] == "dla_plan.json"
    assert "decompose_hardswish" in [step.name for step in manifest.steps if step.rewrites]
    assert board.build(bundle)["reused"] is True


def test_what_the_board_refuses_is_said(bundle, board):
    board.refuses = "pool"
    built = board.build(bundle)
    assert "pool" not in told(built)["devices"] and len(told(built)["devices"]) == 5
    assert "TensorRT refused 1 planned layers for the DLA: 'pool'" in built["notes"]


def test_a_board_without_dla_cores_refuses_and_keeps_nothing(bundle, board):
    board.environment = lambda mode="": {**Board.environment(board, mode), "HWC_FAKE_DLA_CORES": "0"}
    done = board.run(bundle, "build")
    assert done.returncode == 3 and "DLA" in done.stderr and "Traceback" not in done.stderr
    assert board.left() == []


def test_int8_goes_to_the_dla_by_the_cache_of_the_float_graph(hwc, sound, board, tmp_path):
    out = tmp_path / "int8"
    result = hwc("compile", sound.model, *FLAGS[:4], "--gpu-fallback", "--precision", "int8", *sound.flags, "-o", out)
    assert result.exit_code == 0, result.output
    assert "INT8 scales grew to those of their neighbours" in result.output
    request = json.loads((out / "build.json").read_text())
    assert request["model"] == "model.float.onnx" and request["options"]["calibration_cache"] == "calib.cache"
    assert request["implicit"] == {} and (request["precision"], request["tolerance"]) == ("fp16", "int8")
    scales = dict(line.split(": ") for line in (out / "calib.cache").read_text().splitlines()[1:])
    plan, seen = read_dla_plan(out), told(board.build(out))
    assert plan is not None and plan.precision == "int8" and seen["devices"] == dict.fromkeys(plan.dla_layers, "DLA")
    graph = onnx.load(out / "model.float.onnx").graph
    pools = [node for node in graph.node if node.op_type == "AveragePool" and node.name in plan.dla_layers]
    assert pools and all(scales[node.input[0]] == scales[node.output[0]] for node in pools)
    assert seen["calibrated"] and {"INT8", "FP16"} <= set(seen["flags"])


def test_what_cannot_go_to_a_dla_is_refused_with_the_fact_and_its_source(hwc, model, tmp_path):
    refused = hwc("compile", model, "-t", "agx-xavier", "--useDLACore=0", "-o", tmp_path / "out")
    assert_refused(refused, 3, "not every layer may run", "node 'pick' (Gather)", "source:", "--gpu-fallback")
    refused = hwc("compile", model, "-t", "orin-nano", "--useDLACore=0", "-o", tmp_path / "out")
    assert_refused(refused, 3, "has no DLA", "dla.count = 0", "source:")
    refused = hwc("compile", model, "-t", "agx-xavier", "--dla-objective=all", "-o", tmp_path / "out")
    assert_refused(refused, 2, "--use-dla-core")
    assert not (tmp_path / "out").exists()
