"""Which precision ships: INT8 where it keeps the accuracy and is not slower, decided by the engine that ships.

1. INT8 with every layer that can be quantized; judged on the validation samples against the FP32 engine.
2. Over the limit: layers are ranked on calibration samples, the fewest are put back to the higher precision until the
   drop is within the limit there, and the result is judged again on the validation samples. Nothing is chosen on the
   samples that the last word is spoken on.
3. `auto` also judges the target's float precision (BF16, FP16, FP32) and keeps the faster of what passed: measured in
   one interleaved run where the engine runs here, estimated from the target's facts elsewhere.

What was tried, undone and why is the ledger. Where nothing with INT8 passes, `auto` rolls back to the float engine;
an explicit `int8` is refused with exit code 1 and its ledger, because a float engine is not what was asked for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from hwc.artifacts import Attempt, Ledger, QuantTable, Target
from hwc.build import Built
from hwc.engines.base import Progress
from hwc.errors import AccuracyError, TargetError, UsageError
from hwc.explain import LEDGER
from hwc.optimize import Optimized, is_strongly_typed
from hwc.quantize import (
    TABLE,
    Calibrated,
    CalibrationOptions,
    calibrate_model,
    default_metric,
    open_samples,
    place_plan,
)
from hwc.run_candidates import (
    Candidate,
    describe_decision,
    estimate_candidates,
    is_judgeable,
    measure_candidates,
    open_run,
    runs_here,
)  # fmt: skip
from hwc.search_layers import PutBack, find_put_back
from hwc.serialize import from_json, to_json
from hwc.store import Store, installed_versions, key_of, own_source_digest

if TYPE_CHECKING:
    import onnx_ir as ir

    from hwc.calibrate.dataset import Dataset

CACHE, FLOAT_MODEL = "calib.cache", "model.float.onnx"
# Of the limit, on calibration samples: a search that just reaches the limit there has one chance in two of passing.
# None of them is 0: by a metric of its own outputs (cosine) integers always lose something, and no search would end.
_SEARCH_LIMITS = (0.5, 0.2, 0.05)
_LOOK_EVERY = 50  # samples between two looks at whether the answer is plain already
_KEPT = 200  # calibration samples that a search may look at; they are held in memory


@dataclass(frozen=True)
class GuardOptions:
    """What the accuracy guard judges by.

    Args:
        validation: samples to judge on, in the forms of the calibration data; empty: what calibration leaves.
        validation_recipe: how these become inputs, if not by the recipe of the calibration samples.
        metric: see `precision.metrics`; empty: top1 where samples have labels, else a comparison with FP32.
        max_drop: largest loss, in points (absolute) or per cent of the FP32 score (relative).
    """

    validation: str = ""
    metric: str = ""
    max_drop: float = 0.5
    drop_type: str = "absolute"
    validation_recipe: str = ""

    def __post_init__(self) -> None:
        if self.drop_type not in ("absolute", "relative") or not 0 <= self.max_drop <= 100:
            raise UsageError(
                "the guard needs a drop of 0 to 100, absolute or relative", got=f"{self.max_drop} {self.drop_type}"
            )


@dataclass(frozen=True)
class Chosen:
    """What ships and how that was decided; `calibrated` if integers are in it, and what the rest computes in."""

    optimized: Optimized
    built: Built
    ledger: Ledger
    calibrated: Calibrated | None
    rest: str = "fp32"


@dataclass(frozen=True)
class PrecisionRequest:
    """What the choice is made from.

    Args:
        full: the optimized graph in FP32: the baseline, and what is quantized.
        floating: the optimized graph in the float precision that `auto` settled on; may be `full`.
        asked: "int8" or "auto".
        build: makes the engine of a graph, or takes it from the cache.
        engine_key: all that decides an engine besides its graph.
    """

    name: str
    target: Target
    backend: str
    full: Optimized
    floating: Optimized
    asked: str
    calibration: CalibrationOptions
    guard: GuardOptions
    build: Callable[[Optimized], Built]
    engine_key: str

    @property
    def rest(self) -> str:
        """What layers without integers compute in: TensorRT may mix, the CPU's engine takes one float type."""
        return self.floating.precision if self.backend == "tensorrt" else "fp32"

    def place(self, calibrated: Calibrated, high: frozenset[str], store: Store) -> Optimized:
        """The graph with Q/DQ; a strongly typed engine gets the float type of the rest written into it."""
        rest = self.rest if is_strongly_typed(self.target, self.backend) else "fp32"
        return place_plan(calibrated, self.full, high, rest, self.target, store=store)


def choose_precision(request: PrecisionRequest, *, store: Store, progress: Progress) -> tuple[Chosen, bool]:
    """What ships, and whether the decision came from the cache.

    Raises:
        AccuracyError: INT8 was asked, and nothing with INT8 keeps the accuracy; its `ledger` tells all.
        TargetError: INT8 was asked of a target that has none.
        UsageError: the samples or the metric are wrong.
    """
    samples, validation = open_samples(
        request.calibration, request.full.inputs, request.guard.validation, request.guard.validation_recipe
    )
    key = key_of(
        "choose", request.name, request.full.digest, request.floating.digest, request.asked, repr(request.calibration),
        repr(request.guard), samples.digest, validation.digest, request.engine_key, own_source_digest(),
        installed_versions(),
    )  # fmt: skip
    kept = store.get("choose", key)
    if kept is None:
        ladder = _Ladder(request, samples, validation, store.partial("choose", key), store, progress)
        ledger = ladder.climb()
        with store.put("choose", key) as folder:
            (folder / LEDGER).write_text(to_json(ledger), encoding="utf-8")
    else:
        ledger = from_json(Ledger, (kept / LEDGER).read_text(encoding="utf-8"))
    winner = ledger.kept
    if winner is None:
        raise _refusal(ledger)
    if winner.precision != "int8":
        # A narrower float that failed the guard was rolled back to FP32, so it is not always `floating`.
        graph = request.floating if winner.precision == request.floating.precision else request.full
        return Chosen(graph, request.build(graph), ledger, None), kept is not None
    how = (request.full, request.target, request.backend, samples, request.calibration)
    calibrated, _ = calibrate_model(*how, store=store, progress=progress)
    placed = request.place(calibrated, frozenset(winner.high), store)
    return Chosen(placed, request.build(placed), ledger, calibrated, request.rest), kept is not None


def write_quantization(
    chosen: Chosen, target: Target, folder: Path, tie: Callable[[ir.Model, QuantTable], QuantTable] | None = None
) -> dict[str, str]:
    """What a bundle carries beside its engine: the ledger, the table, and for TensorRT up to 10 the other dialect.

    The calibration cache belongs to model.float.onnx, whose weights lie on the grid, so that TensorRT's own choice of
    weight scales gives the same integers as the Q/DQ graph. A layer that was put back keeps its weights there, and what
    it alone reads has no line in the cache: without a scale TensorRT computes in floats.

    Args:
        tie: makes scales of the float graph equal where the device needs it, before the cache is written.

    Returns:
        The files of that other dialect under "model" and "calibration_cache"; empty where there is none.
    """
    from hwc.calibrate.cache import why_no_cache, write_cache
    from hwc.graph.save import save_model
    from hwc.precision.find_points import drop_high
    from hwc.precision.put_on_grid import put_on_grid

    (folder / LEDGER).write_text(to_json(chosen.ledger), encoding="utf-8")
    if chosen.calibrated is None:
        return {}
    table = chosen.calibrated.table
    (folder / TABLE).write_text(to_json(table), encoding="utf-8")
    if chosen.built.engine.backend == "tensorrt" and not why_no_cache(target):
        kept = chosen.ledger.kept
        plan = chosen.calibrated.plan.replace(high=frozenset(kept.high if kept else ()))
        points = drop_high(plan.model, plan.points, plan.groups, plan.high)
        read = dataclasses.replace(table, tensors={point.tensor: table.tensors[point.tensor] for point in points})
        model = put_on_grid(plan)
        read = tie(model, read) if tie is not None else read
        (folder / CACHE).write_text(write_cache(read, target), encoding="utf-8")
        save_model(model, folder / FLOAT_MODEL)
        return {"model": FLOAT_MODEL, "calibration_cache": CACHE}
    return {}


def _refusal(ledger: Ledger) -> AccuracyError:
    tried = [attempt for attempt in ledger.attempts if attempt.verdict is not None]
    best = min(tried, key=lambda attempt: attempt.verdict.drop if attempt.verdict else 100.0)
    verdict = best.verdict
    assert verdict is not None
    error = AccuracyError(
        "no INT8 engine keeps the accuracy",
        where=ledger.model,
        expected=f"a drop of at most {verdict.limit:g} ({verdict.drop_type})",
        got=f"{best.name}: {verdict.metric} {verdict.baseline:.2f} -> {verdict.candidate:.2f}",
        do="`hwc explain DIR` tells what was tried; check the preprocessing first, then use --precision auto",
    )
    error.ledger = ledger
    return error


class _Ladder:
    """From the fastest recipe down to the safest; every rung is an Attempt."""

    def __init__(
        self, request: PrecisionRequest, samples: Dataset, validation: Dataset, work: Path, store: Store,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.request, self.samples, self.validation = request, samples, validation
        self.work, self.store, self.progress = work, store, progress
        self.notes = [f"calibration: {samples.describe()}", f"validation: {validation.describe()}"]
        self.attempts: list[Attempt] = []

    def climb(self) -> Ledger:
        """Tries the rungs and keeps one; the ledger of all."""
        from hwc.precision.metrics import load_metric
        from hwc.precision.remember_baseline import Baseline

        self.metric = load_metric(
            self.request.guard.metric or default_metric(self.request.full, next(iter(self.validation)))
        )
        self._look_at_samples()
        with contextlib.ExitStack() as stack:
            full = self.request.build(self.request.full)
            run = stack.enter_context(open_run(self.request.full, full))
            self.baseline = Baseline(run)
            integer = self._try_int8()
            if self.request.asked == "auto":
                floating = self._try_float()
                self._keep_the_faster(integer, floating)
            elif integer is not None:
                self._record(integer, "kept", integer.attempt.reason)
        return Ledger(
            self.request.name, self.request.target.name, self.request.asked, tuple(self.attempts), tuple(self.notes)
        )

    def _try_int8(self) -> Candidate | None:
        """The INT8 candidate that passed; the ones that did not are in the ledger already."""
        request = self.request
        start = time.monotonic()
        try:
            calibrated, _ = calibrate_model(
                request.full, request.target, request.backend, self.samples, request.calibration,
                store=self.store, progress=self.progress,
            )  # fmt: skip
        except TargetError as error:
            if request.asked == "int8":
                raise
            self.attempts.append(Attempt("int8", "int8", "refused", error.what, seconds=time.monotonic() - start))
            return None
        candidate = self._judge_int8(calibrated, frozenset(), start)
        if candidate.passed:
            return candidate
        self._record(candidate, "rolled back", candidate.attempt.reason)
        for share in _SEARCH_LIMITS:
            start = time.monotonic()
            found = self._find_put_back(calibrated, share)
            if not found.groups:
                self.notes.append(found.story)
                if found.groups is not None:
                    break  # stricter limits will find no fault either
                continue
            candidate = self._judge_int8(calibrated, found.groups, start, found.story)
            if candidate.passed:
                return candidate
            self._record(candidate, "rolled back", candidate.attempt.reason)
        return None

    def _judge_int8(self, calibrated: Calibrated, high: frozenset[str], start: float, story: str = "") -> Candidate:
        placed = self.request.place(calibrated, high, self.store)
        name = "int8" if not high else f"int8 with {len(high)} fusion groups in {self.request.rest}"
        return self._judge(placed, name, start, calibrated.effects if not high else {}, tuple(sorted(high)), story)

    def _judge(
        self, optimized: Optimized, name: str, start: float, effects: Mapping[str, float], high: tuple[str, ...],
        story: str = "",
    ) -> Candidate:  # fmt: skip
        from hwc.precision.guard import judge

        self.progress(f"judging {name}", 0.7)
        built = self.request.build(optimized)
        with open_run(optimized, built) as run:
            verdict = judge(
                self.baseline, run, self.validation, metric=self.metric, max_drop=self.request.guard.max_drop,
                drop_type=self.request.guard.drop_type,
                judged="verified" if runs_here(built) else "likely",
                # A generator's order is its own: a look at its first part may be a look at one kind of sample.
                look_every=_LOOK_EVERY if self.validation.is_shuffled else 0,
            )  # fmt: skip
        reason = "; ".join(text for text in (story, describe_decision(verdict)) if text)
        attempt = Attempt(
            name=name, precision=optimized.precision, outcome="rolled back", reason=reason, high=high, verdict=verdict,
            size_bytes=built.engine.size_bytes or None, seconds=time.monotonic() - start, effects=dict(effects),
        )  # fmt: skip
        return Candidate(optimized, built, attempt)

    def _try_float(self) -> Candidate:
        """The float engine: the baseline itself in FP32, judged like any other where it is narrower."""
        request = self.request
        start = time.monotonic()
        precision = request.floating.precision
        if precision == "fp32":
            built = request.build(request.floating)
            reason = "it is the baseline"
            return Candidate(request.floating, built, Attempt("fp32", "fp32", "rolled back", reason))
        built = request.build(request.floating)
        if not is_judgeable(request.floating, built):
            # TensorRT before 10 takes an FP32 graph and a flag, so there is no FP16 graph to run here.
            reason = f"{precision} is chosen by the builder, layer by layer: not judged"
            return Candidate(request.floating, built, Attempt(precision, precision, "rolled back", reason))
        candidate = self._judge(request.floating, precision, start, {}, ())
        if candidate.passed:
            return candidate
        self._record(candidate, "rolled back", candidate.attempt.reason)
        built = request.build(request.full)
        return Candidate(request.full, built, Attempt("fp32", "fp32", "rolled back", "it is the baseline"))

    def _keep_the_faster(self, integer: Candidate | None, floating: Candidate) -> None:
        if integer is None:
            self._record(floating, "kept", f"nothing in INT8 may ship; {floating.attempt.reason}")
            return
        request = self.request
        if integer.runs_here:
            wins, why, latencies = measure_candidates(integer, floating, next(iter(self.validation)).feeds)
        else:
            wins, why, latencies = estimate_candidates(integer, floating, request.full, request.target, request.backend)
        pair = [dataclasses.replace(c.attempt, latency_ms=ms) for c, ms in zip((integer, floating), latencies)]
        outcomes = ("kept", "rolled back") if wins else ("rolled back", "kept")
        reasons = (f"{integer.attempt.reason}; {why}", f"{floating.attempt.reason}; {why}")
        for attempt, outcome, reason in zip(pair, outcomes, reasons):
            self.attempts.append(dataclasses.replace(attempt, outcome=outcome, reason=reason))

    def _find_put_back(self, calibrated: Calibrated, share: float) -> PutBack:
        """Groups to put back so that the drop on the calibration samples is at most `share` of the limit."""
        request = self.request
        return find_put_back(
            calibrated.plan, request.full, self.baseline, list(islice(self.samples, _KEPT)), self.metric,
            limit=share * request.guard.max_drop, drop_type=request.guard.drop_type, target=request.target,
            floating=request.rest, work=self.work, key=calibrated.key, progress=self.progress,
        )  # fmt: skip

    def _record(self, candidate: Candidate, outcome: str, reason: str) -> None:
        self.attempts.append(dataclasses.replace(candidate.attempt, outcome=outcome, reason=reason))

    def _look_at_samples(self) -> None:
        """Refuses samples that judge themselves; what else is odd about the two sets becomes a note."""
        from hwc.calibrate.check_sets import check_likeness, check_overlap
        from hwc.calibrate.finding import refuse_errors

        refuse_errors(check_overlap(self.samples, self.validation), self.request.guard.validation)
        for finding in check_likeness(self.samples, self.validation):
            self.notes.append(f"{finding.message}: {finding.got}, {finding.expected}; {finding.do}")
