"""Counts the kernels and the activation memory of real TensorRT for RTX engines, with hwc and without.

    python -m benchmarks.run_kernels [--targets rtx-3090,rtx-4090] [--models a,b] [--check]

Each network is built twice for each target by the same builder with the same options (FP32, strongly typed, TF32 off):
the plain file (see benchmarks/plain.py), and the graph that hwc's passes leave for that target in FP32. TensorRT for
RTX builds ahead of time, so no GPU is needed, and nothing here is timed on one: fewer kernels and less memory are
facts about the engines, not speed. A build that is refused or fails is a row that says so.

Verdict: WORSE if hwc's engine has more kernels or over 1 % more activation memory; mixed if it has fewer kernels in all
but more besides those that fill constants; better if it is neither and has fewer kernels or over 1 % less memory; else
same. `--check` exits with 1 if a row is WORSE. Writes kernels.json and kernels.md into benchmarks/results.
"""

from __future__ import annotations

import argparse
import gzip
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from benchmarks.models import LIGHT, SUITE, VARIANTS, Entry
from benchmarks.plain import Plain, make_plain, source_for_hwc
from benchmarks.report import choose_entries, describe_machine, put_in_words, show_progress, write_results
from hwc import targets
from hwc.artifacts import BuildKey, Engine, Target
from hwc.build import build_engine
from hwc.capture import capture_model
from hwc.engines import base as engines
from hwc.engines.base import Progress
from hwc.engines.tensorrt import LOG_GZ
from hwc.engines.tensorrt_log import count_fills, layers_from_log
from hwc.errors import HwcError
from hwc.optimize import Optimized, OptimizeOptions, optimize_model
from hwc.store import Store

BACKEND = "tensorrt_rtx"
# 64 is the size of the tests, 128 the one that the network was made for.
ENTRIES = (*SUITE, *(entry for entry in VARIANTS if entry.name == "linknet3d_128"), *LIGHT)
_MEMORY_MARGIN = 0.01


@dataclass(frozen=True)
class Figures:
    """What was read back from one engine; `refused` is the builder's word if there is none."""

    kernels: int = 0
    fills: int = 0
    # Optional, because `from_json` reads no newer spelling.
    activation_bytes: Optional[int] = None  # noqa: UP045
    weight_bytes: Optional[int] = None  # noqa: UP045
    build_seconds: float = 0.0
    refused: str = ""


@dataclass(frozen=True)
class Row:
    """One network on one target. `passes` are those that rewrote something, with the number of rewrites."""

    model: str
    target: str
    operators: int
    plain: Figures
    hwc: Figures
    passes: tuple[tuple[str, int], ...] = ()

    @property
    def verdict(self) -> str:
        """better, same or WORSE by the rule above; "only hwc" or "neither" where the plain file has no engine."""
        if self.plain.refused:
            return "neither" if self.hwc.refused else "only hwc"
        if self.hwc.refused:
            return "WORSE"
        memory = _compare_memory(self.hwc.activation_bytes, self.plain.activation_bytes)
        if self.hwc.kernels > self.plain.kernels or memory > 0:
            return "WORSE"
        if self.hwc.kernels - self.hwc.fills > self.plain.kernels - self.plain.fills:
            return "mixed"
        return "better" if self.hwc.kernels < self.plain.kernels or memory < 0 else "same"


def _compare_memory(own: int | None, other: int | None) -> int:
    """1 if `own` is more by over the margin, -1 if less, else 0; unknown compares as equal."""
    if own is None or other is None:
        return 0
    return (own > other * (1 + _MEMORY_MARGIN)) - (own < other * (1 - _MEMORY_MARGIN))


def measure_network(entry: Entry, target: Target, store: Store, progress: Progress) -> Row:
    """Both engines of one network; a failure of either side stays inside its figures."""
    operators, passes = 0, ()
    with tempfile.TemporaryDirectory(prefix="hwc-kernels-") as work:
        try:
            progress("plain file", 0.0)
            plain_file = make_plain(entry, Path(work))
            operators = plain_file.operators
            progress("plain engine", 0.1)
            plain = build_plain(plain_file, target, Path(work) / "engine", progress)
        except Exception as error:  # one network must not take the others with it
            plain = Figures(refused=put_in_words(error))
    try:
        progress("hwc engine", 0.5)
        optimized, own = build_hwc(entry, target, store, progress)
        rewrites: dict[str, int] = {}
        for step in optimized.steps:
            rewrites[step.name] = rewrites.get(step.name, 0) + step.rewrites
        passes = tuple((name, count) for name, count in rewrites.items() if count)
    except Exception as error:  # as above
        own = Figures(refused=put_in_words(error))
    return Row(entry.name, target.name, operators, plain, own, passes)


def build_plain(plain: Plain, target: Target, folder: Path, progress: Progress) -> Figures:
    """The engine of the file as it is.

    Raises:
        HwcError: TensorRT refuses it.
    """
    folder.mkdir(parents=True)
    request = engines.BuildRequest(
        model=plain.path, target=target, inputs=plain.inputs, outputs=plain.outputs, precision="fp32",
        key=BuildKey("plain", target.name, BACKEND, "fp32"), out_dir=folder,
        progress=lambda what, fraction: progress(f"plain engine: {what}", 0.1 + 0.4 * fraction),
    )  # fmt: skip
    return read_figures(engines.build(BACKEND, request), folder)


def build_hwc(entry: Entry, target: Target, store: Store, progress: Progress) -> tuple[Optimized, Figures]:
    """The steps of `hwc compile --precision fp32`, without the bundle.

    Raises:
        HwcError: a step failed.
    """
    model, shapes = source_for_hwc(entry, store.root / "sources")
    captured, _ = capture_model(model, shapes, store=store)
    options = OptimizeOptions(precision="fp32", backend=BACKEND)
    optimized, _ = optimize_model(captured, target, options, store=store, progress=progress)
    built, _ = build_engine(optimized, target, BACKEND, {}, 0, store=store, progress=progress)
    return optimized, read_figures(built.engine, built.folder)


def read_figures(engine: Engine, folder: Path) -> Figures:
    """The figures of an engine from its record and from the build log that lies beside it."""
    log = gzip.decompress((folder / LOG_GZ).read_bytes()).decode(errors="replace")
    return Figures(
        kernels=len(engine.kernels),
        fills=count_fills(layers_from_log(log)),
        activation_bytes=engine.activation_bytes,
        weight_bytes=engine.weight_bytes,
        build_seconds=round(engine.build_seconds, 1),
    )


def main(arguments: list[str]) -> int:
    from rich.console import Console

    from benchmarks.report_kernels import format_kernels

    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_kernels", description=__doc__.split("\n")[0])
    parser.add_argument("--targets", default="rtx-3090", help="comma-separated (default: %(default)s)")
    parser.add_argument("--models", default="", help="comma-separated names of entries (default: all)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kernels.json"))
    parser.add_argument("--cache-dir", type=Path, default=Path(".cache/steps"))
    parser.add_argument("--check", action="store_true", help="exit with 1 if hwc is worse anywhere")
    args = parser.parse_args(arguments)
    entries = choose_entries(args.models, ENTRIES, parser)
    command = shlex.join(("python", "-m", "benchmarks.run_kernels", *arguments))
    console, rows = Console(stderr=True), []
    try:
        chosen = [targets.load(name) for name in args.targets.split(",")]
    except HwcError as error:
        parser.error(str(error))
    with show_progress(console, "kernels", len(chosen) * len(entries)) as step:
        for target in chosen:
            for entry in entries:
                with step(f"{entry.name} for {target.name}") as progress:
                    row = measure_network(entry, target, Store(args.cache_dir), progress)
                console.print(
                    f"{entry.name:<20} {target.name}  {row.plain.kernels} -> {row.hwc.kernels}  {row.verdict}"
                )
                rows.append(row)
                # After each row, so that an interrupted run keeps what it has.
                write_results(args.out, rows, describe_machine(command), format_kernels)
    worse = [row for row in rows if row.verdict == "WORSE"]
    console.print(f"{len(rows)} rows, {len(worse)} worse; written to {args.out} and {args.out.with_suffix('.md')}")
    return int(args.check and bool(worse))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
