"""The ordered list of passes, and the one loop that runs it.

The order matters, and each line that depends on another says so. Passes run once, top to bottom; a pass that must see
what a later one leaves is listed twice, by name, rather than iterated to a fixed point of unknown length.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from hwc.artifacts import FusionGroup, Step
from hwc.errors import UsageError
from hwc.graph.text import digest_model
from hwc.passes.base import Pass, PassContext, run_pass
from hwc.passes.convert_float16 import convert_float16
from hwc.passes.eliminate_identity import eliminate_identity
from hwc.passes.form_fusion_groups import form_fusion_groups

# Structure, in FP32.
PASSES: tuple[Pass, ...] = (eliminate_identity,)
# Then types: ranges were measured on the graph that the passes above left.
PRECISION: tuple[Pass, ...] = (convert_float16,)
# Last, because every rewrite would break up groups again.
GROUPING: tuple[Pass, ...] = (form_fusion_groups,)
ALL: tuple[Pass, ...] = PASSES + PRECISION + GROUPING


def pass_names(passes: tuple[Pass, ...] = ALL) -> tuple[str, ...]:
    """Their names in order, each once."""
    return tuple(dict.fromkeys(p.__name__ for p in passes))


def select_passes(without: tuple[str, ...], passes: tuple[Pass, ...] = ALL) -> tuple[Pass, ...]:
    """The list without the named passes.

    Raises:
        UsageError: no pass has that name.
    """
    known = pass_names(passes)
    for name in without:
        if name not in known:
            raise UsageError(f"no pass is called '{name}'", expected=", ".join(known), got=name)
    return tuple(p for p in passes if p.__name__ not in without)


def run_passes(
    model: ir.Model,
    context: PassContext,
    *,
    passes: tuple[Pass, ...] = PASSES,
    progress: Callable[[str, float], None] = lambda what, fraction: None,
) -> tuple[ir.Model, tuple[Step, ...], tuple[FusionGroup, ...]]:
    """Every pass in order; returns the new model, what each step did, and the fusion groups of the last one."""
    steps: list[Step] = []
    groups: tuple[FusionGroup, ...] = ()
    digest = digest_model(model)
    for index, graph_pass in enumerate(passes):
        progress(graph_pass.__name__, index / len(passes))
        model, step, report = run_pass(model, graph_pass, context, digest=digest)
        digest = step.digest_after
        steps.append(step)
        groups = report.groups or groups
    progress("passes", 1.0)
    return model, tuple(steps), groups
