"""Runs, compares and describes candidates: the same graph in several precisions, each with its engine.

An engine that runs on this machine is run. Any other is stood in for by its graph: integers in an exact simulation,
floats as they are written; what is said of it then is "likely", never "verified".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hwc.artifacts import Attempt, Target, Verdict
from hwc.build import Built
from hwc.capture import MODEL
from hwc.engines.base import open_session
from hwc.errors import HwcError
from hwc.optimize import Optimized
from hwc.profile.measure import MeasureOptions, measure_pair

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
Latencies = tuple[float | None, float | None]
_RUNS_HERE = ("openvino", "onnxruntime", "reference")
_MEASURE = MeasureOptions(warmup_s=0.3, max_warmup_s=3.0, duration_s=1.5)


@dataclass(frozen=True)
class Candidate:
    """A graph in one precision, its engine and what became of it."""

    optimized: Optimized
    built: Built
    attempt: Attempt

    @property
    def runs_here(self) -> bool:
        """Whether the engine itself can be run and timed on this machine."""
        return runs_here(self.built)

    @property
    def passed(self) -> bool:
        """Whether the guard lets it ship: no drop over the limit was measured."""
        return self.attempt.verdict is not None and self.attempt.verdict.decision != "failed"


def runs_here(built: Built) -> bool:
    """Whether that engine's runtime is one of the CPU's."""
    return built.engine.backend in _RUNS_HERE


def is_judgeable(optimized: Optimized, built: Built) -> bool:
    """Whether there is something to run: the engine, or a graph that has the narrow type in it."""
    import onnx_ir as ir

    if runs_here(built) or optimized.precision in ("fp32", "int8"):
        return True
    narrow = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}[optimized.precision]
    return any(value.dtype == narrow for node in ir.load(optimized.folder / MODEL).graph for value in node.outputs)


@contextlib.contextmanager
def open_run(optimized: Optimized, built: Built) -> Iterator[Run]:
    """The engine's own run where it can run here; else the graph, integers exactly simulated."""
    if runs_here(built):
        with open_session(built.engine, built.folder) as session:
            yield session.run
        return
    import onnx_ir as ir

    from hwc.graph.evaluate import Evaluator

    if optimized.precision == "int8":
        from hwc.precision.simulate import Simulator

        yield Simulator(ir.load(optimized.folder / MODEL)).run
    else:
        yield Evaluator(optimized.folder / MODEL).run


def describe_decision(verdict: Verdict) -> str:
    """Why the guard let it pass or not, in one clause."""
    drop = f"{verdict.metric} drops by {verdict.drop:.2f} of at most {verdict.limit:g} ({verdict.drop_type})"
    return {
        "passed": f"{drop}, shown at {verdict.confidence:.0%}",
        "undecided": f"{drop}, though {verdict.samples} samples cannot show it at {verdict.confidence:.0%}",
        "failed": f"{drop}: over the limit",
    }[verdict.decision]


def measure_candidates(
    integer: Candidate, floating: Candidate, feeds: Mapping[str, np.ndarray]
) -> tuple[bool, str, Latencies]:
    """Whether INT8 is not the slower one, how that is known, and both medians in ms; one interleaved run."""
    names = (integer.attempt.name, floating.attempt.name)
    with (
        open_session(integer.built.engine, integer.built.folder) as a,
        open_session(floating.built.engine, floating.built.folder) as b,
    ):
        mine, other, ratio = measure_pair(a, b, feeds, feeds, _MEASURE, names=names)
    span = f"{ratio.ratio:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
    why = f"{names[0]} takes {span} of the time of {names[1]}, measured in turn"
    return not (ratio.is_decided and ratio.ratio > 1.0), why, (mine.p50_ms, other.p50_ms)


def estimate_candidates(
    integer: Candidate, floating: Candidate, full: Optimized, target: Target, backend: str
) -> tuple[bool, str, Latencies]:
    """The same from the target's facts: a roofline per fusion group, always called an estimate.

    Without the facts INT8 loses: what nobody can show to be faster is not chosen for speed.
    """
    import onnx_ir as ir

    from hwc.cost.roofline import estimate_groups
    from hwc.precision.find_points import find_points
    from hwc.precision.rules import rules_for

    model = ir.load(full.folder / MODEL)
    points, _ = find_points(model, full.groups, rules_for(target, backend))
    quantized = {group for point in points for group in point.groups} - set(integer.attempt.high)
    try:
        narrow, wide = (
            estimate_groups(model, full.groups, target, p) for p in ("int8", floating.attempt.precision)
        )
    except HwcError as error:
        return False, f"no estimate says that INT8 is faster here ({error.what})", (None, None)
    rows = [((a if a.group.id in quantized else b).estimate, b.estimate) for a, b in zip(narrow, wide)]
    mine = 1e3 * sum(a.seconds for a, b in rows if a and b)
    other = 1e3 * sum(b.seconds for a, b in rows if a and b)
    why = f"estimate: INT8 {mine:.3f} ms, {floating.attempt.precision} {other:.3f} ms"
    return mine <= other, why, (None, None)
