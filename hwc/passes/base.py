"""Runs one pass: verify, clone, run, compare digests, verify, record.

A pass is a function `verb_noun(model, context) -> PassReport` in a file of that name. It edits the model that it is
given; `run_pass` gives it a clone, so a pass that raises has changed nothing. No promise is taken on trust: what a pass
reports must agree with the digests, and the graph must be legal, typed and with the same inputs and outputs afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from hwc.artifacts import FusionGroup, NearMiss, Step, Target
from hwc.errors import HwcError, InternalError
from hwc.graph.model import remove_dead
from hwc.graph.shapes import infer_shapes
from hwc.graph.text import digest_model
from hwc.graph.verify import verify_model


@dataclass(frozen=True)
class InputNormalization:
    """What a pipeline does to an input before the model: y = (x - mean) / std, per channel (axis 1) or scalar.

    Folded into the first layer, the input becomes raw pixel values, as uint8 when `as_uint8`.
    """

    input: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    as_uint8: bool = False


@dataclass(frozen=True)
class PassContext:
    """All that a pass may know besides the graph.

    Args:
        precision: "fp32", "fp16" or "bf16": the arithmetic that the engine will be asked for; "int8", too, for the
            passes that keep layers on a DLA.
        amax: tensor name -> largest magnitude seen on calibration data; empty when there was none.
        normalization: what to fold into the first layer, per input.
        keep_fp32: names of nodes that no pass may move to a narrower float, with the reason in one clause.
    """

    target: Target
    precision: str = "fp32"
    amax: Mapping[str, float] = field(default_factory=dict)
    normalization: tuple[InputNormalization, ...] = ()
    keep_fp32: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PassReport:
    """What a pass did. `rewrites` counts matches rewritten; zero means that the graph is unchanged to the bit.

    `groups` is filled only by the pass that forms them.
    """

    rewrites: int
    misses: tuple[NearMiss, ...] = ()
    notes: tuple[str, ...] = ()
    groups: tuple[FusionGroup, ...] = ()


Pass = Callable[[ir.Model, PassContext], PassReport]


def run_pass(model: ir.Model, graph_pass: Pass, context: PassContext, *, digest: str = "") -> tuple[
    ir.Model, Step, PassReport
]:
    """One pass over `model`, which is left as it is.

    Args:
        digest: of `model`, if the caller has it from the step before.

    Returns:
        The new model (the given one if nothing changed), the record, and the pass's own report.

    Raises:
        InternalError: the pass broke the graph, or its report contradicts the digests.
        HwcError: whatever the pass itself refused.
    """
    name = graph_pass.__name__
    start = time.perf_counter()
    verify_model(model, f"before {name}")
    before = digest or digest_model(model)
    work = model.clone()
    # What was dead before the pass is not its doing, so it goes before the digests are compared.
    weights = len(work.graph.initializers)
    is_same = remove_dead(work) == 0 and len(work.graph.initializers) == weights
    start_digest = before if is_same else digest_model(work)
    try:
        report = graph_pass(work, context)
    except HwcError:
        raise
    except Exception as error:
        raise InternalError(
            f"pass {name} failed", got=f"{type(error).__name__}: {error}", do="please report this with the model"
        ) from error
    remove_dead(work)
    verify_model(work, f"after {name}")
    after = digest_model(work)
    if (start_digest != after) != (report.rewrites > 0):
        raise InternalError(
            f"pass {name} does not tell the truth about itself",
            expected="rewrites > 0 exactly when the graph changed",
            got=f"rewrites {report.rewrites}, graph {'changed' if start_digest != after else 'unchanged'}",
        )
    if report.rewrites:
        infer_shapes(work, f"after {name}")
        _check_borders(model, work, name, context)
        after = digest_model(work)
    step = Step(
        name=name,
        rewrites=report.rewrites,
        nodes_before=model.graph.num_nodes(),
        nodes_after=(work if report.rewrites else model).graph.num_nodes(),
        digest_before=before,
        digest_after=after if report.rewrites else before,
        seconds=time.perf_counter() - start,
        misses=report.misses,
        notes=report.notes,
    )
    return (work if report.rewrites else model), step, report


def _check_borders(before: ir.Model, after: ir.Model, name: str, context: PassContext) -> None:
    """Inputs and outputs keep name, dtype and shape; only folded normalization may change an input's dtype."""
    raw = {n.input for n in context.normalization if n.as_uint8}
    for side in ("inputs", "outputs"):
        old, new = getattr(before.graph, side), getattr(after.graph, side)
        if [v.name for v in old] != [v.name for v in new]:
            raise InternalError(
                f"pass {name} changed the graph's {side}",
                expected=", ".join(str(v.name) for v in old),
                got=", ".join(str(v.name) for v in new),
            )
        for a, b in zip(old, new):
            if a.dtype != b.dtype and not (side == "inputs" and a.name in raw):
                raise InternalError(
                    f"pass {name} changed the dtype of {a.name}", expected=str(a.dtype), got=str(b.dtype)
                )
            if a.shape is not None and b.shape is not None and list(a.shape) != list(b.shape):
                known = all(isinstance(d, int) for d in [*a.shape, *b.shape])
                if known or len(a.shape) != len(b.shape):
                    raise InternalError(
                        f"pass {name} changed the shape of {a.name}", expected=str(a.shape), got=str(b.shape)
                    )
