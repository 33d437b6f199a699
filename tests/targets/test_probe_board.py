"""What a board says of itself is read from files and commands below its own root, and nowhere else."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hwc.targets import ask_cuda as asking
from hwc.targets import probe_board as board
from hwc.targets.probe import probe
from tests.fake_board import plant_xavier


def values(root: Path) -> dict:
    return {name: found.value for name, found in probe(root).items()}


def test_a_xavier_is_seen_whole(tmp_path):
    facts = probe(plant_xavier(tmp_path))
    seen = {name: found.value for name, found in facts.items()}
    assert seen["machine.architecture"] == "aarch64" and seen["machine.hostname"] == "xavier-on-the-shelf"
    assert seen["jetson.soc"] == "tegra194" and seen["jetson.power_mode"] == "MAXN"
    assert seen["jetson.clocks_locked"] is True
    assert seen["software.jetpack"] == "5.1.6" and seen["software.libnvinfer"] == "8.5.2"
    assert seen["software.cuda"] == "11.4.19" and seen["software.l4t"] == "35.6.4"
    assert (seen["gpu.name"], seen["gpu.compute_capability"], seen["gpu.sm_count"]) == ("Xavier", "7.2", 8)
    assert seen["machine.memory_bytes"] == 31928000 * 1024
    assert all(found.source and found.unit for found in facts.values())


def test_this_machine_never_answers_for_another_root(tmp_path):
    seen = values(tmp_path)
    strange = [name for name in seen if not name.startswith("software.")]
    assert strange == [], "only Python and its packages are of the interpreter that runs"
    assert board.commands_below(tmp_path)(["uname", "-m"]) is None
    assert board.commands_below(Path("/")) is board.run_command


def test_the_library_without_python_bindings_is_a_tensorrt(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "_ask_module", lambda name, run: None)
    monkeypatch.setattr("hwc.targets.probe.RUNTIMES", {})
    found = probe(plant_xavier(tmp_path))["software.tensorrt"]
    assert found.value == "8.5.2" and "dpkg" in found.source


@pytest.mark.parametrize(
    ("changed", "locked"),
    [
        ({"17000000.gv11b/min_freq": "114750000\n"}, False),
        ({"17000000.gv11b/min_freq": "?\n"}, None),
        ({"15880000.nvdla0/min_freq": "1\n", "15880000.nvdla0/max_freq": "2\n"}, True),
        ({"gpu-gpc-0/min_freq": "1\n", "gpu-gpc-0/max_freq": "2\n"}, False),
    ],
)
def test_clocks_are_locked_when_no_gpu_domain_may_move(tmp_path, changed, locked):
    files = {f"sys/class/devfreq/{name}": text for name, text in changed.items()}
    assert values(plant_xavier(tmp_path, files=files)).get("jetson.clocks_locked") is locked


NO_VERSIONS = ["", "{", "[]", '{"cuda": 1}', '{"cuda": {"version": 11}}', '{"cuda": {"version": "x"}}']


@pytest.mark.parametrize("text", NO_VERSIONS)
def test_a_cuda_folder_that_says_nothing_leaves_the_word_to_the_driver(tmp_path, text):
    facts = probe(plant_xavier(tmp_path, files={"usr/local/cuda/version.json": text}))
    assert facts["software.cuda"].value == "11.4" and "driver" in facts["software.cuda"].source


@pytest.mark.parametrize("answer", ["exit 1", "echo", "echo '[1]'", "echo 'Segmentation fault'"])
def test_a_driver_that_fails_gives_no_facts(tmp_path, answer):
    seen = values(plant_xavier(tmp_path, commands={"usr/bin/python3": answer}))
    assert not [name for name in seen if name.startswith("gpu.")]


def test_versions_are_cut_where_debian_adds_to_them(tmp_path):
    status = "Package: libnvinfer10\nVersion: 1:10.3.0.30-1+cuda12.5\n\nPackage: libnvinfer-dev\nVersion: 9.9.9\n"
    assert values(plant_xavier(tmp_path, files={"var/lib/dpkg/status": status}))["software.libnvinfer"] == "10.3.0.30"


def test_a_module_without_package_metadata_is_asked_in_a_process_apart(tmp_path, monkeypatch):
    (tmp_path / "oddmodule.py").write_text("__version__ = '8.5.2.2'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert board._ask_module("oddmodule", board.run_command) == "8.5.2.2"
    assert "oddmodule" not in sys.modules
    (tmp_path / "oddmodule.py").write_text("raise SystemError('a broken library')\n")
    assert board._ask_module("oddmodule", board.run_command) is None
    assert board._ask_module("no_such_module", pytest.fail) is None
    assert board._ask_module("pytest", pytest.fail) is None  # has metadata, which `probe` reads


class FakeDriver:
    """A CUDA driver of one Xavier; `broken` names the calls that fail."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken

    def __getattr__(self, name: str):
        fill = {
            "cuInit": lambda flags: None,
            "cuDeviceGetCount": lambda out: setattr(out._obj, "value", 1),
            "cuDeviceGetName": lambda buffer, size, device: setattr(buffer, "value", b"Xavier"),
            "cuDeviceTotalMem_v2": lambda out, device: setattr(out._obj, "value", 1 << 34),
            "cuDriverGetVersion": lambda out: setattr(out._obj, "value", 11040),
            "cuDeviceGetAttribute": lambda out, which, device: setattr(out._obj, "value", {75: 7, 76: 2, 16: 8}[which]),
        }[name]
        return lambda *args: 999 if name in self.broken else fill(*args) or 0


def test_the_cuda_driver_is_asked(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver())
    assert asking.ask_cuda() == {
        "count": 1, "name": "Xavier", "compute_capability": "7.2", "sm_count": 8, "memory_bytes": 1 << 34,
        "driver_cuda": "11.4",
    }  # fmt: skip
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver("cuDeviceGetName", "cuDeviceGetAttribute"))
    assert set(asking.ask_cuda()) == {"count", "memory_bytes", "driver_cuda"}
    for call in ("cuInit", "cuDeviceGetCount"):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, call=call: FakeDriver(call))
        assert asking.ask_cuda() == {}


def test_without_a_driver_the_answer_is_empty_and_nothing_of_hwc_is_needed():
    done = subprocess.run([sys.executable, "-I", asking.__file__], stdout=subprocess.PIPE, check=True)
    assert isinstance(json.loads(done.stdout), dict)
