"""A fake board, named as one: an AGX Xavier as a folder tree, a bundle for it, and a backend that only remembers.

Needs nothing but numpy, so that the tests of the device half run on the Python of a board.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from hwc.array_file import save_arrays
from hwc.artifacts import BuildKey, Bundle, Engine, Fact, Kernel, Target, TensorSpec
from hwc.board_request import BoardRequest, write_request
from hwc.bundle import SCHEMA, hash_files, write_manifest
from hwc.engines.base import Session, check_feeds
from hwc.errors import TargetError, UsageError

CUDA_ANSWER = '{"count": 1, "name": "Xavier", "compute_capability": "7.2", "sm_count": 8, "driver_cuda": "11.4"}'
FILES = {
    "proc/device-tree/model": "Jetson-AGX\x00",
    "proc/device-tree/compatible": "nvidia,p2972-0000\x00nvidia,p2888-0004\x00nvidia,tegra194\x00",
    "proc/meminfo": "MemTotal:       31928000 kB\n",
    "etc/nv_tegra_release": "# R35 (release), REVISION: 6.4, GCID: 1, BOARD: t186ref, EABI: aarch64\n",
    "etc/hostname": "xavier-on-the-shelf\n",
    "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "11.4.19"}}',
    "var/lib/dpkg/status": (
        "Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 5.1.6-b1\n\n"
        "Package: libnvinfer8\nStatus: install ok installed\nArchitecture: arm64\nVersion: 8.5.2-1+cuda11.4\n\n"
    ),
    "sys/class/devfreq/17000000.gv11b/min_freq": "1377000000\n",
    "sys/class/devfreq/17000000.gv11b/max_freq": "1377000000\n",
}
COMMANDS = {
    "usr/bin/uname": "echo aarch64",
    "usr/sbin/nvpmodel": "echo 'NV Power Mode: MAXN'; echo 0",
    "usr/bin/python3": f"echo '{CUDA_ANSWER}'",  # answers the question to the CUDA driver
}
INPUT, OUTPUT = TensorSpec("x", "float32", (2, 3)), TensorSpec("y", "float32", (2, 3))
ONNX = b"\x08\x08"  # ir_version 8 and nothing else: what a reader of the wire format takes for a model


def plant_xavier(root: Path, *, files: dict[str, str] | None = None, commands: dict[str, str] | None = None) -> Path:
    """Writes the board's tree; `files` and `commands` replace some of it."""
    for name, text in {**FILES, **(files or {})}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, line in {**COMMANDS, **(commands or {})}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"#!/bin/sh\n{line}\n")
        os.chmod(root / name, 0o755)
    return root


def fact(value: Any) -> Fact:
    return Fact(value, "unit", "this test says so")


def xavier_facts(**changed: Any) -> dict[str, Fact]:
    """What a probe of the board sees; None takes a fact away. Dots in names are written as two underscores."""
    seen: dict[str, Any] = {
        "machine.architecture": "aarch64", "jetson.soc": "tegra194", "software.tensorrt": "8.5.2.2",
        "software.l4t": "35.6.4", "software.cuda": "11.4.19", "software.python": "3.8.10", "gpu.name": "Xavier",
        "gpu.compute_capability": "7.2", "gpu.sm_count": 8, "jetson.power_mode": "MAXN",
        "jetson.clocks_locked": True, "software.numpy": "1.19.5",
    }  # fmt: skip
    seen.update({name.replace("__", "."): value for name, value in changed.items()})
    return {name: fact(value) for name, value in seen.items() if value is not None}


def xavier_target(engine: str = "tensorrt") -> Target:
    known = {
        "jetson.soc": "tegra194", "jetson.module_part_numbers": None, "gpu.compute_capability": "7.2",
        "software.tensorrt": "8.5.2", "software.l4t": "35.6.4", "software.python": "3.8", "memory.size_gb": 32,
    }  # fmt: skip
    return Target("test-xavier", "Test Xavier", "jetson", engine, {name: fact(value) for name, value in known.items()})


def write_bundle(folder: Path, *, engine: str = "tensorrt", target: Target | None = None, **request: Any) -> Path:
    """A bundle whose model does y = 2 x, as its example arrays say; nobody parses the model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(ONNX)
    (folder / "model.float.onnx").write_bytes(ONNX + b"\x38\x01")
    (folder / "calib.cache").write_text("TRT-8502-EntropyCalibration2\nx: 3c010204\n")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_arrays(folder / "check.feeds.npz", {"x": x})
    save_arrays(folder / "check.expected.npz", {"y": 2 * x})
    asked = BoardRequest(**{
        "engine": engine, "model": "model.onnx", "precision": "fp16", "tolerance": "fp16",
        "options": {"workspace_bytes": "1048576"}, "feeds": "check.feeds.npz", "expected": "check.expected.npz",
        **request,
    })  # fmt: skip
    write_request(folder, asked)
    seal_bundle(folder, engine, target)
    return folder


def seal_bundle(folder: Path, backend: str = "tensorrt", target: Target | None = None) -> None:
    """Writes the manifest over the files that are there."""
    key = BuildKey("0" * 64, "test-xavier", f"{backend} 8.5.2", "fp16")
    engine = Engine(backend, "deferred", key, (), (INPUT,), (OUTPUT,), (), 0, None, None, 0.0, ())
    files = hash_files(folder)
    write_manifest(folder, Bundle(
        SCHEMA, "net", target or xavier_target(), "auto", (INPUT,), (OUTPUT,), (), (), engine, files, {"hwc": "0"}, ()
    ))  # fmt: skip


class FakeBackend:
    """Stands for an engine's module: builds a file with its own request in it, and doubles what it is fed.

    `requests` are all builds that were asked. `factor` is what a session multiplies by, None for a machine that cannot
    run it. A `failure` is raised in the middle of a build, when half a plan lies there.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.factor: float | None = 2.0
        self.failure: BaseException | None = None

    def build(self, request: Any) -> Engine:
        known = {"workspace_bytes", "builds", "calibration_cache", "dla_core", "dla_plan", "dynamic_plugins"}
        unknown = set(request.options) - known
        if unknown:
            raise UsageError("the fake engine has no such option", got=", ".join(sorted(unknown)))
        self.requests.append(request)
        request.progress("building", 0.5)
        (request.out_dir / "engine.plan").write_text(f"half of plan {len(self.requests)}")
        if self.failure is not None:
            raise self.failure
        (request.out_dir / "engine.plan").write_text(f"plan {len(self.requests)} of {request.model.name}")
        kernels = (Kernel("conv", "Conv", "fp16"),)
        return Engine(
            "tensorrt", "built", request.key, ("engine.plan",), request.inputs, request.outputs, kernels, 24, 4096,
            None, 1.5, ("fake",), (("fp16", 1),), ("built by a fake",),
        )  # fmt: skip

    def open_session(self, engine: Engine, folder: Path, **options: Any) -> Session:
        assert (folder / "engine.plan").is_file()
        if self.factor is None:
            raise TargetError("this engine cannot run here")
        return _Doubler(self.factor)


class _Doubler(Session):
    inputs, outputs = (INPUT,), (OUTPUT,)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def run(self, feeds: Any) -> dict[str, np.ndarray]:
        check_feeds(self.inputs, feeds)
        return {"y": (self.factor * feeds["x"]).astype(np.float32)}
