"""Plans real networks for the DLA of boards, without a board: how much may run there, and what the rewrites change.

    python -m benchmarks.run_dla [--targets agx-xavier,agx-orin] [--precisions fp16,int8] [--models a,b]

Each network goes through the passes for its target. It is then judged as it is, and once more after the exact rewrites
that keep layers on DLA, which are checked by running both graphs. Nothing here ran on a DLA: which layers may run
there is what the sources say, and times are estimates. Writes dla.json and dla.md into benchmarks/results.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.models import Entry, find_entry
from benchmarks.plain import source_for_hwc
from benchmarks.report import Machine, choose_entries, describe_machine, format_table, put_in_words, write_results
from hwc import targets
from hwc.artifacts import Target
from hwc.capture import capture_model
from hwc.dla.plan import DlaReport, explain_dla
from hwc.engines.base import Progress
from hwc.errors import HwcError
from hwc.inspect_dla import DlaOptions, inspect_dla
from hwc.store import Store

ENTRIES = tuple(find_entry(name) for name in ("efficientnet_lite0", "onet", "pp_ocrv4_det", "craft", "light_resnet50"))
_REASONS = 3
HEAD = (
    "model", "target", "precision", "layers that may run on DLA, plain -> rewritten", "loadables (limit)",
    "transitions",
    "estimate ms: GPU only", "all on DLA that may, plain -> rewritten", "planned for latency: layers on DLA, ms",
    "planned for offload: layers, loadables, transitions, ms", "why layers stay on the GPU", "rewrites",
)  # fmt: skip
RULE = """\
Layers are nodes of the graph after hwc's passes for the target. Loadables and transitions are those with every layer
on DLA that may run there, before -> after the exact rewrites; a core holds at most the number in brackets at once.
Planned: after the rewrites. "latency" takes the least estimated time of one inference, "offload" the least time of
the GPU.

No board took part. Which layers may run on DLA is what NVIDIA's documents, headers and logs say ("likely"); times are
estimates of a roofline whose DLA side is set by two published rates of ResNet-50, and are for ranking cuts alone.
"""


@dataclass(frozen=True)
class Row:
    """One network on one board; pairs are plain and rewritten. `refused` says why there is none."""

    model: str
    target: str
    precision: str
    layers: tuple[int, int] = (0, 0)
    legal: tuple[int, int] = (0, 0)
    loadables: tuple[int, int] = (0, 0)
    limit: int = 0
    transitions: tuple[int, int] = (0, 0)
    gpu_ms: float = 0.0
    dla_ms: tuple[float, float] = (0.0, 0.0)
    latency: tuple[int, float] = (0, 0.0)
    offload: tuple[int, int, int, float] = (0, 0, 0, 0.0)
    reasons: tuple[tuple[str, int], ...] = ()
    rewrites: tuple[tuple[str, int], ...] = ()
    refused: str = ""


def measure(entry: Entry, target: Target, precision: str, store: Store, progress: Progress) -> Row:
    """The row; a network that is refused is a row that says so."""
    row = Row(entry.name, target.name, precision)
    try:
        source, shapes = source_for_hwc(entry, store.root / "sources")
        captured, _ = capture_model(source, shapes, store=store)
        options = [DlaOptions(precision, "offload", rewrite=rewrite) for rewrite in (False, True)]
        plain, done = (inspect_dla(captured, target, o, store=store, progress=progress) for o in options)
        fast = explain_dla(done.model, target, precision, objective="latency").plan
    except HwcError as error:
        return Row(entry.name, target.name, precision, refused=put_in_words(error))
    pair = (plain.report, done.report)
    plan = done.report.plan
    return Row(
        row.model, row.target, row.precision,
        layers=_pair(len(report.verdicts) for report in pair),
        legal=_pair(sum(v.is_legal for v in report.verdicts) for report in pair),
        loadables=_pair(report.all_legal[0] for report in pair),
        limit=plan.loadable_limit,
        transitions=_pair(report.all_legal[1] for report in pair),
        gpu_ms=plan.estimate_gpu_ms,
        dla_ms=(plain.report.plan.estimate_dla_ms, plan.estimate_dla_ms),
        latency=(len(fast.dla_layers), fast.estimate_planned_ms),
        offload=(len(plan.dla_layers), len(plan.loadables), plan.transitions, plan.estimate_planned_ms),
        reasons=tuple(Counter(_reasons(done.report)).most_common(_REASONS)),
        rewrites=tuple((step.name, step.rewrites) for step in done.steps if step.rewrites),
    )  # fmt: skip


def _pair(values: object) -> tuple[int, int]:
    first, second = values  # type: ignore[misc]
    return first, second


def _reasons(report: DlaReport) -> list[str]:
    return [f"{v.op_type} ({v.blocks[0].rule})" for v in report.verdicts if not v.is_legal]


def format_dla(rows: list[Row], machine: Machine) -> str:
    """One table."""
    parts = ["# Networks on the DLA of Jetson boards, planned without a board\n", RULE]
    parts.append(f"{machine['time_utc']}; {machine['versions']}.\nCommand: `{machine['command']}`\n")
    parts.append(format_table(HEAD, [_cells(row) for row in rows]))
    return "\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    if row.refused:
        return (row.model, row.target, row.precision, f"refused: {row.refused}", *["-"] * (len(HEAD) - 4))
    legal = " -> ".join(f"{n} of {of}" for n, of in zip(row.legal, row.layers))
    layers, loadables, transitions, milliseconds = row.offload
    return (
        row.model, row.target, row.precision, legal, f"{row.loadables[0]} -> {row.loadables[1]} ({row.limit})",
        f"{row.transitions[0]} -> {row.transitions[1]}", f"{row.gpu_ms:.2f}",
        f"{row.dla_ms[0]:.2f} -> {row.dla_ms[1]:.2f}", f"{row.latency[0]}, {row.latency[1]:.2f}",
        f"{layers}, {loadables}, {transitions}, {milliseconds:.2f}",
        ", ".join(f"{name} {count}" for name, count in row.reasons) or "-",
        ", ".join(f"{name} {count}" for name, count in row.rewrites) or "-",
    )  # fmt: skip


def main(arguments: list[str]) -> int:
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_dla", description=__doc__.split("\n")[0])
    parser.add_argument("--targets", default="agx-xavier,agx-orin", help="comma-separated (default: %(default)s)")
    parser.add_argument("--precisions", default="fp16,int8", help="comma-separated (default: %(default)s)")
    parser.add_argument("--models", default="", help="comma-separated names of entries (default: five networks)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/dla.json"))
    parser.add_argument("--cache-dir", type=Path, default=Path(".cache/steps"))
    args = parser.parse_args(arguments)
    entries = choose_entries(args.models, ENTRIES, parser)
    command = shlex.join(("python", "-m", "benchmarks.run_dla", *arguments))
    console, rows, store = Console(stderr=True), [], Store(args.cache_dir)
    try:
        chosen = [targets.load(name) for name in args.targets.split(",")]
    except HwcError as error:
        parser.error(str(error))
    for entry in entries:
        for target in chosen:
            for precision in args.precisions.split(","):
                with console.status(f"{entry.name} for {target.name} in {precision}"):
                    row = measure(entry, target, precision, store, lambda what, fraction: None)
                console.print(" | ".join(_cells(row)[:6]))
                rows.append(row)
                write_results(args.out, rows, describe_machine(command), format_dla)
    return int(any(row.refused for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
