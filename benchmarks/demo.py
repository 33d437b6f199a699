"""The demo: one PyTorch model, three targets, twenty real photos, one table.

    python -m benchmarks.demo [--out demo-out]

EfficientNet-Lite0 is compiled for this CPU (built, run, measured), for an RTX 4090 (TensorRT for RTX builds the real
engine with no GPU present, so its kernels and memory are read back, and nothing about it is timed) and for AGX Xavier
(the bundle; the board builds the engine). Top-1 counts the photos whose first guess is the label, of 20; PyTorch in
FP32 gets 18. A graph for absent hardware is judged in ONNX Runtime, which runs the same graph with other kernels, and
says so. A figure that needs hardware which is not here is not estimated: the cell says what it needs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.accuracy import classify_photos
from benchmarks.models.efficientnet_lite0 import prepare_photos
from hwc.artifacts import Bundle
from hwc.compile import CompileRequest, compile_model
from hwc.errors import HwcError
from hwc.graph.evaluate import Evaluator
from hwc.profile.measure import MeasureOptions, measure
from hwc.sessions import open_bundle
from hwc.store import Store

MODEL = "benchmarks/models/efficientnet_lite0.py:model"
# Two precisions of one GPU target, to show what the narrower one buys; None is the target's own choice.
ROWS = (("cpu", "auto"), ("rtx-4090", "fp32"), ("rtx-4090", "fp16"), ("agx-xavier", "auto"))
HEAD = ("target", "engine", "precision", "size MB", "kernels plain -> hwc", "activations MB", "p50 / p95 ms", "top-1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    parser.add_argument("--cache-dir", type=Path, default=Path(".cache/steps"))
    arguments = parser.parse_args()
    store = Store(arguments.cache_dir)
    console = Console(stderr=True)
    rows = [HEAD]
    started = time.perf_counter()
    with Progress(console=console, transient=True) as bar:
        for target, precision in ROWS:
            task = bar.add_task(f"{target} {precision}", total=1.0)
            out = arguments.out / f"{target}-{precision}"

            def show(what: str, fraction: float, task: object = task, label: str = f"{target} {precision}") -> None:
                bar.update(task, completed=fraction, description=f"{label}: {what}")  # type: ignore[arg-type]

            request = CompileRequest(
                MODEL, target, out, precision=precision, compare_plain=True,
                command=("hwc", "compile", MODEL, "-t", target, "--precision", precision, "-o", str(out)),
            )  # fmt: skip
            bundle, _ = compile_model(request, store=store, progress=show)
            rows.append(describe_row(bundle, out))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(f"bundles in {arguments.out}/, {time.perf_counter() - started:.0f} s; inspect one: "
          f"hwc inspect {arguments.out}/cpu-auto --passes --layers")  # fmt: skip


def describe_row(bundle: Bundle, folder: Path) -> tuple[str, ...]:
    """The cells of one bundle, measured or refused."""
    engine = bundle.engine
    kernels = f"{len(bundle.plain.kernels)} -> {len(engine.kernels)}" if bundle.plain else "built on the board"
    activations = "not told by OpenVINO" if engine.backend == "openvino" else "built on the board"
    if engine.activation_bytes is not None:
        activations = f"{engine.activation_bytes / 1e6:.2f}"
        if bundle.plain and bundle.plain.activation_bytes is not None:
            activations = f"{bundle.plain.activation_bytes / 1e6:.2f} -> {activations}"
    size = engine.size_bytes or (folder / "model.onnx").stat().st_size
    latency, top1 = f"needs {bundle.target.title}", ""
    if engine.state == "verified":
        with open_bundle(folder) as session:
            top1 = count_photos(session.run)
            photo = prepare_photos()[0][:1]
            profile = measure(session, {"inputs": photo}, MeasureOptions(duration_s=3.0), name=bundle.target.name)
            latency = f"{profile.p50_ms:.1f} / {profile.p95_ms:.1f}"
    else:
        top1 = count_photos(Evaluator(folder / "model.onnx").run) + " (graph in ONNX Runtime)"
    return (
        bundle.target.name,
        engine.key.runtime if engine.state != "deferred" else "TensorRT, built on the board",
        engine.key.precision,
        f"{size / 1e6:.1f}" if engine.state != "deferred" else f"{size / 1e6:.1f} (graph)",
        kernels,
        activations,
        latency,
        top1,
    )


def count_photos(run: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]) -> str:
    """Top-1 as "18/20"."""
    return f"{round(classify_photos(run) * 20)}/20"


if __name__ == "__main__":
    try:
        main()
    except HwcError as error:
        sys.exit(str(error))
