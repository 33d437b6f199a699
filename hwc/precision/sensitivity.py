"""How much each fusion group costs in INT8: measured, one group at a time, in both directions.

* alone: only this group reads integers, all others floats: the noise that it makes by itself.
* without: all groups but this one: what putting it back would win.

Both come from switching Q/DQ in the graph (`high` = the complement, or the group), so they hold under strong typing.
For each, the SQNR of the outputs against FP32 in dB (sum over the samples of signal over sum of noise, mean over
the outputs of floats) and, if a metric is given, the drop in points. The order is by SQNR alone, lowest first: on the
few samples that such a sweep can afford a yes/no metric moves in steps of 100 / n points, and most groups tie at 0.

A group has at most one layer with weights, so this is also the sensitivity per layer; `layers` names it by the nodes of
the user's own file. Cost: two graphs per group (one where `without_worst` prunes), each run on all samples. Limit: two
noises may cancel or lock in; `without` and the search over sets see that, `alone` does not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.artifacts import FusionGroup
from hwc.errors import UsageError
from hwc.graph.evaluate import Evaluator
from hwc.graph.model import origins
from hwc.precision.guard import PairedSample, Progress, Run
from hwc.precision.metrics import LIMIT_DB, Metric, get_output, is_float, label_of, noise_powers
from hwc.precision.place_qdq import place_qdq
from hwc.precision.plan import QuantPlan
from hwc.precision.remember_baseline import Baseline
from hwc.precision.trial_log import TrialLog


@dataclass(frozen=True)
class Sensitivity:
    """What one group does to the outputs. SQNR in dB, clipped to +-140; drops in points; None was not measured.

    `layers` are the nodes of the source file behind the group's nodes.
    """

    group: str
    kind: str
    nodes: tuple[str, ...]
    layers: tuple[str, ...]
    sqnr_db_alone: float
    sqnr_db_without: float | None = None
    drop_alone: float | None = None
    drop_without: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class GraphNoise:
    """One graph against FP32: SQNR of its outputs in dB, and the drop of the metric in points."""

    sqnr_db: float
    drop: float | None


def quantized_groups(plan: QuantPlan) -> tuple[str, ...]:
    """Ids of the groups that read integers under this plan, in graph order."""
    reading = {group for point in plan.points for group in point.groups} - plan.high
    return tuple(group.id for group in plan.groups if group.id in reading)


def source_layers(model: ir.Model, groups: Sequence[FusionGroup]) -> dict[str, tuple[str, ...]]:
    """Group id -> the nodes of the source file that it stands for, each once."""
    named = {str(node.name): origins(node) for node in model.graph}
    return {
        group.id: tuple(dict.fromkeys(origin for name in group.nodes for origin in named.get(name, (name,))))
        for group in groups
    }


def open_evaluator(model: ir.Model) -> Run:
    """Runs a Q/DQ graph as it is written, in floats; stands for the engine where only differences matter."""
    return Evaluator(model).run


def rank_groups(
    plan: QuantPlan,
    baseline: Run,
    samples: Sequence[PairedSample],
    *,
    metric: Metric | None = None,
    place: Callable[[QuantPlan], ir.Model] = place_qdq,
    open_run: Callable[[ir.Model], Run] = open_evaluator,
    without_worst: int | None = None,
    log: TrialLog | None = None,
    progress: Progress | None = None,
) -> tuple[Sensitivity, ...]:
    """The plan's groups, most harmful first; equal ones in graph order.

    Args:
        plan: groups that it keeps high stay high and are not ranked.
        baseline: the FP32 model.
        samples: a few; 8 to 32 settle the order of SQNR.
        place: QuantPlan -> graph with Q/DQ.
        open_run: graph -> its `run`.
        without_worst: measure `without` for so many of the worst only; None for all.
        log: finished measurements; its key must name plan, samples and metric. An interrupted ranking goes on.
        progress: called with (group, fraction).

    Raises:
        UsageError: no sample, or a plan without a quantized group.
    """
    ids = quantized_groups(plan)
    if not ids or not samples:
        raise UsageError(
            "there is nothing to rank", expected="a group that reads integers, and a sample",
            got=f"{len(ids)} groups, {len(samples)} samples", do="see the near misses of the points for the reasons",
        )  # fmt: skip
    log = log if log is not None else TrialLog()
    expected = Baseline(baseline)
    everything = frozenset(ids)
    total = len(ids) + (len(ids) if without_worst is None else min(without_worst, len(ids)))
    done = 0

    def measure(kind: str, group: str, high: frozenset[str]) -> dict[str, Any]:
        nonlocal done

        def now() -> dict[str, Any]:
            start = time.perf_counter()
            noise = measure_noise(open_run(place(plan.replace(high=high))), expected, samples, metric)
            return {"sqnr_db": noise.sqnr_db, "drop": noise.drop, "seconds": time.perf_counter() - start}

        result = log.once(f"{kind} {group}", now)
        done += 1
        if progress is not None:
            progress(f"sensitivity of {group}", done / total)
        return result

    alone = {group: measure("alone", group, plan.high | (everything - {group})) for group in ids}
    order = sorted(ids, key=lambda group: alone[group]["sqnr_db"])
    chosen = order if without_worst is None else order[:without_worst]
    without = {group: measure("without", group, plan.high | {group}) for group in chosen}
    described = {group.id: group for group in plan.groups}
    layers = source_layers(plan.model, plan.groups)
    return tuple(_sensitivity(described[g], layers[g], alone[g], without.get(g)) for g in order)


def _sensitivity(
    group: FusionGroup, layers: tuple[str, ...], alone: Mapping[str, Any], without: Mapping[str, Any] | None
) -> Sensitivity:
    return Sensitivity(
        group=group.id, kind=group.kind, nodes=group.nodes, layers=layers,
        sqnr_db_alone=alone["sqnr_db"], sqnr_db_without=without["sqnr_db"] if without else None,
        drop_alone=alone["drop"], drop_without=without["drop"] if without else None,
        seconds=alone["seconds"] + (without["seconds"] if without else 0.0),
    )  # fmt: skip


def measure_noise(run: Run, baseline: Run, samples: Sequence[PairedSample], metric: Metric | None) -> GraphNoise:
    """SQNR over all samples together, so that one sample with a weak signal does not decide; NaN counts as -140 dB.

    Raises:
        UsageError: a metric that fails on a sample, an output that is missing or of another shape.
    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    lost = 0.0
    for sample in samples:
        expected, got = baseline(sample.feeds), run(sample.feeds)
        for name in (name for name, array in expected.items() if is_float(array)):
            right, wrong = noise_powers(expected[name], get_output(got, name))
            signal[name] = signal.get(name, 0.0) + right
            noise[name] = noise.get(name, 0.0) + wrong
        if metric is not None:
            label = label_of(sample)
            lost += metric.score(expected, label, expected, sample.name)
            lost -= metric.score(got, label, expected, sample.name)
    values = [_decibels(signal[name], noise[name]) for name in signal]
    drop = 100.0 * lost / len(samples) if metric is not None else None
    return GraphNoise(float(np.mean(values)) if values else LIMIT_DB, drop)


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return LIMIT_DB
    if signal == 0.0 or math.isinf(noise):
        return -LIMIT_DB
    return float(np.clip(10.0 * np.log10(signal / noise), -LIMIT_DB, LIMIT_DB))
