"""Compares INT8 made by hwc with that of ONNX Runtime, NNCF and ModelOpt: accuracy, SQNR, latency, size, time.

    python -m benchmarks.run_int8 [--models a,b] [--peers hwc,ort,nncf,modelopt] [--seconds 60] [--photos DIR]

Per network: the FP32 file that hwc starts from and the samples are written into the work folder (int8_data.py), each
peer quantizes that file with the calibration samples in an environment of its own (int8_candidates.py), and one process
judges all results on the validation samples with OpenVINO and times them in one interleaved run (int8_judge.py).

Writes int8.json, with the score of every sample and every latency in nanoseconds, and int8.md into benchmarks/results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path

from benchmarks.int8_candidates import PEERS, Limits, has_vnni, make_hwc, make_peer, run_limited, variants_of
from benchmarks.int8_data import DATA
from benchmarks.int8_feeds import read_samples, write_samples
from benchmarks.int8_judge import MAX_ROUNDS, OPENING_S, Candidate, Row, judge_all
from benchmarks.models import find_entry
from benchmarks.report import describe_machine, read_rows, show_progress, write_results
from hwc.engines.base import Progress
from hwc.profile.measure import MeasureOptions
from hwc.serialize import from_json, to_json

MODEL, CALIBRATION, VALIDATION, HWC_DATA = "plain.onnx", "calibration.npz", "validation.npz", "hwc_calibration.npz"


def prepare(model: str, work: Path, photos: Path | None, threads: int) -> Row:
    """Writes the FP32 file and both sets of samples; the row knows their counts."""
    import numpy as np
    import onnx

    from benchmarks.contestants import open_openvino
    from benchmarks.plain import bind_feeds, make_plain

    entry = find_entry(model)
    plain = make_plain(entry, work)
    # One file with its weights inside: not every peer finds weights that lie beside the file.
    onnx.save(onnx.load(str(plain.path)), str(work / MODEL))
    (work / f"{MODEL}.data").unlink(missing_ok=True)
    session = open_openvino(plain, "fp32", threads)
    data = DATA[model](lambda feeds: list(session.run(bind_feeds(session.inputs, feeds)).values()), photos)
    # Peers feed by name, so the names are those of the file.
    names = dict(zip(data.calibration.feeds, (spec.name for spec in plain.inputs)))
    for samples, file in ((data.calibration, CALIBRATION), (data.validation, VALIDATION)):
        feeds = {names[name]: stack for name, stack in samples.feeds.items()}
        write_samples(work / file, dataclasses.replace(samples, feeds=feeds))
    stacks = {names[name]: np.concatenate(list(stack)) for name, stack in data.calibration.feeds.items()}
    if data.calibration.task == "class":
        stacks["labels"] = np.array([int(truth) for truth in data.calibration.truths])
    np.savez(work / HWC_DATA, **stacks)  # type: ignore[arg-type]
    return Row(model, data.calibration.task, len(data.calibration), len(data.validation), data.note, threads=threads)


def judge_here(row: Row, candidates: list[Candidate], work: Path, seconds: float) -> Row:
    """Judges and times in this process."""
    from benchmarks.plain import read_plain

    options = None
    if seconds > 0:
        each = seconds / (1 + len(candidates))
        options = MeasureOptions(duration_s=each, max_rounds=MAX_ROUNDS, opening_s=OPENING_S)
    samples = read_samples(work / VALIDATION)
    return judge_all(row, read_plain(work / MODEL), candidates, samples, options)


def measure_model(model: str, args: argparse.Namespace, progress: Progress) -> Row:
    """One row: prepared, quantized by everyone, judged. Each step is a process of its own."""
    work = args.work / model
    work.mkdir(parents=True, exist_ok=True)
    limits = Limits(args.limit_s, int(args.memory_gb * 2**30), args.threads)
    row_file, empty = work / "row.json", Row(model, threads=args.threads)
    progress("preparing", 0.0)
    problem = _step("prepare", model, args, limits, work)
    if problem:
        return dataclasses.replace(empty, problem=f"not prepared: {problem}")
    row = from_json(Row, row_file.read_text())
    candidates: list[Candidate] = []
    plan = [(peer, variant) for peer in PEERS if peer in args.peers for variant in variants_of(peer, model, has_vnni())]
    plan = [(peer, variant) for peer, variant in plan if not args.variants or variant in args.variants]
    for number, (peer, variant) in enumerate(plan):
        progress(f"{peer} {variant}", (1 + number) / (4 + len(plan)))
        python = Path({"nncf": args.nncf_python, "modelopt": args.modelopt_python}.get(peer, sys.executable))
        candidates.append(make_peer(peer, variant, python, work / MODEL, work / CALIBRATION, work, limits))
    progress("hwc", (1 + len(plan)) / (4 + len(plan)))
    if "hwc" in args.peers:
        flags = shlex.split(args.hwc_flags.format(calibration=work / HWC_DATA, validation=work / VALIDATION))
        candidates.append(make_hwc(str(work / MODEL), flags, work, limits))
    for extra in args.extra:
        name, _, path = extra.partition("=")
        candidates.append(Candidate(name, path.format(model=model)))
    progress("judging", (2 + len(plan)) / (4 + len(plan)))
    (work / "candidates.json").write_text(json.dumps([dataclasses.asdict(one) for one in candidates]))
    problem = _step("judge", model, args, limits, work)
    if problem:
        failed = tuple(one for one in candidates if one.problem)
        told = "; ".join(f"{one.name}: {one.problem}" for one in failed)
        return dataclasses.replace(row, problem=f"not judged: {problem}" + (f"; {told}" if told else ""))
    return from_json(Row, row_file.read_text())


def _step(step: str, model: str, args: argparse.Namespace, limits: Limits, work: Path) -> str:
    """Runs this program again for one step of one model; its result lies in row.json."""
    command = [sys.executable, "-m", "benchmarks.run_int8", "--step", step, "--models", model]
    command += ["--work", str(args.work), "--threads", str(args.threads), "--seconds", str(args.seconds)]
    command += ["--photos", str(args.photos)] if args.photos else []
    return run_limited(command, limits, work / f"{step}.log")[1]


def run_step(args: argparse.Namespace) -> int:
    (model,), work = args.models.split(","), args.work / args.models
    if args.step == "prepare":
        row = prepare(model, work, args.photos, args.threads)
    else:
        candidates = [Candidate(**one) for one in json.loads((work / "candidates.json").read_text())]
        row = judge_here(from_json(Row, (work / "row.json").read_text()), candidates, work, args.seconds)
    (work / "row.json").write_text(to_json(row))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_int8", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--models", default=",".join(DATA), help="comma-separated (default: all with a measurable accuracy)")
    add("--peers", default=",".join(("hwc", *PEERS)), help="comma-separated (default: %(default)s)")
    add("--variants", default="", help="only these recipes of the peers, comma-separated")
    add("--seconds", type=float, default=60.0, help="to time each model; 0 times nothing (default: %(default)g)")
    add("--photos", type=Path, default=os.environ.get("HWC_PHOTOS"), help="folder of photos named by class index")
    add("--threads", type=int, default=cores, help="of each engine (default: all, %(default)s)")
    add("--limit-s", type=float, default=1800.0, help="for each process (default: %(default)g)")
    add("--memory-gb", type=float, default=16.0, help="address space of each process, 0: no limit (%(default)g)")
    add("--nncf-python", default=".venv-nncf/bin/python", help="interpreter that has NNCF (default: %(default)s)")
    add("--modelopt-python", default=".venv-modelopt/bin/python", help="one that has ModelOpt (default: %(default)s)")
    add("--hwc-flags", default="--precision int8 --calibration-data {calibration}", help="of `hwc compile`")
    add("--extra", action="append", default=[], metavar="NAME=PATH", help="one more file or bundle, with {model}")
    add("--work", type=Path, default=Path(".cache/int8"), help="where quantized files are kept (default: %(default)s)")
    add("--out", type=Path, default=Path("benchmarks/results/int8.json"))
    add("--update", action="store_true", help="keep the rows of other models that are in --out")
    add("--step", choices=("prepare", "judge"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    args.work, args.photos = args.work.resolve(), Path(args.photos).resolve() if args.photos else None
    unknown = [name for name in args.models.split(",") if name not in DATA]
    if unknown:
        parser.error(f"no accuracy can be measured for {', '.join(unknown)}; there are {', '.join(DATA)}")
    args.peers, args.variants = args.peers.split(","), [name for name in args.variants.split(",") if name]
    strange = set(args.peers) - {"hwc", *PEERS}
    if strange or args.seconds < 0 or args.threads < 1:
        parser.error("--peers takes hwc, ort, nncf, modelopt; --seconds is not negative; --threads at least 1")
    return args


def main(arguments: list[str]) -> int:
    args = parse(arguments)
    if args.step:
        return run_step(args)
    # `timeout` and service managers end a program so; as an exception it also ends the process that works for it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    from rich.console import Console

    from benchmarks.int8_report import describe_row, format_int8

    console, models = Console(stderr=True), args.models.split(",")
    # Results are published, and folders of this machine tell a reader nothing: only their last name is kept.
    told = [re.sub(r"(^|=)(~|\.\.)?/\S*?([^/\s]+)/?$", r"\1\3", word) for word in arguments]
    machine = describe_machine(shlex.join(("python", "-m", "benchmarks.run_int8", *told)))
    kept = read_rows(Row, args.out) if args.update and args.out.is_file() else ()
    rows = {row.model: row for row in kept}
    with show_progress(console, "int8", len(models)) as step:
        for model in models:
            with step(model) as progress:
                rows[model] = measure_model(model, args, progress)
            console.print(describe_row(rows[model]), markup=False, soft_wrap=True)
            ordered = [rows[name] for name in DATA if name in rows]
            write_results(args.out, ordered, machine, format_int8)
    console.print(f"{len(models)} models; written to {args.out} and {args.out.with_suffix('.md')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
