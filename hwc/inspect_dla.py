"""`hwc inspect MODEL --dla`: the model as its board would get it, rewritten to stay on DLA, judged and planned.

1. capture, and the passes for the target, in FP32 (TensorRT before 10 is told the precision by a flag)
2. unless that is not wanted, the exact rewrites that keep layers on DLA, each proved legal by `run_pass`
3. both graphs, plain and rewritten, run on the model's inputs; their outputs must agree
4. the report of `hwc/dla` about the rewritten graph
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwc.array_file import load_arrays
from hwc.artifacts import Step, Target
from hwc.capture import FEEDS, MODEL, Captured
from hwc.compare import compare_outputs, tolerance_of
from hwc.dla.board import open_board
from hwc.dla.plan import DlaReport, explain_dla
from hwc.engines.base import Progress
from hwc.errors import InternalError
from hwc.optimize import OptimizeOptions, optimize_model
from hwc.store import Store

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class DlaOptions:
    """What decides the plan besides the model and the target; `rewrite` runs the exact rewrites first."""

    precision: str = "fp16"
    objective: str = "latency"
    tensorrt: str = ""
    rewrite: bool = True


@dataclass(frozen=True)
class DlaInspection:
    """The report, what the rewrites did, and the graph that they left."""

    report: DlaReport
    steps: tuple[Step, ...]
    model: ir.Model


def inspect_dla(
    captured: Captured, target: Target, options: DlaOptions, *, store: Store, progress: Progress
) -> DlaInspection:
    """The report about a captured model.

    Raises:
        TargetError: the board has no DLA, or this TensorRT does not drive it.
        UsageError: no such precision or objective.
        InternalError: the rewrites changed what the graph computes.
    """
    import onnx_ir as ir

    from hwc.graph.shapes import infer_shapes

    open_board(target, options.precision, tensorrt=options.tensorrt)  # before any work is done
    optimized, _ = optimize_model(
        captured, target, OptimizeOptions("fp32", target.engine), store=store, progress=progress
    )
    model = ir.load(optimized.folder / MODEL)
    infer_shapes(model)
    steps: tuple[Step, ...] = ()
    if options.rewrite:
        model, steps = rewrite_for_dla(
            model, target, options.precision, load_arrays(optimized.folder / FEEDS), progress=progress
        )
    progress("planning", 0.95)
    report = explain_dla(
        model, target, options.precision, tensorrt=options.tensorrt, objective=options.objective
    )
    return DlaInspection(report, steps, model)


def rewrite_for_dla(
    model: ir.Model, target: Target, precision: str, feeds: Mapping[str, np.ndarray], *, progress: Progress
) -> tuple[ir.Model, tuple[Step, ...]]:
    """The model after the passes that keep layers on DLA, and what they did; judged on `feeds` by running both.

    Raises:
        InternalError: outputs differ by more than FP32 sums in another order do.
    """
    from hwc.graph.evaluate import Evaluator
    from hwc.passes.base import PassContext
    from hwc.passes.pipeline import DLA, run_passes

    context = PassContext(target=target, precision=precision)
    rewritten, steps, _ = run_passes(model, context, passes=DLA, progress=progress)
    if any(step.rewrites for step in steps):
        expected, got = (Evaluator(graph).run(feeds) for graph in (model, rewritten))
        bad = [d for d in compare_outputs(expected, got, tolerance_of("fp32")) if not d.passed]
        if bad:
            raise InternalError(
                "the rewrites for DLA changed what the graph computes", where=f"output '{bad[0].output}'",
                got=bad[0].reason, do="plan without them (--no-dla-rewrites), and please report it",
            )
    return rewritten, steps
