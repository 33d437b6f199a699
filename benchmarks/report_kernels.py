"""The table of benchmarks/run_kernels.py as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.report import Machine, format_table

if TYPE_CHECKING:
    from benchmarks.run_kernels import Figures, Row

HEAD = (
    "model", "operators", "plain kernels (fills)", "hwc kernels (fills)", "change", "change without fills",
    "plain act. MB", "hwc act. MB", "weights MB plain / hwc", "build s plain / hwc", "passes that rewrote", "verdict",
)  # fmt: skip
RULE = """\
A kernel is a layer of the engine that runs: every layer of the build log except stream signals and waits, `shape_call`
and `NoOp`, which only name a view; layout changes count (the rule of `hwc/engines/inspect.py`). Kernels that only fill
a constant are in the count and again in brackets: the `light_*` networks make their weights with ConstantOfShape, so
"change without fills" is what remains when that is taken out. Operators are nodes of the plain file but Constant.

Plain: the original ONNX file, or what torch's exporter writes; open dimensions fixed to the same sizes, nothing else.
Both engines: same builder, same options, FP32, strongly typed, TF32 off. No GPU took part, so no speed is claimed.
WORSE: more kernels, or over 1 % more activation memory. mixed: fewer kernels in all, more besides the fills. better:
neither, and fewer kernels or over 1 % less memory.
"""


def format_kernels(rows: Sequence[Row], machine: Machine) -> str:
    """One table per target, each with a line that counts its verdicts."""
    parts = ["# Kernels and activation memory of TensorRT for RTX engines\n", RULE]
    parts.append(
        f"Built {machine['time_utc']} on {machine['processor']}, {machine['cores_allowed']} cores; "
        f"{machine['versions']}.\nCommand: `{machine['command']}`\n"
    )
    for target in dict.fromkeys(row.target for row in rows):
        own = [row for row in rows if row.target == target]
        verdicts = Counter(row.verdict for row in own)
        parts.append(f"## {target}\n")
        parts.append(format_table(HEAD, [_cells(row) for row in own]))
        parts.append("Verdicts: " + ", ".join(f"{name} {count}" for name, count in verdicts.most_common()) + ".")
        parts += [
            f"- {row.model}, {side} refused: {figures.refused}"
            for row in own
            for side, figures in (("plain", row.plain), ("hwc", row.hwc))
            if figures.refused
        ]
        parts += [f"MiniLM: {share}." for share in [_share(row) for row in own if row.model == "minilm"] if share]
        parts.append("")
    return "\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    plain, hwc = row.plain, row.hwc
    is_whole = not plain.refused and not hwc.refused
    return (
        row.model,
        str(row.operators) if row.operators else "-",
        _kernels(plain),
        _kernels(hwc),
        _change(plain.kernels, hwc.kernels) if is_whole else "-",
        _change(plain.kernels - plain.fills, hwc.kernels - hwc.fills) if is_whole else "-",
        _megabytes(plain.activation_bytes),
        _megabytes(hwc.activation_bytes),
        f"{_megabytes(plain.weight_bytes)} / {_megabytes(hwc.weight_bytes)}",
        f"{_seconds(plain)} / {_seconds(hwc)}",
        ", ".join(f"{name} {count}" for name, count in row.passes) or "none",
        row.verdict,
    )


def _kernels(figures: Figures) -> str:
    return "refused" if figures.refused else f"{figures.kernels} ({figures.fills})"


def _change(plain: int, hwc: int) -> str:
    return f"{hwc - plain:+d} ({100 * (hwc - plain) / plain:+.0f} %)" if plain else f"{hwc - plain:+d}"


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f}"


def _seconds(figures: Figures) -> str:
    return "-" if figures.refused else f"{figures.build_seconds:.0f}"


def _share(row: Row) -> str:
    """Operators of the exported graph against kernels of each engine."""
    if not row.operators:
        return ""
    sides = [
        f"{figures.kernels} kernels {name}, {100 * (1 - figures.kernels / row.operators):.0f} % fewer"
        for name, figures in (("plain", row.plain), ("with hwc", row.hwc))
        if not figures.refused
    ]
    return f"{row.operators} operators in the exported graph; {'; '.join(sides)}" if sides else ""
