"""Every improvement of a plan in its order, each with its measured effect.

| name             | what it changes                                        | needs                       |
|------------------|--------------------------------------------------------|-----------------------------|
| equalize_layers  | scales of channels, inside the function of the network | neighbours that allow it    |
| learn_rounding   | integers, layer by layer, by second-order rounding     | a torch form of the graph   |
| correct_bias     | biases, so that means of layers stay                   | the same                    |
| distill_rounding | all integers, biases and scales, by gradients          | the same, and time          |

Each measures itself on samples it does not learn from and leaves the plan alone where it would get worse. What cannot
be done (an operator without a torch form) is told in a note; the plan then stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwc.engines.base import Progress
from hwc.errors import TargetError

if TYPE_CHECKING:
    import onnx_ir as ir

    from hwc.calibrate.dataset import Sample
    from hwc.precision.plan import QuantPlan

Feeds = Mapping[str, np.ndarray]
IMPROVEMENTS = ("equalize_layers", "learn_rounding", "correct_bias", "distill_rounding")
_HELD_BYTES = 1 << 29  # of samples that the improvements see
_RANGED = 32  # samples that give ranges while ways of scaling are compared


def improve_plan(
    plan: QuantPlan, plan_again: Callable[[ir.Model, Sequence[Feeds]], QuantPlan], samples: Iterable[Sample], *,
    without: Sequence[str], seconds: float, work: Path, progress: Progress,
) -> tuple[QuantPlan, dict[str, float], tuple[str, ...]]:  # fmt: skip
    """The plan after every improvement that is asked for, the effects that were measured, and what could not be done.

    Args:
        plan_again: ranges, scales and integers of a graph whose channels were scaled, from some of the samples.
        without: improvements to leave out.
        seconds: bound on learning all roundings together; 0 leaves that out.
        work: where unfinished learning is kept.
    """
    from hwc.precision.correct_bias import correct_bias
    from hwc.precision.distill_rounding import distill_rounding
    from hwc.precision.equalize_layers import equalize_layers
    from hwc.precision.learn_rounding import learn_rounding

    plan = plan.replace(original=plan.model)
    feeds = _held_in_memory(samples)
    teacher, effects, notes = plan.model, dict[str, float](), list[str]()

    def equalize(given: QuantPlan) -> tuple[QuantPlan, dict[str, float]]:
        model, measured = equalize_layers(
            given.model, feeds, lambda graph: plan_again(graph, feeds[:_RANGED]), progress=progress
        )
        return (given if model is given.model else plan_again(model, feeds)), measured

    how: dict[str, Any] = {"teacher": teacher, "progress": progress}
    steps: dict[str, Callable[[QuantPlan], tuple[QuantPlan, dict[str, float]]]] = {
        "equalize_layers": equalize,
        "learn_rounding": lambda given: learn_rounding(given, feeds, **how),
        "correct_bias": lambda given: correct_bias(given, feeds, **how),
        "distill_rounding": lambda given: distill_rounding(
            given, feeds, seconds=seconds, checkpoint=work / "distill.pt", **how
        ),
    }
    skipped = {*without, *(("distill_rounding",) if not seconds else ())}
    for name in IMPROVEMENTS:
        if name in skipped:
            continue
        try:
            plan, measured = steps[name](plan)
        except TargetError as error:
            notes.append(f"{name} was left out: {error.what}")
            continue
        effects.update(measured)
        if name == "equalize_layers":
            plan = plan.replace(original=plan.model)
    return plan, effects, tuple(notes)


def _held_in_memory(samples: Iterable[Sample]) -> list[Feeds]:
    """Feeds for the improvements, as many as fit: they are visited many times."""
    feeds: list[Feeds] = []
    held = 0
    for sample in samples:
        held += sum(array.nbytes for array in sample.feeds.values())
        if held > _HELD_BYTES and feeds:
            break
        feeds.append(sample.feeds)
    return feeds
