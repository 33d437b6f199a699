"""Which layers go back to the higher precision, and which one breaks a model: searches over Q/DQ switched per group.

Both work on calibration samples, so that the validation samples stay unseen, and on the Q/DQ graph in an engine of the
CPU: what differs between two sets of groups is the graph, and that is the same for every target. Finished trials are
logged; an interrupted search goes on. The latency that a put-back group costs is the roofline's estimate.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwc.artifacts import Target
from hwc.capture import MODEL
from hwc.engines.base import Progress
from hwc.errors import HwcError
from hwc.optimize import Optimized
from hwc.sessions import open_model

if TYPE_CHECKING:

    from hwc.calibrate.dataset import Sample
    from hwc.precision.bisect import Breaking
    from hwc.precision.metrics import Metric
    from hwc.precision.plan import QuantPlan
    from hwc.precision.sensitivity import Sensitivity

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
_RANKED_ON = 16  # samples; 8 to 32 settle the order of SQNR
_SEARCHED_ON = 200  # samples; fewer cannot see half a point


@dataclass(frozen=True)
class PutBack:
    """Groups to put back, with the story for the ledger. `groups` is None where no set helps."""

    groups: frozenset[str] | None
    story: str


def find_put_back(
    plan: QuantPlan, full: Optimized, baseline: Run, samples: Sequence[Sample], metric: Metric, *, limit: float,
    drop_type: str, target: Target, floating: str, work: Path, key: str, progress: Progress,
) -> PutBack:  # fmt: skip
    """The fewest groups in the higher precision such that the drop on `samples` is within `limit`.

    Args:
        samples: calibration samples; the first ones rank the groups, up to 200 judge a set.
        limit: points, or per cent of the FP32 score.
        floating: the higher precision, for the estimate of what a put-back group costs.
        work: folder for the log of trials.
        key: digest of all that decides the trials.
    """
    from hwc.precision.search_high import search_high
    from hwc.precision.sensitivity import rank_groups
    from hwc.precision.trial_log import TrialLog

    log = TrialLog(work / "trials.jsonl", f"{key} {limit:g} {drop_type} {metric.name}")
    ranked = rank_groups(
        plan, baseline, list(islice(samples, _RANKED_ON)), without_worst=0,
        log=TrialLog(work / "sensitivity.jsonl", key), progress=progress,
    )  # fmt: skip
    chosen = list(islice(samples, _SEARCHED_ON))

    # What a set of layers loses does not depend on the limit, so a search with a stricter one measures none twice.
    drops = TrialLog(work / "drops.jsonl", f"{key} {drop_type} {metric.name}")

    def measure(high: frozenset[str]) -> dict[str, float]:
        with open_plan(plan, full, high) as run:
            return {"drop": measure_drop(baseline, run, chosen, metric, drop_type)}

    def evaluate(high: frozenset[str]) -> tuple[bool, float]:
        drop = drops.once(",".join(sorted(high)), lambda: measure(high))["drop"]
        return drop <= limit, drop

    costs = _costs(plan, full, target, floating)
    found = search_high(
        [item.group for item in ranked], evaluate, cost=costs.__getitem__ if costs else None,
        cost_source="estimate" if costs else "", log=log, progress=progress,
    )  # fmt: skip
    if found.high is None:
        best = min(trial.drop for trial in found.trials)
        return PutBack(None, f"no set of layers in {floating} keeps the accuracy: best drop {best:.2f} in "
                             f"{len(found.trials)} trials on {len(chosen)} calibration samples")  # fmt: skip
    if not found.high:
        seen = f"INT8 loses {found.drop:.2f} on {len(chosen)} calibration samples, within the limit"
        return PutBack(frozenset(), f"{seen}: no layer is at fault, the validation samples are unlike them")
    return PutBack(frozenset(found.high), _story(found.high, dict(found.costs), ranked, len(found.trials), len(chosen)))


def find_breaking(
    plan: QuantPlan, full: Optimized, baseline: Run, samples: Sequence[Sample], metric: Metric, *, limit: float,
    drop_type: str, work: Path, key: str, progress: Progress,
) -> Breaking:  # fmt: skip
    """The layer, or the smallest set of layers, whose integers cost more than `limit`; arguments as `find_put_back`."""
    from hwc.precision.bisect import find_breaking_layer
    from hwc.precision.sensitivity import quantized_groups, source_layers
    from hwc.precision.trial_log import TrialLog

    ids = set(quantized_groups(plan))
    groups = [group for group in plan.groups if group.id in ids]

    def measure(run: Run) -> tuple[bool, float]:
        drop = measure_drop(baseline, run, samples, metric, drop_type)
        return drop <= limit, drop

    with contextlib.ExitStack() as stack:

        def make(high: frozenset[str]) -> Run:
            stack.close()  # one engine at a time
            return stack.enter_context(open_plan(plan, full, high))

        return find_breaking_layer(
            groups, make, measure, layers=source_layers(plan.model, plan.groups), progress=progress,
            log=TrialLog(work / "bisect.jsonl", f"{key} {limit:g} {drop_type} {metric.name}"),
        )  # fmt: skip


@contextlib.contextmanager
def open_plan(plan: QuantPlan, full: Optimized, high: frozenset[str]) -> Iterator[Run]:
    """The plan's Q/DQ graph with the groups in `high` left in floats, in the CPU's engine."""
    from hwc.graph.save import save_model
    from hwc.precision.place_qdq import place_qdq

    with tempfile.TemporaryDirectory(prefix="hwc-trial-") as folder:
        path = Path(folder) / MODEL
        save_model(place_qdq(plan.replace(high=high)), path)
        # Integers beyond uint8's or a pair's limit would be another engine's: only OpenVINO's own plan runs in it.
        engine = "openvino" if plan.rules.unsigned else "onnxruntime"
        with open_model(path, full.inputs, full.outputs, engine) as session:
            yield session.run


def measure_drop(baseline: Run, run: Run, samples: Sequence[Sample], metric: Metric, drop_type: str) -> float:
    """Mean loss of the metric, in points or in per cent of the baseline's score."""
    before = after = 0.0
    for sample in samples:
        expected, got = baseline(sample.feeds), run(sample.feeds)
        label = sample.label if sample.label is not None else sample.labels or None  # a batch has a class per element
        before += metric.score(expected, label, expected, sample.name)
        after += metric.score(got, label, expected, sample.name)
    return 100.0 * (before - after) / (len(samples) if drop_type == "absolute" else max(before, 1e-12))


def _costs(plan: QuantPlan, full: Optimized, target: Target, floating: str) -> dict[str, float]:
    """Group -> microseconds more in the higher precision, by the roofline; empty where facts are missing."""
    from hwc.cost.roofline import estimate_groups

    try:
        narrow, wide = (estimate_groups(plan.model, full.groups, target, p) for p in ("int8", floating))
    except HwcError:
        return {}
    return {
        a.group.id: 1e6 * (b.estimate.seconds - a.estimate.seconds) if a.estimate and b.estimate else 0.0
        for a, b in zip(narrow, wide)
    }


def _story(
    high: Sequence[str], costs: Mapping[str, float], ranked: Sequence[Sensitivity], trials: int, samples: int
) -> str:
    known = {item.group: item for item in ranked}
    parts = []
    for group in high:
        item = known[group]
        cost = f", costs {costs[group]:+.1f} us (estimate)" if group in costs else ""
        parts.append(f"{group} ({item.kind}: {', '.join(item.layers[:2])}; {item.sqnr_db_alone:.1f} dB alone{cost})")
    return f"put back after {trials} trials on {samples} calibration samples: {'; '.join(parts)}"
