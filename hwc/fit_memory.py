"""The memory step: the optimized graph rewritten until its activations fit a budget, and judged like the passes are.

What `hwc.reduce` hands back fits by construction; which of it is taken depends on where it runs. On this machine's
CPU every candidate is built and timed, and the fastest is taken; elsewhere the cheapest by the roofline's estimate.
The budget is for activations as the graph states them, in its own types and order: weights, an engine's scratch and
its copies of layouts come on top, and an engine may order nodes its own way. The finished graph runs in ONNX Runtime
on the example inputs and must give the outputs of the captured one within the precision's tolerance.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hwc.array_file import load_arrays
from hwc.artifacts import Step, Target
from hwc.capture import FEEDS, MODEL
from hwc.compare import compare_outputs, tolerance_of
from hwc.engines.base import Progress
from hwc.errors import EngineError
from hwc.optimize import EXPECTED, Optimized, read_optimized, target_key, write_optimized
from hwc.store import Store, installed_versions, key_of, own_source_digest

if TYPE_CHECKING:
    from hwc.reduce.lower_peak import Lowered

NAME = "fit_memory"
_CANDIDATES = 3
_COSTLY = 4.0  # a second price, under which kernels and copies cost this much more: fewer and larger tiles


def fit_memory(
    optimized: Optimized, target: Target, budget: int, *, store: Store, progress: Progress,
    seconds_of: Callable[[Optimized], float] | None = None,
) -> tuple[Optimized, bool]:  # fmt: skip
    """A graph with at most `budget` bytes of activations alive at once, and whether it came from the cache.

    Args:
        seconds_of: measures a candidate; None where the target is not this machine.

    Raises:
        UsageError: a shape is not static.
        TargetError: nothing fits; names the least budget that does. Or the target does not know its speed.
        EngineError: the rewritten graph gives other outputs.
    """
    how = (optimized.digest, optimized.precision, target_key(target), str(budget), str(seconds_of is not None))
    key = key_of("memory", *how, own_source_digest(), installed_versions())
    kept = store.get("memory", key)
    if kept is not None:
        return read_optimized(kept), True
    with store.put("memory", key) as folder:
        _fit(optimized, target, budget, folder, seconds_of, progress)
    return read_optimized(store.require("memory", key)), False


def _fit(
    optimized: Optimized, target: Target, budget: int, folder: Path,
    seconds_of: Callable[[Optimized], float] | None, progress: Progress,
) -> None:  # fmt: skip
    import onnx_ir as ir

    from hwc.graph.shapes import infer_shapes
    from hwc.reduce.lower_peak import lower_peak
    from hwc.reduce.price_nodes import price_on

    started = time.perf_counter()
    model = ir.load(optimized.folder / MODEL)
    infer_shapes(model, "before the memory budget")
    price = price_on(target, "graph")
    costly = dataclasses.replace(
        price, start_seconds=price.start_seconds * _COSTLY, byte_seconds=price.byte_seconds * _COSTLY
    )

    def tell(what: str, fraction: float) -> None:
        progress(f"memory budget: {what}", 0.45 + 0.04 * fraction)

    others = (costly,) if seconds_of is not None else ()
    candidates = lower_peak(model, budget, price, others=others, progress=tell)[:_CANDIDATES]
    if len(candidates) == 1 or seconds_of is None:
        write_optimized(_write(candidates[0], model, optimized, target, folder, started, ()))
        return
    measured = []
    for index, lowered in enumerate(candidates):
        tell(f"measuring {index + 1} of {len(candidates)}", 1.0)
        trial = folder / f"trial{index}"
        trial.mkdir()
        written = _write(lowered, model, optimized, target, trial, started, ())
        measured.append((seconds_of(written), index))
        shutil.rmtree(trial)
    told = ", ".join(f"{seconds * 1e3:.2f} ms" for seconds, _ in measured)
    chosen = candidates[min(measured)[1]]
    note = f"memory budget: the fastest of {len(measured)} that fit, measured on this machine: {told}"
    write_optimized(_write(chosen, model, optimized, target, folder, started, (note,)))


def _write(
    lowered: Lowered, before: object, optimized: Optimized, target: Target, folder: Path, started: float,
    notes: tuple[str, ...],
) -> Optimized:  # fmt: skip
    """The graph in `folder`, judged, with its record and its fusion groups."""
    import onnx_ir as ir

    from hwc.graph.evaluate import Evaluator
    from hwc.graph.save import save_model
    from hwc.graph.shapes import infer_shapes
    from hwc.graph.text import digest_model
    from hwc.graph.verify import verify_model
    from hwc.passes.base import PassContext
    from hwc.passes.pipeline import GROUPING, run_passes

    assert isinstance(before, ir.Model)
    model = lowered.model
    verify_model(model, NAME)
    infer_shapes(model, NAME)
    save_model(model, folder / MODEL)
    for name in (FEEDS, EXPECTED):
        shutil.copyfile(optimized.folder / name, folder / name)
    got = Evaluator(folder / MODEL).run(load_arrays(folder / FEEDS))
    tolerance = tolerance_of(optimized.precision)
    bad = [d for d in compare_outputs(load_arrays(folder / EXPECTED), got, tolerance) if not d.passed]
    if bad:
        raise EngineError(
            "the graph that fits the memory budget gives other outputs", where=f"output '{bad[0].output}'",
            expected=f"within {tolerance}", got=bad[0].reason, do="please report this with the model",
        )  # fmt: skip
    digest = digest_model(model)
    grouped = PassContext(target=target, precision=optimized.precision)
    is_grouped = any(group.nodes for group in optimized.groups)
    groups = run_passes(model, grouped, passes=GROUPING)[2] if is_grouped else ()
    step = Step(
        name=NAME, rewrites=len(lowered.steps), nodes_before=before.graph.num_nodes(),
        nodes_after=model.graph.num_nodes(), digest_before=optimized.digest,
        digest_after=digest if lowered.steps else optimized.digest, seconds=time.perf_counter() - started,
        notes=lowered.steps,
    )  # fmt: skip
    extra = lowered.seconds / lowered.seconds_before if lowered.seconds_before else 1.0
    told = (
        f"memory budget: peak of activations {lowered.peak_before / 2**20:.2f} to {lowered.peak_bytes / 2**20:.2f} MiB,"
        f" estimated time {extra:.2f}x",
        *notes,
    )
    return dataclasses.replace(
        optimized, folder=folder, digest=step.digest_after, steps=(*optimized.steps, step), groups=groups,
        notes=(*optimized.notes, *told), extra_files=tuple(path.name for path in folder.glob(f"{MODEL}.*")),
    )  # fmt: skip
