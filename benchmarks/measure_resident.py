"""Runs an OpenVINO engine in a process of its own and reports its resident memory and its times as JSON.

The base is the resident size after compiling, with the inputs in place and no run yet: OpenVINO reserves its memory at
compile time and the kernel hands pages out when a run first writes them. The peak is VmHWM, reset (clear_refs 5) at
the base where the kernel allows it; else ru_maxrss, and "reset" says so. Outputs are copied by the session, so the
peak holds them twice.

    python -m benchmarks.measure_resident FOLDER RUNS THREADS      FOLDER as `measure_resident` writes it
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Resident:
    """Bytes above the base, the base, seconds per run, and whether the high-water mark could be reset."""

    peak_bytes: int
    base_bytes: int
    seconds: tuple[float, ...]
    is_reset: bool


def measure_resident(model: object, folder: Path, *, runs: int = 3, threads: int = 0) -> Resident:
    """Builds the engine of an `onnx_ir` model into `folder`, and measures it in a child process.

    Raises:
        RuntimeError: the child failed; its last lines are in the message.
    """
    import onnx_ir as ir

    from hwc import targets
    from hwc.artifacts import BuildKey
    from hwc.engines import base as engines
    from hwc.graph.save import save_model
    from hwc.graph.shapes import read_specs
    from hwc.serialize import to_json

    assert isinstance(model, ir.Model)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, folder / "model.onnx")
    key = BuildKey("", "cpu", "openvino", "fp32")
    request = engines.BuildRequest(
        model=folder / "model.onnx", target=targets.load("cpu"), inputs=read_specs(model.graph.inputs),
        outputs=read_specs(model.graph.outputs), precision="fp32", key=key, out_dir=folder / "engine",
        threads=threads,
    )  # fmt: skip
    # In a child too: building runs the engine once, and what this process holds is no figure of the engine.
    (folder / "engine.json").write_text(to_json(engines.build("openvino", request)))
    command = [sys.executable, "-m", "benchmarks.measure_resident", str(folder), str(runs), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1])
    if done.returncode:
        raise RuntimeError(f"the child failed: {done.stderr[-800:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Resident(found["peak"], found["base"], tuple(found["seconds"]), found["reset"])


def status_bytes(name: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _child(folder: Path, runs: int, threads: int) -> None:
    from hwc.artifacts import Engine
    from hwc.engines import base as engines
    from hwc.serialize import from_json

    engine = from_json(Engine, (folder / "engine.json").read_text())
    rng = np.random.default_rng(0)
    feeds = {spec.name: rng.random(spec.at("opt"), np.float32) for spec in engine.inputs}
    with engines.open_session(engine, folder / "engine", threads=threads) as session:
        base = status_bytes("VmRSS")
        try:
            Path("/proc/self/clear_refs").write_text("5")
            is_reset = True
        except OSError:
            is_reset = False
        seconds = []
        for _ in range(runs):
            start = time.perf_counter()
            session.run(feeds)
            seconds.append(time.perf_counter() - start)
        top = status_bytes("VmHWM") if is_reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": top - base, "base": base, "seconds": seconds, "reset": is_reset}))


def in_temporary_folder(model: object, **options: int) -> Resident:
    """`measure_resident` in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="hwc-resident-") as folder:
        return measure_resident(model, Path(folder), **options)


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
