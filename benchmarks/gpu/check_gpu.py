"""Runs the checks that need a CUDA GPU and writes what was found to OUT/<GPU>-<date>.json.

    python -m benchmarks.gpu.check_gpu --out DIR [--bundles DIR]

Each check is a process of its own with a time limit, so a crash of a driver or a runtime is one line of the result. The
checks themselves are the device half's own programs (`hwc.engines.cuda_memory`, `hwc.profile.read_nvml`), the overlap
below, and one run of each bundle.

Overlap: `copies` pinned copies of `size` bytes up and down alone, `kernels` alone, then both on two streams. The factor
is (time alone + time alone) / time together: 1 is no overlap, 2 is the most that two equal parts can reach.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

LIMIT_S = 90
_LOAD = """
import time, torch
a = torch.randn(4096, 4096, device="cuda")
print("on", flush=True)
end = time.time() + 40
while time.time() < end:
    a = (a @ a) / 64
"""


def run(command: list[str], limit_s: float = LIMIT_S) -> dict[str, Any]:
    """A check as a process: its JSON, or how it ended and its last words."""
    start = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return {"problem": f"stopped after {limit_s:.0f} s"}
    result: dict[str, Any] = {"exit_code": done.returncode, "seconds": round(time.monotonic() - start, 1)}
    try:
        return {**result, "said": json.loads(done.stdout)}
    except ValueError:
        words = (done.stdout + done.stderr).strip().splitlines()
        return {**result, "problem": " | ".join(words[-4:])[-600:]}


def describe_device() -> dict[str, str]:
    """What nvidia-smi says; nothing but the Python version where there is none."""
    fields = ("name", "driver_version", "memory.total", "compute_cap", "clocks.max.sm")
    if shutil.which("nvidia-smi") is None:
        return {"python": platform.python_version()}
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    values = [word.strip() for word in done.stdout.splitlines()[0].split(",")] if done.stdout else []
    return {**dict(zip(fields, values)), "python": platform.python_version()}


def check_nvml() -> dict[str, Any]:
    """Idle, then with matrix products running: both must agree within their own uncertainty."""
    command = [sys.executable, "-m", "hwc.profile.read_nvml", "--seconds", "10", "--hz", "20"]
    found = {"idle": run(command)}
    load = subprocess.Popen([sys.executable, "-c", _LOAD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with load:
        assert load.stdout is not None
        found["load"] = run(command) if load.stdout.readline() else {"problem": "no load: torch finds no GPU"}
        load.kill()
    return found


def check_overlap(size: int = 1 << 26, copies: int = 20) -> dict[str, Any]:
    """Milliseconds of copies alone, of matrix products alone, and of both on two streams."""
    import torch

    host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(size, dtype=torch.uint8, device="cuda")
    a = torch.randn(4096, 4096, device="cuda")
    one, two = torch.cuda.Stream(), torch.cuda.Stream()

    def copy() -> None:
        with torch.cuda.stream(one):
            for _ in range(copies):
                there.copy_(host, non_blocking=True)

    def compute() -> None:
        with torch.cuda.stream(two):
            for _ in range(8):
                torch.mm(a, a)

    def time_of(*parts: Callable[[], None]) -> float:
        samples = []
        for _ in range(9):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for part in parts:
                part()
            torch.cuda.synchronize()
            samples.append((time.perf_counter() - start) * 1e3)
        return sorted(samples)[len(samples) // 2]

    time_of(copy, compute)
    apart, kernels, both = time_of(copy), time_of(compute), time_of(copy, compute)
    return {
        "copies_ms": apart, "kernels_ms": kernels, "together_ms": both, "factor": (apart + kernels) / both,
        "copy_gb_s": size * copies / apart / 1e6,
    }  # fmt: skip


def check_bundle(folder: Path) -> dict[str, Any]:
    """Opens and runs one bundle's engine; its outputs against expected.npz beside it, its latency by events."""
    import numpy as np

    from hwc.bundle import read_bundle
    from hwc.compare import compare_outputs, tolerance_of
    from hwc.engines import base

    bundle = read_bundle(folder)
    expected = dict(np.load(folder.with_suffix(".npz")))
    feeds = {spec.name: expected.pop(spec.name) for spec in bundle.inputs}
    found: dict[str, Any] = {"target": bundle.target.name, "precision": bundle.engine.key.precision}
    with base.open_session(bundle.engine, folder) as session:
        outputs = session.run(feeds)
        rtol = tolerance_of(bundle.engine.key.precision)
        found["comparison"] = [str(line) for line in compare_outputs(expected, outputs, rtol)]
        times = []
        for _ in range(200):
            session.run(feeds)
            times.append(session.stage_times_ns())
        found["median_us"] = {name: float(np.median([t[name] for t in times])) / 1e3 for name in times[0]}
        slowest = sorted(session.layers(), key=lambda kernel: -(kernel.time_us or 0))[:5]
        found["slowest_layers"] = [[kernel.name[:80], kernel.time_us] for kernel in slowest]
    return found


def build_here(folder: Path, out: Path) -> dict[str, Any]:
    """Builds the bundle's graph for the GPU of this machine, with no compute capability named."""
    request = json.loads((folder / "engine.request.json").read_text())
    request["compute_capability"], request["model"] = "", str((folder / request["model"]).resolve())
    out.mkdir(parents=True, exist_ok=True)
    (out / "engine.request.json").write_text(json.dumps(request))
    return run([sys.executable, "-m", "hwc.engines.tensorrt_child", str(out / "engine.request.json")])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.check_gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/gpu/results"))
    parser.add_argument("--bundles", type=Path, help="folder of bundles, each with NAME.npz of feeds and outputs")
    parser.add_argument("--only", choices=("overlap", "bundle"), help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.only:
        print(json.dumps(check_overlap() if args.only == "overlap" else check_bundle(args.bundle)))
        return 0
    this = [sys.executable, "-m", "benchmarks.gpu.check_gpu"]
    memory = [sys.executable, "-m", "hwc.engines.cuda_memory"]
    device = describe_device()
    found: dict[str, Any] = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "device": device}
    path = args.out / f"{device.get('name', 'no-gpu').replace(' ', '-').lower()}-{found['date'][:10]}.json"
    args.out.mkdir(parents=True, exist_ok=True)
    checks: dict[str, Callable[[], Any]] = {
        "cuda_memory": lambda: {way: run([*memory, "--way", way]) for way in ("driver", "pycuda")},
        "overlap": lambda: run([*this, "--only", "overlap"]),
        "engines": lambda: {
            folder.name: run([*this, "--only", "bundle", "--bundle", str(folder)])
            for folder in sorted(args.bundles.iterdir() if args.bundles else ()) if (folder / "manifest.json").is_file()
        },
        "build_here": lambda: {
            folder.name: build_here(folder, args.out / "build" / folder.name)
            for folder in sorted(args.bundles.iterdir() if args.bundles else ())[:1]
        },
        "nvml": check_nvml,
    }  # fmt: skip
    for name, check in checks.items():
        found[name] = check()
        print(f"== {name}\n{json.dumps(found[name], indent=1)}")
        path.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
