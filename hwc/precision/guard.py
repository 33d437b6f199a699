"""Did the candidate lose more than is allowed? A paired test with an interval, early stopping, and "I cannot tell".

Both engines see the same samples; b_i and c_i in [0, 1] are their scores. An absolute drop of L points means
mean(b - c) = L / 100; a relative one, of L % of the baseline's own score, means mean(b (1 - L / 100) - c) = 0, so both
are tests on the mean of paired numbers in [-1, 1] (hwc/precision/paired_interval.py).

The chance of error is (1 - confidence) / 2 on each side, as in non-inferiority trials (ICH E9, 3.3.2). With looks on
the way, a fifth of it pays for them, by the betting test, which holds however often one looks; four fifths are left for
the end, by the score test; their sum is the union bound. So no plan of looks is needed, and the end pays little
(z = 2.05 in place of 1.96). Decisions:

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
from statistics import NormalDist
from typing import Any, Protocol, TypeVar

import numpy as np

from hwc.artifacts import Verdict
from hwc.errors import UsageError
from hwc.precision.metrics import LIMIT_DB, Metric, agreement, load_metric, outputs_sqnr_db
from hwc.precision.paired_interval import count_needed, find_bound, log_capital, score_statistic

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
Progress = Callable[[str, float], None]
_EARLY_SHARE = 0.2  # of the chance of error, for looks before the end
_RANGES = {"absolute": (-100.0, 100.0), "relative": (-1000.0, 100.0)}  # of a drop, in points or % of the baseline


class PairedSample(Protocol):
    """One sample: `feeds` by input name, `label` or None, `name` for messages."""

    @property
    def feeds(self) -> Mapping[str, np.ndarray]: ...

    @property
    def label(self) -> Any: ...

    @property
    def name(self) -> str: ...


@dataclass
class _Pairs:
    """Scores so far and the test on them."""

    drop_type: str
    baseline: list[float] = field(default_factory=list)
    candidate: list[float] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)
    sqnr: list[float] = field(default_factory=list)

    @property
    def drop(self) -> float:
        """In points, or in % of the baseline."""
        base, got = math.fsum(self.baseline), math.fsum(self.candidate)
        return 100.0 * (base - got) / (base if self.drop_type == "relative" else len(self.baseline))

    def differences(self, limit: float) -> tuple[np.ndarray, np.ndarray, float]:
        """(values, counts, bound): the drop is below `limit` exactly when the mean of the values is below `bound`."""
        pairs, counts = np.unique(np.array([self.baseline, self.candidate]), axis=1, return_counts=True)
        if self.drop_type == "absolute":
            return pairs[0] - pairs[1], counts.astype(float), limit / 100.0
        kept = 1.0 - limit / 100.0
        return (pairs[0] * kept - pairs[1]) / max(1.0, kept), counts.astype(float), 0.0

    def is_below(self, limit: float, z: float, capital: float) -> bool:
        """Whether a drop below `limit` is proved: by the score test at `z`, or by bets if z is infinite."""
        return _is_proved(*self.differences(limit), z, capital)

    def is_above(self, limit: float, z: float, capital: float) -> bool:
        """Whether a drop above `limit` is proved."""
        values, counts, bound = self.differences(limit)
        return _is_proved(-values, counts, -bound, z, capital)


def _is_proved(values: np.ndarray, counts: np.ndarray, bound: float, z: float, capital: float) -> bool:
    if math.isinf(z):
        return log_capital(bound, values, counts) >= capital
    return score_statistic(bound, values, counts) >= z


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
    pairs = _Pairs(drop_type)
    alpha = 0.5 * (1.0 - confidence)
    capital = -math.log(alpha * _EARLY_SHARE)
    total = len(samples) if isinstance(samples, Sized) else 0
    z, stopped = NormalDist().inv_cdf(1.0 - alpha * (1.0 - _EARLY_SHARE if look_every else 1.0)), ""
    for sample in _shuffled(samples, seed):
        _add(pairs, sample, baseline(sample.feeds), candidate(sample.feeds), metric)
        count = len(pairs.baseline)
        if progress is not None and total:
            progress(f"judging {metric.name}", count / total)
        is_look = look_every and count >= min_samples and count % look_every == 0 and count != total
        if is_look and sum(pairs.baseline) > 0.0:
            if pairs.is_above(max_drop, math.inf, capital):
                stopped = "failed"
            elif pairs.is_below(max_drop, math.inf, capital):
                stopped = "passed"
            if stopped:
                z = math.inf
                break
    _check_scores(pairs, metric)
    low, high = _RANGES[drop_type]
    drop_high = find_bound(lambda limit: pairs.is_below(limit, z, capital), low, high)
    drop_low = -find_bound(lambda limit: pairs.is_above(-limit, z, capital), -high, -low)
    decision = stopped or _decide(pairs, max_drop, z, capital)
    return Verdict(
        metric=metric.name, samples=len(pairs.baseline), baseline=100.0 * _mean(pairs.baseline),
        candidate=100.0 * _mean(pairs.candidate), drop=pairs.drop, drop_low=drop_low, drop_high=drop_high,
        confidence=confidence, limit=max_drop, drop_type=drop_type, decision=decision, judged=judged,
        agreement=_mean(pairs.agreements) if pairs.agreements else None,
        sqnr_db=_mean(pairs.sqnr) if pairs.sqnr else None,
        note=_note(pairs, max_drop, z, decision, (drop_low, drop_high), stopped, total),
    )  # fmt: skip


def _add(
    pairs: _Pairs, sample: PairedSample, base: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], metric: Metric
) -> None:
    # A batch of several elements has a class for each of them; its score is their mean.
    label = sample.label if sample.label is not None else getattr(sample, "labels", ()) or None
    pairs.baseline.append(metric.score(base, label, base, sample.name))
    pairs.candidate.append(metric.score(got, label, base, sample.name))
    decibels = outputs_sqnr_db(base, got)
    if decibels is not None:
        pairs.sqnr.append(decibels)
    if metric.output or len(base) == 1:
        name = metric.output or next(iter(base))
        axis = metric.axis if metric.axis is not None else (-1 if base[name].ndim <= 3 else 1)
        # A score, a map or an embedding has no classes to agree on; then the verdict says None.
        if base[name].ndim and base[name].shape[axis] > 1:
            pairs.agreements.append(agreement(base, got, output=name, axis=axis))


def _decide(pairs: _Pairs, max_drop: float, z: float, capital: float) -> str:
    if pairs.is_below(max_drop, z, capital):
        return "passed"
    return "failed" if pairs.drop > max_drop else "undecided"


def _note(
    pairs: _Pairs, limit: float, z: float, decision: str, interval: tuple[float, float], stopped: str, total: int
) -> str:
    count = len(pairs.baseline)
    unit = "points" if pairs.drop_type == "absolute" else "% of the baseline"
    if stopped:
        return f"plain after {count} of {total or 'the'} samples; the rest was not run"
    bounds = f"{count} images bound the drop to {interval[0]:+.2f} to {interval[1]:+.2f} {unit}"
    if decision == "undecided":
        values, counts, bound = pairs.differences(limit)
        needed = count_needed(values, counts, z, bound)
        more = f"about {needed} would do" if needed else "no number of images like these would do"
        return f"not enough images to tell {limit:g} {unit} apart: {bounds}; {more}"
    if decision == "failed" and interval[0] <= limit:
        return f"the measured drop is over the limit, though not beyond chance: {bounds}"
    return ""


def _check_options(max_drop: float, drop_type: str, confidence: float, judged: str, look_every: int) -> None:
    if drop_type not in _RANGES or judged not in ("verified", "likely"):
        raise UsageError("an accuracy guard knows absolute and relative drops, judged 'verified' or 'likely'",
                         got=f"{drop_type}, {judged}")  # fmt: skip
    if not 0.0 <= max_drop <= 100.0 or not 0.5 < confidence < 1.0 or look_every < 0:
        raise UsageError(
            "an option of the accuracy guard is out of range", do="for half a point: --max-drop 0.5",
            expected="0 <= max drop <= 100, 0.5 < confidence < 1, look every >= 0",
            got=f"{max_drop:g}, {confidence:g}, {look_every}",
        )


def _check_scores(pairs: _Pairs, metric: Metric) -> None:
    if not pairs.baseline:
        raise UsageError("there is no sample to judge on", do="check --validation-data")
    if not any(pairs.baseline):
        raise UsageError(
            f"the FP32 model itself scores 0 in '{metric.name}', so nothing could be lost",
            got=f"0 on all of {len(pairs.baseline)} samples",
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
