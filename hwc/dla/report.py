"""The DLA report as text for people and as plain data for programs.

Text: the board, the loadables, every layer on the GPU with its reason, what is unsure or
conditional, the sources by number, and the summary:

    layers      12 on DLA, 5 on GPU
    loadables   2 of at most 4
    transitions 4
    estimate    GPU only 3.21 ms, DLA wherever it may run 5.10 ms (3 loadables, 6 transitions), planned 2.95 ms
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

from hwc.dla.plan import DlaReport


def format_report(report: DlaReport) -> list[str]:
    """The lines of the text report."""
    plan, board = report.plan, report.board
    sources: dict[str, str] = {}

    def mark(source: str) -> str:
        """The number of the source in the list at the end."""
        return sources.setdefault(source, f"[{len(sources) + 1}]")

    driver = mark(board.target.fact("tensorrt.dla_by_version").source)
    lines = [
        f"board       {plan.target}, NVDLA {plan.generation}, TensorRT {plan.tensorrt} {driver}",
        f"plan        {plan.precision}, objective {plan.objective}, DLA core {plan.core}",
    ]
    kinds = {verdict.node: verdict.op_type for verdict in report.verdicts}
    for part in plan.loadables:
        counts = ", ".join(f"{name} {count}" for name, count in Counter(kinds[n] for n in part.layers).most_common())
        span = f"{part.layers[0]} ... {part.layers[-1]}"
        lines.append(f"loadable    {part.name}: {len(part.layers)} layers, {span}: {counts}")
        lines.append(f"            in {_join(part.inputs)}; out {_join(part.outputs)}")
    on_gpu = set(plan.gpu_layers)
    for verdict in report.verdicts:
        if verdict.node not in on_gpu:
            continue
        head = f"gpu         {verdict.node} ({verdict.op_type}): "
        if verdict.is_legal:
            lines.append(f"{head}may run on DLA; {_why_left(report, verdict.node)}")
        lines += [f"{head}{finding} {mark(finding.source)}" for finding in verdict.blocks]
    for kind in ("unsure", "condition"):
        lines += _grouped(report, kind, mark)
    lines += [f"note        {note}" for note in plan.notes]
    lines += [f"{number:<11} {source}" for source, number in sources.items()]
    return lines + format_summary(report)


def format_summary(report: DlaReport) -> list[str]:
    """The last lines of the text report: counts and estimates."""
    plan = report.plan
    loadables, transitions = report.all_legal
    over = f", {loadables - plan.loadable_limit} too many" if loadables > plan.loadable_limit else ""
    lines = [
        f"layers      {len(plan.dla_layers)} on DLA, {len(plan.gpu_layers)} on GPU",
        f"loadables   {len(plan.loadables)} of at most {plan.loadable_limit}",
        f"transitions {plan.transitions}",
        f"estimate    GPU only {plan.estimate_gpu_ms:.3f} ms, DLA wherever it may run {plan.estimate_dla_ms:.3f} ms "
        f"({loadables} loadables{over}, {transitions} transitions), planned {plan.estimate_planned_ms:.3f} ms",
    ]
    if not plan.loadables and any(verdict.is_legal for verdict in report.verdicts) and plan.objective == "latency":
        lines.append("            GPU only is estimated to be fastest; --dla-objective offload plans for a free GPU")
    return lines


def report_data(report: DlaReport) -> dict[str, Any]:
    """The report as plain data: the plan, and per layer its device, findings and sources."""
    loadable_of = {layer: part.name for part in report.plan.loadables for layer in part.layers}
    layers = [
        {
            "node": verdict.node,
            "op": verdict.op_type,
            "device": loadable_of.get(verdict.node, "gpu"),
            "may_run_on_dla": verdict.is_legal,
            "extra_ms_on_dla": report.saved_ms.get(verdict.node),
            "findings": [dataclasses.asdict(finding) for finding in verdict.findings],
        }
        for verdict in report.verdicts
    ]
    loadables, transitions = report.all_legal
    wherever = {"loadables": loadables, "transitions": transitions}
    return {"plan": dataclasses.asdict(report.plan), "all_legal": wherever, "layers": layers}


def _why_left(report: DlaReport, node: str) -> str:
    extra = report.saved_ms.get(node, 0.0) * 1e3
    if extra > 0:
        return f"estimated {extra:.1f} us slower there"
    is_full = len(report.plan.loadables) >= report.plan.loadable_limit
    why = "all loadables are taken" if is_full else "less than the transitions cost"
    return f"estimated {-extra:.1f} us faster there, {why}"


def _grouped(report: DlaReport, kind: str, mark: Callable[[str], str]) -> list[str]:
    """Findings that do not block, once per rule and wording, with the first node of each."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for verdict in report.verdicts:
        if not verdict.is_legal:
            continue
        for finding in verdict.findings:
            if finding.kind == kind:
                got = "" if finding.rule == "int8.equal_scales" else finding.got
                found.setdefault((finding.rule, got, str(finding.source)), []).append(verdict.node)
    lines = []
    for (rule, got, source), nodes in found.items():
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        lines.append(f"{kind:<11} {nodes[0]}{more}: {rule}{': ' + got if got else ''} {mark(source)}")
    return lines


def _join(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
