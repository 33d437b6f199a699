"""Did the candidate lose more than is allowed? A paired test with an interval, early stopping, and "I cannot tell".

Both engines see the same samples, so what counts is where they differ (hwc/precision/paired_scores.py). Decisions:

    passed     the whole interval is within the limit
    failed     the whole interval is over it (at once), or all samples are seen and the measured drop is over it
    undecided  the measured drop is within the limit, but the interval is not

What it takes to pass: with no drop in truth and a share q of samples on which the two differ, about
(z + 0.84)^2 q / limit^2 samples pass in 4 of 5 cases, and never fewer than z^2 / limit: for 0.5 points 840 samples if
nothing differs, 3400 if 1 % differ. 300 photos can fail 0.5 points, not pass them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from hwc.artifacts import Verdict
from hwc.errors import UsageError
from hwc.precision.metrics import LIMIT_DB, Metric, agreement, label_of, load_metric, outputs_sqnr_db
from hwc.precision.paired_scores import RANGES, PairedScores

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
Progress = Callable[[str, float], None]


class PairedSample(Protocol):
    """One sample: `feeds` by input name, `label` or None, `name` for messages."""

    @property
    def feeds(self) -> Mapping[str, np.ndarray]: ...

    @property
    def label(self) -> Any: ...

    @property
    def name(self) -> str: ...


def judge(
    baseline: Run,
    candidate: Run,
    samples: Iterable[PairedSample],
    *,
    metric: Metric | str,
    judged: str,
    max_drop: float = 0.5,
    drop_type: str = "absolute",
    confidence: float = 0.95,
    min_samples: int = 50,
    look_every: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verdict:
    """Runs both on the samples until the answer is plain or the samples are used up.

    Args:
        baseline: the FP32 model; give a `Baseline` to run it once for many candidates.
        candidate: the engine that would ship, or its simulator.
        samples: independent draws. A list is visited in a random order fixed by `seed`; anything else is read as it
            comes and must be in random order (a `Dataset` of files is), or `look_every` must be 0.
        judged: "verified" if the candidate is the engine that ships, on its hardware; else "likely".
        max_drop: the limit, in points (100 times the mean score), or for "relative" in % of the baseline's score; the
            verdict's drop and interval are in the same unit.
        confidence: of the two-sided interval.
        min_samples: no early stop before this many.
        look_every: samples between looks; 0 looks only at the end.
        progress: called with (what, fraction) where the number of samples is known.

    Raises:
        UsageError: no sample, no label where one is needed, a broken metric, outputs of another shape, an option out of
            range, or a baseline that scores 0 and so could not lose anything.
    """
    metric = load_metric(metric) if isinstance(metric, str) else metric
    _check_options(max_drop, drop_type, confidence, judged, look_every)
    scores = PairedScores(max_drop, drop_type, confidence, has_looks=look_every > 0)
    sides = _Sides()
    total = len(samples) if isinstance(samples, Sized) else 0
    for sample in _shuffled(samples, seed):
        base, got = baseline(sample.feeds), candidate(sample.feeds)
        label = label_of(sample)
        right, kept = (metric.score(outputs, label, base, sample.name) for outputs in (base, got))
        scores.extend([right], [kept])
        sides.add(base, got, metric)
        count = len(scores)
        if progress is not None and total:
            progress(f"judging {metric.name}", count / total)
        is_look = look_every and count >= min_samples and count % look_every == 0 and count != total
        if is_look and scores.look():
            break
    _check_scores(scores, metric)
    decision, (low, high) = scores.decide(), scores.interval()
    return Verdict(
        metric=metric.name, samples=len(scores), baseline=100.0 * _mean(scores.baseline),
        candidate=100.0 * _mean(scores.candidate), drop=scores.drop, drop_low=low, drop_high=high,
        confidence=confidence, limit=max_drop, drop_type=drop_type, decision=decision, judged=judged,
        agreement=_mean(sides.agreement) if sides.agreement else None,
        sqnr_db=_mean(sides.sqnr_db) if sides.sqnr_db else None, note=_note(scores, decision, low, high, total),
    )  # fmt: skip


@dataclass
class _Sides:
    """What is reported beside the metric, one entry per sample."""

    agreement: list[float] = field(default_factory=list)
    sqnr_db: list[float] = field(default_factory=list)

    def add(self, base: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], metric: Metric) -> None:
        decibels = outputs_sqnr_db(base, got)
        if decibels is not None:
            self.sqnr_db.append(decibels)
        if metric.output or len(base) == 1:
            name = metric.output or next(iter(base))
            axis = metric.axis if metric.axis is not None else (-1 if base[name].ndim <= 3 else 1)
            # A score, a map or an embedding has no classes to agree on; then the verdict says None.
            if base[name].ndim and base[name].shape[axis] > 1:
                self.agreement.append(agreement(base, got, output=name, axis=axis))


def _note(scores: PairedScores, decision: str, low: float, high: float, total: int) -> str:
    count, limit = len(scores), scores.limit
    unit = "points" if scores.drop_type == "absolute" else "% of the baseline"
    if scores.stopped:
        return f"plain after {count}{f' of {total}' if total else ''} samples; the rest was not run"
    bounds = f"{count} images bound the drop to {low:+.2f} to {high:+.2f} {unit}"
    if decision == "undecided":
        needed = scores.needed()
        more = f"about {needed} would do" if needed else "no number of images like these would do"
        return f"not enough images to tell {limit:g} {unit} apart: {bounds}; {more}"
    if decision == "failed" and low <= limit:
        return f"the measured drop is over the limit, though not beyond chance: {bounds}"
    return ""


def _check_options(max_drop: float, drop_type: str, confidence: float, judged: str, look_every: int) -> None:
    if drop_type not in RANGES or judged not in ("verified", "likely"):
        raise UsageError("an accuracy guard knows absolute and relative drops, judged 'verified' or 'likely'",
                         got=f"{drop_type}, {judged}")  # fmt: skip
    if not 0.0 <= max_drop <= 100.0 or not 0.5 < confidence < 1.0 or look_every < 0:
        raise UsageError(
            "an option of the accuracy guard is out of range", do="for half a point: --max-drop 0.5",
            expected="0 <= max drop <= 100, 0.5 < confidence < 1, look every >= 0",
            got=f"{max_drop:g}, {confidence:g}, {look_every}",
        )


def _check_scores(scores: PairedScores, metric: Metric) -> None:
    if not len(scores):
        raise UsageError("there is no sample to judge on", do="check --validation-data")
    if not any(scores.baseline):
        raise UsageError(
            f"the FP32 model itself scores 0 in '{metric.name}', so nothing could be lost",
            got=f"0 on all of {len(scores)} samples",
            do="check the labels, the order of classes and the preprocessing; --metric agreement needs no labels",
        )


T = TypeVar("T")


def _shuffled(samples: Iterable[T], seed: int) -> Iterator[T]:
    # A folder of images is sorted by class: a look at its first part would be a look at its first classes.
    if isinstance(samples, Sequence):
        for index in np.random.default_rng(seed).permutation(len(samples)):
            yield samples[int(index)]
    else:
        yield from samples


def _mean(values: Sequence[float]) -> float:
    return float(np.clip(math.fsum(values) / len(values), -LIMIT_DB, LIMIT_DB))
