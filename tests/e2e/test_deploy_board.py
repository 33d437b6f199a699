"""From `hwc compile` over ssh to an engine: the bundle's own hwc.pyz on a loopback board, through a real sshd.

Nothing between the two commands is a stand-in but what no machine without a board has: the Xavier is a folder and its
TensorRT 8.5.2 the strict fake of tests/engines/fake_modules.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwc.bundle import read_bundle
from tests.e2e.fixtures import Hwc, document
from tests.fake_board import CUDA_ANSWER, plant_xavier
from tests.remote.loopback import Board, loopback_board, missing_programs

FAKE_TENSORRT = Path(__file__).resolve().parents[1] / "engines" / "fake_modules"


def plant_tensorrt(root: Path, version: str) -> None:
    """What that board's Python says of its TensorRT, and of the CUDA driver."""
    answer = f'case "$2" in "import tensorrt"*) echo {version};; *) echo \'{CUDA_ANSWER}\';; esac'
    plant_xavier(root, commands={"usr/bin/python3": answer})


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Iterator[Board]:
    lacking = missing_programs()
    if lacking:
        pytest.skip(f"DEPLOYMENT WITH THE REAL hwc.pyz IS NOT TESTED HERE: this machine has no {lacking}")
    folder = tmp_path_factory.mktemp("ssh")
    told = {"HWC_BOARD_ROOT": str(folder / "root"), "HWC_ENGINE_STORE": str(folder / "store"),
            "HWC_FAKE_TENSORRT_VERSION": "8.5.2.2", "PYTHONPATH": str(FAKE_TENSORRT)}  # fmt: skip
    plant_tensorrt(folder / "root", "8.5.2.2")
    with loopback_board(folder / "board", python=sys.executable, has_numpy=True, env=told) as board:
        yield board


def deploy(hwc: Hwc, board: Board, bundle: Path, *flags: object) -> dict:
    result = hwc("deploy", bundle, "--host", "board", "--ssh-config", board.ssh_config, "--format", "json", *flags)
    assert result.exit_code == 0, result.output
    (host,) = document(result)["hosts"]
    return host


def test_what_was_compiled_is_built_over_ssh_and_the_second_run_finds_its_engine(hwc, board, board_bundle):
    first = deploy(hwc, board, board_bundle, "--build")
    assert first["ok"] and first["machine"]["tensorrt"] == "8.5.2.2" and first["machine"]["gpu"] == "Xavier"
    built, folder = first["build"], Path(first["build"]["engine_dir"])
    assert built["runtime"] == "tensorrt 8.5.2.2" and built["state"] == "built" and built["reused"] is False
    assert folder.parent == board.root.parent / "store" and folder.name == built["fingerprint"]
    plan = json.loads((folder / "engine.plan").read_text())
    assert plan["version"] == "8.5.2.2" and "FP16" in plan["flags"] and plan["io"][0]["name"] == "x"
    options = dict(read_bundle(board_bundle).engine.key.options)
    assert plan["pools"]["WORKSPACE"] == int(options["workspace_bytes"])
    again = deploy(hwc, board, board_bundle, "--build")
    # An equal job's result is handed out again; the board's own store is asked when the job is another one.
    assert again["build"]["reused"] is True and again["build"]["engine_dir"] == str(folder)
    assert again["sent_bytes"] == 0 and again["build"]["fingerprint"] == built["fingerprint"]


def test_another_tensorrt_is_refused_before_the_model_is_sent(hwc, board, board_bundle):
    plant_tensorrt(board.root.parent / "root", "10.3.0")
    there = ("--host", "board", "--ssh-config", board.ssh_config, "--remote-dir", "~/other", "--build")
    refused = hwc("deploy", board_bundle, *there)
    assert refused.exit_code == 3 and "TargetError: board has TensorRT 10.3.0" in refused.stderr, refused.output
    assert "expected:  TensorRT 8.5.2" in refused.stderr and "--accept-differences" in refused.stderr
    assert not list(board.home.rglob("other*/**/model.onnx")) and not (board.home / "other").exists()
