"""Measures the ten real networks: hwc's engine for this CPU against OpenVINO, ONNX Runtime and torch, in turn.

    python -m benchmarks.run_suite [--models a,b] [--seconds 20] [--threads N]

For each network, all contestants (see benchmarks/contestants.py) get the same inputs and threads. Each one's outputs
are compared with the reference (torch's or ONNX Runtime's, in fp32) before any timing: one that is wrong is named and
not timed. Then all run in one interleaved measurement (`hwc.profile.measure.measure_in_turn`): each warms up until its
latency is stationary, rounds of short blocks follow in balanced orders, and each round gives one ratio of medians, hwc
over peer. The report states the median of those ratios with its 95 % bootstrap interval; below 1, hwc is faster.

Each network runs in a process of its own, so one that crashes, hangs or fails is a row that says so. FP32, and BF16
where this CPU has it. Writes suite.json, with every sample in nanoseconds, and suite.md into benchmarks/results.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.models import SUITE, Entry, find_entry
from benchmarks.report import choose_entries, describe_machine, put_in_words, show_progress, write_results
from hwc.compare import compare_outputs, tolerance_of
from hwc.engines.base import Progress, Session, no_progress
from hwc.profile.measure import Contestant, MeasureOptions, PairedRatio, block_medians, measure_in_turn, paired_ratio
from hwc.serialize import from_json, to_json
from hwc.store import Store

# Networks of a fraction of a millisecond were up to a fifth slower in the first runs after a pause.
OPENING_S = 0.02
# 200 rounds of 10 runs: 24 rows of 4 contestants stay under 2 MB.
MAX_ROUNDS = 200
LIMIT_S = 1800
PROGRESS = "suite-progress"


@dataclass(frozen=True)
class Measured:
    """One contestant: every sample in the order taken, or the problem that kept it from being timed.

    `error` is the largest difference from the reference, over the reference's largest magnitude.
    """

    name: str
    samples_ns: tuple[int, ...] = ()
    warmup_runs: int = 0
    is_stationary: bool = False
    error: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """One network in one precision. Sample i of each contestant belongs to round i // block."""

    model: str
    precision: str
    threads: int = 0
    shapes: str = ""
    reference: str = ""
    block: int = 1
    load: str = ""
    contestants: tuple[Measured, ...] = ()
    problem: str = ""

    def find(self, name: str) -> Measured:
        """That contestant; one without samples if it is not in the row."""
        return next((c for c in self.contestants if c.name == name), Measured(name, problem=self.problem or "absent"))

    def ratio(self, peer: str) -> PairedRatio | None:
        """Latency of hwc over that of `peer`, paired by round; None if one of them was not timed."""
        mine, other = self.find("hwc").samples_ns, self.find(peer).samples_ns
        if not mine or not other:
            return None
        return paired_ratio([a / b for a, b in zip(block_medians(mine, self.block), block_medians(other, self.block))])


def measure_contestants(
    row: Row,
    openers: Mapping[str, Callable[[], Session]],
    feeds_of: Callable[[Session], dict[str, np.ndarray]],
    expected: Mapping[str, np.ndarray],
    options: MeasureOptions,
    progress: Progress = no_progress,
) -> Row:
    """`row` with its contestants: each opened, judged against `expected` (outputs by place), then all timed in turn."""
    judged: dict[str, Measured] = {}
    ready: list[Contestant] = []
    for name, opener in openers.items():
        progress(f"opening {name}", 0.1)
        try:
            session = opener()
            feeds = feeds_of(session)
            # By place, because exporters and engines give outputs other names.
            outputs = {str(place): value for place, value in enumerate(session.run(feeds).values())}
        except Exception as error:  # whatever a contestant raises is its own problem, and part of the result
            judged[name] = Measured(name, problem=put_in_words(error))
            continue
        differences = compare_outputs(expected, outputs, tolerance_of(row.precision))
        bad = [d for d in differences if not d.passed]
        error_of = max((d.relative for d in differences if np.isfinite(d.relative)), default=0.0)
        wrong = f"WRONG OUTPUT {bad[0].output}: {bad[0].reason}" if bad else ""
        judged[name] = Measured(name, error=error_of, problem=wrong)
        if not bad:
            ready.append(Contestant(name, session, feeds))
    if not ready:
        return dataclasses.replace(row, contestants=tuple(judged.values()), problem="no contestant could be timed")
    turns = measure_in_turn(ready, options, progress=lambda what, fraction: progress(what, 0.2 + 0.8 * fraction))
    for contestant, profile in zip(ready, turns.profiles):
        judged[contestant.name] = Measured(
            contestant.name, profile.latency_ns, len(profile.warmup_ns), profile.is_stationary,
            judged[contestant.name].error,
        )  # fmt: skip
    machine = dict(turns.profiles[0].machine)
    load = f"{machine['load_before']} -> {machine['load_after']}"
    return dataclasses.replace(row, contestants=tuple(judged.values()), block=turns.block, load=load)


def measure_entry(
    entry: Entry, precision: str, threads: int, seconds: float, store: Store, progress: Progress = no_progress
) -> Row:
    """One row, in this process; whatever fails before a contestant is opened is the row's problem."""
    from benchmarks.contestants import NAMES, bind_feeds, describe_inputs, judge_outputs, openers
    from benchmarks.plain import make_plain

    row = Row(entry.name, precision, threads)
    options = MeasureOptions(duration_s=seconds / len(NAMES), max_rounds=MAX_ROUNDS, opening_s=OPENING_S)
    with tempfile.TemporaryDirectory(prefix="hwc-suite-") as work, ExitStack() as stack:
        try:
            progress("exporting the plain file", 0.0)
            plain = make_plain(entry, Path(work))
            examples = entry.example_inputs()
            reference, expected = judge_outputs(plain, examples, threads)
        except Exception as error:  # a network that cannot even be loaded is a row too
            return dataclasses.replace(row, problem=put_in_words(error))
        row = dataclasses.replace(row, shapes=describe_inputs(plain.inputs), reference=reference)
        named = openers(entry, plain, precision, threads, store, Path(work), stack)
        return measure_contestants(row, named, lambda s: bind_feeds(s.inputs, examples), expected, options, progress)


def measure_apart(command: list[str], row: Row, result: Path, progress: Progress, limit_s: float = LIMIT_S) -> Row:
    """The row that a child process writes to `result`; `row` with its last words if it ended without one."""
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
        watchdog = threading.Timer(limit_s, child.kill)
        watchdog.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                words = line.decode(errors="replace").split(None, 2)
                if len(words) == 3 and words[0] == PROGRESS:
                    progress(words[2].strip(), float(words[1]))
            code = child.wait()
        finally:
            is_late = not watchdog.is_alive()
            watchdog.cancel()
            if child.poll() is None:
                child.kill()
                child.wait()
        if result.is_file():
            return from_json(Row, result.read_text())
        stderr.seek(0)
        last = stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        how = (
            f"stopped after {limit_s:.0f} s"
            if is_late
            else f"ended with {'signal' if code < 0 else 'exit code'} {abs(code)}"
        )
        return dataclasses.replace(row, problem=put_in_words(RuntimeError(": ".join([f"the process {how}", *last]))))


def precisions_here(store: Store) -> tuple[str, ...]:
    """fp32, and bf16 if the facts of this CPU say that it computes in it."""
    from hwc.compile import resolve_target
    from hwc.optimize import precision_candidates

    candidates = precision_candidates("auto", resolve_target("cpu", store), "openvino")
    return ("fp32", *(name for name in candidates if name != "fp32"))


def main(arguments: list[str]) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_suite", description=__doc__.split("\n")[0])
    parser.add_argument("--models", default="", help="comma-separated names of entries (default: the suite)")
    parser.add_argument("--seconds", type=float, default=20.0, help="to measure each model (default: %(default)g)")
    parser.add_argument("--threads", type=int, default=cores, help="of each contestant (default: all, %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/suite.json"))
    parser.add_argument("--cache-dir", type=Path, default=Path(".cache/steps"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.seconds <= 0 or args.threads < 1:
        parser.error("--seconds must be positive and --threads at least 1")
    store = Store(args.cache_dir)
    if args.child:
        name, _, precision = args.child.partition(":")
        how = (precision, args.threads, args.seconds, store, _tell_parent)
        args.out.write_text(to_json(measure_entry(find_entry(name), *how)))
        return 0
    return run_parent(args, choose_entries(args.models, SUITE, parser), store, arguments)


def run_parent(args: argparse.Namespace, entries: list[Entry], store: Store, arguments: list[str]) -> int:
    """All rows, each in a child; the files are written anew after each, so an interrupted run keeps what it has."""
    from rich.console import Console

    from benchmarks.report_suite import describe_row, format_suite

    console, rows = Console(stderr=True), []
    machine = describe_machine(shlex.join(("python", "-m", "benchmarks.run_suite", *arguments)))
    precisions = precisions_here(store)
    with show_progress(console, "suite", len(entries) * len(precisions)) as step:
        for entry in entries:
            for precision in precisions:
                label = f"{entry.name} {precision}"
                with step(label) as progress, tempfile.TemporaryDirectory(prefix="hwc-row-") as work:
                    result = Path(work) / "row.json"
                    child = [sys.executable, "-m", "benchmarks.run_suite", "--child", f"{entry.name}:{precision}"]
                    child += ["--seconds", str(args.seconds), "--threads", str(args.threads), "--out", str(result)]
                    child += ["--cache-dir", str(args.cache_dir)]
                    row = measure_apart(child, Row(entry.name, precision, args.threads), result, progress)
                rows.append(row)
                console.print(f"{label:<24} {describe_row(row)}", markup=False)
                write_results(args.out, rows, machine, format_suite)
    console.print(f"{len(rows)} rows; written to {args.out} and {args.out.with_suffix('.md')}")
    return 0


def _tell_parent(what: str, fraction: float) -> None:
    print(f"{PROGRESS} {fraction:.3f} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
