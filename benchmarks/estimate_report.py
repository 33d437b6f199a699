"""The text of `benchmarks/results/estimate.md`: what was left out, how far the predictions were, and from where."""

from __future__ import annotations

import csv
from collections import Counter
from typing import Any

from benchmarks.fit_roofline import EXCLUDED

_LEFT_OUT = (
    ("pair", "all rows of a network on a board"), ("network", "all rows of a network, on every board"),
    ("board", "all rows of a board"), ("architecture", "all rows of a compute capability"),
)  # fmt: skip


def format_estimate(results: dict[str, Any]) -> str:
    """The whole text."""
    s = results["summary"]
    pair = s["pair"]
    lines = [
        "# Estimated against published latency, batch 1, CNNs on Jetson GPUs", "",
        f"Written by `{results['command']}`; no device was seen. Every prediction below is an estimate made without "
        "any row of the same network on the same board.", "",
        f"**Median absolute error {pair['median']:.1%}, and {s['coverage']:.1%} of {s['rows']} rows lie in the stated "
        f"{s['wanted_coverage']:.0%} interval** (wanted: at most 20 %, and 80 %). {s['pairs']} pairs of "
        f"{s['networks']} networks and {s['boards']} boards; {s['constants']} constants with priors.", "",
        "| left out together | median | mean | 80 % below | bias |", "|---|---|---|---|---|",
        *(f"| {text} | {_errors(s[name])} |" for name, text in _LEFT_OUT),
        f"| nothing: the fit to its own rows | {_errors(s['fit'])} |", "",
        f"Without the {s['rows'] - s['declared_clocks_left_aside']['rows']} rows whose clocks are only declared in a "
        f"submission, the first line reads {_errors(s['declared_clocks_left_aside'], ', ')}.", "",
        *_headline(results["rows"]),
        *_parts(s), *_forms(s["forms"]), *_rules(), *_table(results, s["outliers"]), *_dla(results["dla"]),
        *_power(results["power"]),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _errors(e: dict[str, float], separator: str = " | ") -> str:
    return separator.join([f"{e['median']:.1%}", f"{e['mean']:.1%}", f"{e['p80']:.1%}", f"{e['bias']:+.1%}"])


def _headline(rows: list[dict[str, Any]]) -> list[str]:
    """NVIDIA's own figures, the newest release of each board."""
    wanted = ("resnet50", "int8", "mlperf", None)
    newest = {r["target"]: r for r in rows if (r["network"], r["precision"], r["client"], r["gpu_mhz"]) == wanted}
    return [
        "NVIDIA's own ResNet-50 in INT8 (MLPerf SingleStream), newest release of each board:", "",
        "| board | published ms | estimate ms without any ResNet-50 on the board | 80 % interval |",
        "|---|---|---|---|",
        *(f"| {board} | {r['published_ms']:.3g} | {r['predicted_ms']:.3g} ({r['error']:+.0%}) | {r['low_ms']:.3g} to "
          f"{r['high_ms']:.3g} |" for board, r in sorted(newest.items())), "",
    ]  # fmt: skip


def _parts(s: dict[str, Any]) -> list[str]:
    lines = ["| rows (pairs left out) | number | median | mean | 80 % below | bias |", "|---|---|---|---|---|---|"]
    for name in ("by_board", "by_precision", "by_client"):
        lines += [f"| {part or 'device'} | {e['rows']} | {_errors(e)} |" for part, e in s[name].items()]
    text = ", ".join(f"{name}: {low:.2f} to {high:.2f}" for name, (low, high) in s["intervals"].items())
    return [
        *lines, "",
        "Intervals are factors on the estimate, 10 % and 90 % quantiles of left-out errors. By what the fit knew: "
        f"{text}. For the coverage above a row's interval comes from the rows of other pairs alone "
        "(cross-conformal).", "",
    ]  # fmt: skip


def _forms(forms: dict[str, Any]) -> list[str]:
    chosen = ", ".join(f"'{name}' {count}" for name, count in forms["chosen"].items())
    return [
        "## Forms of the model that were compared", "",
        "Five folds of pairs, each left out as a whole.", "",
        "| form | median | mean | 80 % below | bias |", "|---|---|---|---|---|",
        *(f"| {name} | {_errors(e)} |" for name, e in forms["folds"].items()),
        f"| chosen in each fold by the inner error alone (nested) | {_errors(forms['nested'])} |", "",
        f"Chosen how often: {chosen}. Two more were tried and dropped for little gain: a term for tensors that stay in "
        "L2, and a cheaper launch for MLPerf's engines (CUDA graphs).", "",
    ]  # fmt: skip


def _rules() -> list[str]:
    with EXCLUDED.open(encoding="utf-8", newline="") as rows:
        reasons = Counter(row["reason"] for row in csv.DictReader(rows))
    return [
        "## Which rows", "",
        "From a table of 878 published figures, 371 are of Jetson boards. Used: one image a query, GPU alone, a CNN "
        "whose graph can be built, fixed input, known precision. Left aside, one reason each (`benchmarks/published/"
        "excluded.csv` lists them with their sources):", "",
        "| rows | reason |", "|---|---|", *(f"| {count} | {reason} |" for reason, count in reasons.most_common()), "",
        "- The published value is the mean latency; where a source gives the throughput of one stream, its inverse.",
        "- A power mode that is not stated is taken for the board's maximum clocks; `clocks` in the JSON says what was "
        "known. MLPerf's MaxQ clocks are those that the submission declares.",
        "- trtexec figures of ResNet-50 on AGX Orin by one author disagree with MLPerf's by 1.6 times on the same "
        "network and board; both stay in, since neither source says why.",
        "- Detectors are graphs without non-maximum suppression; the widths of 3D U-Net are those of nnU-Net's "
        "planner.",
        "- `client` is who measured: the fit has one constant for each, so that a Python caller's time is no "
        "kernel's.", "",
    ]  # fmt: skip


def _table(results: dict[str, Any], outliers: list[int]) -> list[str]:
    lines = [
        "## Every row, predicted without its pair", "",
        f"Rows that stand out by more than four robust standard deviations are marked !: {len(outliers)}. The command "
        "estimates with the shipped constants, which know all rows, and without the client's time; its model comes "
        "from `python -m benchmarks.networks NETWORK SHAPE NETWORK.onnx`.", "",
        "| network | input | precision | board | client | estimate ms | 80 % interval | published ms | error | source "
        "| command |", "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in sorted(results["rows"], key=lambda r: (r["network"], r["target"], r["precision"], r["line"])):
        mark = "" if row["is_inside"] else " (outside)"
        flag = " !" if row["line"] in outliers else ""
        lines.append(
            f"| {row['network']} | {row['shape']} | {row['precision']} | {row['target']} | {row['client']} | "
            f"{row['predicted_ms']:.4g} | {row['low_ms']:.4g} to {row['high_ms']:.4g} | {row['published_ms']:.4g}{mark}"
            f" | {row['error']:+.0%}{flag} | {_link(row['source'], row['line'])} | `{row['command']}` |"
        )
    return [*lines, ""]


def _link(source: str, line: int) -> str:
    return f"[{line}]({source})" if source.startswith("http") else f"{line}: {source}"


def _dla(dla: dict[str, Any]) -> list[str]:
    lines = [
        "## DLA", "",
        f"One core of AGX Orin's DLA in INT8, networks left out one at a time: {_errors(dla['summary'], ', ')} "
        "(median, mean, 80 % below, bias). Three networks only; FP16 and Xavier's DLA have no usable figure.", "",
        "| network | batch | mode | estimate ms | published ms | error | source |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in dla["rows"]:
        lines.append(f"| {row['network']} | {row['batch']} | {row['power_mode']} | {row['predicted_ms']:.4g} | "
                     f"{row['latency_ms']:.4g} ({row['figure']}) | {row['error']:+.0%} | "
                     f"{_link(row['source'], row['line'])} |")  # fmt: skip
    return [*lines, ""]


def _power(power: dict[str, Any]) -> list[str]:
    lines = [
        "## Board power", "",
        "Scopes are fitted apart and never mixed. With one network in a scope, single rows are left out, which says "
        "less.", "", "| scope | network | precision | board | GPU MHz | estimate W | published W | error "
        "| source |", "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in power["rows"]:
        clock = f"{row['gpu_mhz']:g}" if row["gpu_mhz"] else row["power_mode"] or "maximum"
        lines.append(f"| {row['scope']} | {row['network']} | {row['precision']} | {row['target']} | {clock} | "
                     f"{row['predicted_w']:.3g} | {row['power_w']:.3g} | {row['error']:+.0%} | "
                     f"{_link(row['source'], row['line'])} |")  # fmt: skip
    return [*lines, ""]
