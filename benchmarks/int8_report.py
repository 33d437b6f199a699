"""The tables of benchmarks/run_int8.py as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.int8_judge import REFERENCE, Judged, Row
from benchmarks.report import Machine, format_table, shorten

if TYPE_CHECKING:
    from hwc.profile.measure import PairedRatio

HEAD = (
    "engine", "accuracy", "drop, points", "agreement", "SQNR dB", "exact sums", "p50 / p95 ms", "latency / fp32",
    "hwc / latency", "MB", "made in s",
)  # fmt: skip
RULE = """\
Every file was compiled by OpenVINO for this CPU (latency hint, f32 inference precision, the same threads) and judged on
the same validation samples, none of which was calibrated on.

- drop: percentage points lost against FP32 on the same samples, negative where INT8 happens to be better, with the 95 %
  bootstrap interval over the samples.
- agreement: the score against FP32's own decisions.
- SQNR: mean over the samples of 10 log10 of signal over noise of the raw outputs against FP32.
- exact sums: agreement and SQNR of the same file with sums in float, as on a CPU that does not saturate. Where it is
  much the better, the loss is that of this CPU's byte products.
- latency: one interleaved run over all rows; ratios are medians over its rounds with their 95 % bootstrap interval.
- made in: wall-clock of the quantizing process.

What the names stand for is said in `benchmarks/README.md`.
"""


def drop_interval(reference: Sequence[float], scores: Sequence[float], rounds: int = 2000) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean difference in points, paired by sample; the seed is fixed."""
    lost = 100 * (np.asarray(reference) - np.asarray(scores))
    rng = np.random.default_rng(0)
    means = lost[rng.integers(0, len(lost), (rounds, len(lost)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def format_int8(rows: Sequence[Row], machine: Machine) -> str:
    """The whole text: rule, machine, one table per network."""
    parts = ["# INT8 on the CPU\n", RULE]
    parts.append(
        f"Measured from {machine['time_utc']} on {machine['processor']}, {machine['cores_allowed']} cores, load "
        f"{machine['load']} at the start; {machine['versions']}.\nCommand: `{machine['command']}`\n"
    )
    for row in rows:
        parts += [f"## {row.model}\n", _about(row), format_table(HEAD, [_cells(row, one) for one in row.judged])]
        notes = [f"- {one.name}: {shorten(' '.join(one.problem.split()), 240)}\n" for one in row.judged if one.problem]
        restless = (one.name for one in row.judged if one.samples_ns and not one.is_stationary)
        notes += [f"- {name}: warm-up never stationary\n" for name in restless]
        parts += ["".join(notes)] if notes else []
    return "\n".join(parts)


def describe_row(row: Row) -> str:
    """The table's figures for the console, one line per engine."""
    lines = [f"{row.model}: {row.calibration} to calibrate, {row.validation} judged {row.problem}"]
    for one in row.judged:
        cells = _cells(row, one)
        lines.append("  " + (f"{one.name}: {shorten(one.problem)}" if one.problem else "  ".join(map(str, cells))))
    return "\n".join(lines)


def _about(row: Row) -> str:
    if row.problem:
        return f"{shorten(row.problem, 400)}\n"
    note = f"; {row.note}" if row.note else ""
    timed = [one for one in row.judged if one.samples_ns]
    rounds = f"; {len(timed[0].samples_ns) // row.block} rounds of {row.block} runs, load {row.load}" if timed else ""
    return (
        f"Calibrated on {row.calibration} samples, judged on {row.validation} others{note}. "
        f"{row.threads} threads{rounds}.\n"
    )


def _cells(row: Row, one: Judged) -> tuple[str, ...]:
    if one.problem or not one.scores:
        return (one.name, *("-",) * (len(HEAD) - 2), f"{one.seconds:.0f}" if one.seconds else "-")
    own = one.name == REFERENCE
    low, high = drop_interval(row.find(REFERENCE).scores, one.scores)
    p50, p95 = (float(value) / 1e6 for value in np.percentile(one.samples_ns, [50, 95])) if one.samples_ns else (0, 0)
    hwc = row.find("hwc")
    return (
        one.name,
        f"{100 * np.mean(one.scores):.2f}",
        "-" if own else f"{row.drop(one):+.2f} [{low:+.2f}, {high:+.2f}]",
        "-" if own else f"{100 * np.mean(one.agreements):.2f}",
        "-" if own else f"{np.mean(one.sqnr_db):.2f}",
        "-" if own else f"{100 * one.exact_agreement:.2f}, {one.exact_sqnr_db:.2f} dB",
        f"{p50:.3g} / {p95:.3g}" if one.samples_ns else "-",
        "-" if own else _ratio(row.ratio(one, row.find(REFERENCE))),
        "-" if one is hwc else _ratio(row.ratio(hwc, one)),
        f"{one.size_bytes / 1e6:.2f}",
        "-" if own else f"{one.seconds:.0f}",
    )


def _ratio(ratio: PairedRatio | None) -> str:
    return "-" if ratio is None else f"{ratio.ratio:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
