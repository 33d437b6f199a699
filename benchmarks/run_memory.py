"""Plans the memory of hard problems and of the suite's networks: bound, greedy family, ours, time.

    python -m benchmarks.run_memory [--problems A,C] [--models a,b] [--no-models] [--seconds 60] [--cpsat PYTHON]

Problems are those of benchmarks/minimalloc, each planned at its capacity by a process of its own, so that the time
includes loading the compiled kernel (its first use on a machine compiles it; that time is measured apart, with an empty
cache). CPU seconds stand beside wall-clock ones, because another program's load makes only the latter longer.

Networks are the optimized FP32 graphs for the CPU, planned by their fusion groups, twice: without any sharing of
storage between tensors, and with what is legal. Every plan is judged by hwc/memory/check.py before its figure counts.

`--cpsat` names the Python of an environment with benchmarks/requirements-memory.txt; then OR-tools' CP-SAT gets each
problem too, with 2 workers and the same limit. Writes memory.json and memory.md into benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.models import LIGHT, SUITE, VARIANTS, Entry, find_entry
from benchmarks.plain import source_for_hwc
from benchmarks.report import describe_machine, put_in_words
from benchmarks.report_memory import format_report
from hwc.memory.check import check_plan, fault_of_offsets
from hwc.memory.csv_file import read_problem
from hwc.memory.greedy import greedy_plans
from hwc.memory.lifetimes import lower_bound
from hwc.memory.planners import plan

ROOT = Path(__file__).resolve().parents[1]
PROBLEMS = ROOT / "benchmarks" / "minimalloc"
# "MiniMalloc solve ms" of the authors' slides (ASPLOS 2024, slide 22), hardware not stated.
PUBLISHED_SECONDS = {"A": 4.910, "C": 0.637, "D": 2.674, "F": 5.358, "H": 1.808, "I": 3.908, "K": 0.628}
# Built as graphs, with random weights: branchy ones, and the 3-D U-Net.
BUILT = {"densenet121": (3, 224, 224), "inception_v3": (3, 299, 299), "mobilenet_v1": (3, 224, 224),
         "resnet50": (3, 224, 224), "yolov8n": (3, 640, 640), "unet3d": (4, 128, 128, 128)}  # fmt: skip
ENTRIES = (*SUITE, *(entry for entry in VARIANTS if entry.name == "linknet3d_128"), *LIGHT)


@dataclass(frozen=True)
class ProblemRow:
    """One hard problem at its capacity. Sizes in bytes; `cpsat` is None where it was not asked, "" where not solved."""

    name: str
    buffers: int
    capacity: int
    bound: int
    greedy: int
    greedy_name: str
    height: int
    method: str
    nodes: int
    seconds: float
    cpu_seconds: float
    cpsat: str | None = None


@dataclass(frozen=True)
class NetworkRow:
    """One network. Sizes in bytes; `apart` is the sum of all buffers, `plain_*` are without shared storage."""

    name: str
    buffers: int
    apart: int
    plain_bound: int
    plain_height: int
    bound: int
    by_start: int
    by_size: int
    height: int
    reuse: str
    method: str
    seconds: float
    cpu_seconds: float
    refused: str = ""


def problem_path(name: str) -> Path:
    """The file of one instance."""
    (path,) = PROBLEMS.glob(f"{name}.*.csv")
    return path


def capacity_of(path: Path) -> int:
    """Bytes, from the file's name."""
    return int(path.stem.rsplit(".", 1)[1])


def plan_problem(name: str, seconds: float) -> ProblemRow:
    """Plans one instance in this process."""
    path = problem_path(name)
    buffers, capacity = read_problem(path), capacity_of(path)
    _, greedy_name, greedy = min((height, method, height) for method, _, height in greedy_plans(buffers))
    cpu = time.process_time()
    made = plan(buffers, capacity, seconds)
    cpu = time.process_time() - cpu
    check_plan(made)
    return ProblemRow(name, len(buffers), capacity, lower_bound(buffers), greedy, greedy_name, made.height_bytes,
                      made.method, made.nodes, made.seconds, cpu)  # fmt: skip


def in_own_process(name: str, seconds: float, cache: str = "") -> ProblemRow:
    """The same in a fresh process; `cache` is another folder for compiled code."""
    env = {**os.environ, **({"NUMBA_CACHE_DIR": cache} if cache else {})}
    command = [sys.executable, "-m", "benchmarks.run_memory", "--one", name, "--seconds", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return ProblemRow(**json.loads(done.stdout))


def ask_cpsat(python: str, name: str, seconds: float) -> str:
    """Seconds as text, "" if it found nothing; its plan is judged like ours."""
    path = problem_path(name)
    peer = str(ROOT / "benchmarks" / "memory_peer_cpsat.py")
    command = [python, peer, str(path), str(capacity_of(path)), str(seconds), "2"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if said["offsets"] is None:
        return ""
    buffers = read_problem(path)
    fault = fault_of_offsets(buffers, said["offsets"])
    top = max(o + b.size_bytes for o, b in zip(said["offsets"], buffers))
    return f"WRONG: {fault}" if fault or top > capacity_of(path) else f"{said['seconds']:.2f}"


def plan_graph(name: str, model: Any, groups: Any, inputs: Any, seconds: float) -> NetworkRow:
    """Plans one graph; the time is that of lifetimes with sharing and of their plan."""
    from hwc.schedule.lifetimes import find_lifetimes

    plain = find_lifetimes(model, groups=groups, inputs=inputs, reuse="none").buffers
    plain_plan = plan(plain, seconds=seconds)
    check_plan(plain_plan)
    began, cpu = time.monotonic(), time.process_time()
    found = find_lifetimes(model, groups=groups, inputs=inputs)
    made = plan(found.buffers, seconds=seconds)
    spent, cpu = time.monotonic() - began, time.process_time() - cpu
    check_plan(made)
    heights = {method: height for method, _, height in greedy_plans(found.buffers)}
    return NetworkRow(
        name, len(found.buffers), sum(b.size_bytes for b in plain), lower_bound(plain), plain_plan.height_bytes,
        made.bound_bytes, heights["greedy by start, first fit"], heights["greedy by size, best fit"],
        made.height_bytes, found.reuse, made.method, spent, cpu,
    )  # fmt: skip


def plan_network(entry: Entry, store: Any, seconds: float) -> NetworkRow:
    """One network of the suite; a failure is a row with its reason."""
    import onnx_ir as ir

    from hwc import targets
    from hwc.capture import MODEL, capture_model
    from hwc.engines.base import no_progress
    from hwc.graph.shapes import infer_shapes
    from hwc.optimize import OptimizeOptions, optimize_model

    try:
        with tempfile.TemporaryDirectory(prefix="hwc-memory-") as work:
            source, shapes = source_for_hwc(entry, Path(work))
            captured, _ = capture_model(source, shapes, store=store)
            target = targets.load("cpu")
            optimized, _ = optimize_model(captured, target, OptimizeOptions("fp32", target.engine), store=store,
                                          progress=no_progress)  # fmt: skip
            model = ir.load(optimized.folder / MODEL)
            infer_shapes(model)
            return plan_graph(entry.name, model, optimized.groups, optimized.inputs, seconds)
    except Exception as error:  # one network must not take the others with it
        return NetworkRow(entry.name, 0, 0, 0, 0, 0, 0, 0, 0, "", "", 0.0, 0.0, put_in_words(error))


def plan_built(name: str, seconds: float) -> NetworkRow:
    """One network of benchmarks/networks, by its nodes: it was not optimized."""
    from benchmarks.networks import build_network
    from hwc.graph.shapes import infer_shapes

    model = build_network(name, BUILT[name])
    infer_shapes(model)
    return plan_graph(name, model, (), (), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_memory", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--problems", default=",".join(PUBLISHED_SECONDS))
    parser.add_argument("--models", default="")
    parser.add_argument("--no-models", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cache-dir", type=Path, default=Path(".cache/steps"))
    parser.add_argument("--cpsat", default="", metavar="PYTHON")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "memory.json")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(asdict(plan_problem(args.one, args.seconds))))
        return
    from hwc.store import Store

    machine = describe_machine(" ".join(["python -m benchmarks.run_memory", *sys.argv[1:]]))
    with tempfile.TemporaryDirectory() as empty:
        cold = in_own_process("A", args.seconds, empty)
    problems = []
    for name in args.problems.split(","):
        row = in_own_process(name, args.seconds)
        if args.cpsat:
            row = ProblemRow(**{**asdict(row), "cpsat": ask_cpsat(args.cpsat, name, args.seconds)})
        print(f"{name}: {row.height} of {row.capacity} bytes in {row.seconds:.2f} s", file=sys.stderr)
        problems.append(row)
    networks = []
    if not args.no_models:
        store = Store(args.cache_dir)
        chosen = args.models.split(",") if args.models else [*(entry.name for entry in ENTRIES), *BUILT]
        for name in chosen:
            row_of = plan_built(name, args.seconds) if name in BUILT else plan_network(find_entry(name), store,
                                                                                       args.seconds)  # fmt: skip
            print(f"{name}: {row_of.refused or f'{row_of.height} bytes, bound {row_of.bound}'}", file=sys.stderr)
            networks.append(row_of)
    results = {"machine": machine, "cold_seconds": cold.seconds, "cold_cpu_seconds": cold.cpu_seconds,
               "published_seconds": PUBLISHED_SECONDS,
               "built": list(BUILT),
               "problems": [asdict(r) for r in problems], "networks": [asdict(r) for r in networks]}  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for path, text in ((args.out, json.dumps(results, indent=1) + "\n"),
                       (args.out.with_suffix(".md"), format_report(results))):  # fmt: skip
        partial = path.with_name(f".{path.name}.tmp")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)


if __name__ == "__main__":
    main()

