"""The table of benchmarks/run_suite.py as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.report import Machine, format_table, shorten

if TYPE_CHECKING:
    from benchmarks.run_suite import Measured, Row
    from hwc.profile.measure import PairedRatio

PEERS = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "torch": "torch"}
HEAD = (
    "model", "precision", "inputs", "hwc ms", *(f"{title} ms" for title in PEERS.values()),
    *(f"hwc / {title}" for title in PEERS.values()), "rounds x runs", "notes",
)  # fmt: skip
RULE = """\
Latency of one inference at batch 1, p50 / p95 in milliseconds. The ratio is hwc's latency over the peer's: the median
over the rounds of one interleaved run, with its 95 % bootstrap interval; below 1, hwc is faster. "none shown" means
that the interval holds 1. Outputs were compared before timing; "-" is a contestant that was not timed, and the notes
say why. All contestants: same inputs, fixed shapes and number of threads; see `benchmarks/README.md`.
"""


def format_suite(rows: Sequence[Row], machine: Machine) -> str:
    """The whole text: rule, machine, table, one line of totals per peer and precision."""
    threads = ", ".join(dict.fromkeys(str(row.threads) for row in rows))
    parts = ["# The suite on the CPU\n", RULE]
    parts.append(
        f"Measured from {machine['time_utc']} on {machine['processor']}, {machine['cores_allowed']} cores, {threads} "
        f"threads per contestant, load {machine['load']} at the start; {machine['versions']}.\n"
        f"Command: `{machine['command']}`\n"
    )
    parts.append(format_table(HEAD, [_cells(row) for row in rows]))
    parts += [
        total
        for precision in dict.fromkeys(row.precision for row in rows)
        for peer in PEERS
        if (total := _total([row for row in rows if row.precision == precision], peer))
    ]
    return "\n".join([*parts, ""])


def describe_row(row: Row) -> str:
    """One line for the console."""
    ratios = [f"{title} {_ratio(row.ratio(peer))}" for peer, title in PEERS.items() if row.ratio(peer)]
    return "; ".join([*ratios, *_notes(row)]) or "no result"


def _cells(row: Row) -> tuple[str, ...]:
    timed = [contestant for contestant in row.contestants if contestant.samples_ns]
    return (
        row.model,
        row.precision,
        row.shapes or "-",
        *(_latency(row.find(name)) for name in ("hwc", *PEERS)),
        *(_ratio(row.ratio(peer)) for peer in PEERS),
        f"{math.ceil(len(timed[0].samples_ns) / row.block)} x {row.block}" if timed else "-",
        "; ".join(_notes(row)),
    )


def _latency(contestant: Measured) -> str:
    if not contestant.samples_ns:
        return "-"
    p50, p95 = (float(value) / 1e6 for value in np.percentile(contestant.samples_ns, [50, 95]))
    return f"{_three(p50)} / {_three(p95)}"


def _three(value: float) -> str:
    """Three significant digits, without an exponent."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 2
    return f"{value:.{digits}f}"


def _ratio(ratio: PairedRatio | None) -> str:
    if ratio is None:
        return "-"
    word = ("faster" if ratio.ratio < 1 else "slower") if ratio.is_decided else "none shown"
    return f"{ratio.ratio:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] {word}"


def _notes(row: Row) -> list[str]:
    """What a reader must know: failures, wrong outputs, warm-ups that never settled."""
    notes = [shorten(row.problem)] if row.problem else []
    is_file = row.reference == "onnxruntime"
    for contestant in row.contestants:
        # Without a module there is nothing for torch to run; that is no failure.
        if contestant.problem and not (is_file and contestant.name == "torch"):
            notes.append(f"{contestant.name}: {shorten(contestant.problem)}")
        elif contestant.samples_ns and not contestant.is_stationary:
            notes.append(f"{contestant.name}: never stationary in {contestant.warmup_runs} warm-up runs")
    return notes


def _total(rows: Sequence[Row], peer: str) -> str:
    """Geometric mean of the ratios with one peer, and how many are decided either way."""
    ratios = [ratio for row in rows if (ratio := row.ratio(peer)) is not None]
    if not ratios:
        return ""
    mean = math.exp(sum(math.log(ratio.ratio) for ratio in ratios) / len(ratios))
    faster = sum(ratio.is_decided and ratio.ratio < 1 for ratio in ratios)
    slower = sum(ratio.is_decided and ratio.ratio > 1 for ratio in ratios)
    return (
        f"{rows[0].precision}, hwc / {PEERS[peer]}: geometric mean {mean:.3f} over {len(ratios)} of {len(rows)} rows; "
        f"faster {faster}, slower {slower}, no difference shown {len(ratios) - faster - slower}.\n"
    )
