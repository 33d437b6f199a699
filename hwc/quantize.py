"""The quantize step: from an FP32 graph and samples to a plan of integers, and from a plan to a graph with Q/DQ.

1. The samples are opened, and looked at while they stream by: what is wrong with them is an error or a note.
2. Layers are equalised, which changes weights only and the function not at all.
3. One statistics pass over all tensors that will carry Q/DQ; every calibrator reads that pass.
4. Scales of activations, integers of weights, corrected biases, learned rounding. Each improvement measures its effect,
   and one that makes things worse is left out and says so.

The plan is kept in the step cache. Unfinished statistics and rounding are kept beside it, so an interrupted run goes on
where it was.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwc.array_file import load_arrays, save_arrays
from hwc.artifacts import QuantTable, Step, Target, TensorScale, TensorSpec
from hwc.capture import FEEDS, MODEL
from hwc.engines.base import Progress
from hwc.errors import TargetError, UsageError
from hwc.improve_plan import IMPROVEMENTS, improve_plan
from hwc.optimize import EXPECTED, Optimized, read_optimized, target_key, write_optimized
from hwc.serialize import from_json, to_json
from hwc.store import Store, installed_versions, key_of, own_source_digest

if TYPE_CHECKING:
    import onnx_ir as ir

    from hwc.calibrate.check_data import DataChecker
    from hwc.calibrate.dataset import Dataset, Sample
    from hwc.calibrate.tensor_statistics import TensorStatistics
    from hwc.precision.plan import QuantPlan, QuantRules

METHODS = ("auto", "max", "entropy", "percentile", "mse")
TABLE = "quant_table.json"
_EFFECTS = "effects.json"


@dataclass(frozen=True)
class CalibrationOptions:
    """What decides the integers, besides graph and target.

    Args:
        data: a folder of images, an .npz, an .npy or file.py:generator; see `calibrate.dataset`.
        recipe: name or path of a calibration recipe, for a folder of images.
        samples: at most so many are read.
        without: improvements to leave out, of IMPROVEMENTS.
        rounding_seconds: bound on the learning of all roundings together (distill_rounding); 0 leaves it out.
    """

    data: str
    recipe: str = ""
    samples: int = 500
    method: str = "auto"
    without: tuple[str, ...] = ()
    rounding_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError("no such calibration method", expected=", ".join(METHODS), got=self.method)
        unknown = sorted(set(self.without) - set(IMPROVEMENTS))
        if unknown:
            known = ", ".join(IMPROVEMENTS)
            raise UsageError(f"no improvement is called '{unknown[0]}'", expected=known, got=unknown[0])
        if self.samples < 1 or self.rounding_seconds < 0:
            raise UsageError(
                "calibration needs at least one sample and no negative time",
                got=f"{self.samples} samples, {self.rounding_seconds} s",
            )


@dataclass(frozen=True)
class Calibrated:
    """A plan, its table, and what each improvement brought, measured (name -> value, units in the names)."""

    plan: QuantPlan
    table: QuantTable
    effects: Mapping[str, float]
    key: str


def open_samples(
    options: CalibrationOptions, inputs: tuple[TensorSpec, ...], validation: str = "", validation_recipe: str = ""
) -> tuple[Dataset, Dataset]:
    """The samples to calibrate on and those to judge on, made by one recipe unless the latter have their own.

    Without `validation` the judge gets what calibration leaves: the samples beyond `options.samples`, and at least a
    fifth of all. The order is spread (see `calibrate.dataset`), so both parts are like the whole.

    Raises:
        UsageError: the data or the recipe cannot be read, or nothing is left to judge on.
    """
    from hwc.calibrate.dataset import open_dataset
    from hwc.calibrate.read_recipe import read_recipe

    recipe = read_recipe(options.recipe) if options.recipe else None
    if validation:
        calibration = open_dataset(options.data, inputs=inputs, recipe=recipe, limit=options.samples)
        own = read_recipe(validation_recipe) if validation_recipe else recipe
        return calibration, open_dataset(validation, inputs=inputs, recipe=own, limit=None)
    total = len(open_dataset(options.data, inputs=inputs, recipe=recipe, limit=None))
    taken = min(options.samples, total - max(1, total // 5))
    calibration = open_dataset(options.data, inputs=inputs, recipe=recipe, limit=max(1, taken))
    if taken < 1 or len(calibration) != taken:
        raise UsageError(
            "nothing is left to judge on", where=options.data,
            expected="--validation-data, or a source without an end (photos, not photos@0:300)",
            got=f"{total} samples, {len(calibration)} of them for calibration",
            do="give --validation-data",
        )  # fmt: skip
    return calibration, open_dataset(options.data, inputs=inputs, recipe=recipe, limit=None, offset=taken)


def open_all_samples(options: CalibrationOptions, inputs: tuple[TensorSpec, ...]) -> Dataset:
    """The samples to calibrate on where nothing is judged: up to `options.samples`, none kept back."""
    from hwc.calibrate.dataset import open_dataset
    from hwc.calibrate.read_recipe import read_recipe

    recipe = read_recipe(options.recipe) if options.recipe else None
    return open_dataset(options.data, inputs=inputs, recipe=recipe, limit=options.samples)


def default_metric(full: Optimized, first: Sample) -> str:
    """top1 where samples have labels; without, FP32's own answer for classifiers, the same direction for others."""
    # A batch of several elements has a class for each of them.
    if all(label is not None for label in first.labels or (first.label,)):
        return "top1"
    outputs = full.outputs
    is_classifier = len(outputs) == 1 and len(outputs[0].shape) == 2 and outputs[0].at("opt")[-1] > 1
    return "agreement" if is_classifier else "cosine"


def calibrate_model(
    optimized: Optimized, target: Target, backend: str, samples: Dataset, options: CalibrationOptions, *,
    store: Store, progress: Progress,
) -> tuple[Calibrated, bool]:  # fmt: skip
    """The plan for the FP32 graph `optimized`, and whether it came from the cache.

    Raises:
        TargetError: the target has no INT8, or the graph has nothing that could be quantized.
        UsageError: the samples are wrong; says how.
    """
    from hwc.precision.rules import rules_for

    rules = rules_for(target, backend)
    digest = samples.digest
    key = key_of(
        "quantize", optimized.digest, digest, repr(options), repr(rules), own_source_digest(), installed_versions()
    )
    kept = store.get("quantize", key)
    if kept is not None:
        return _read(kept, optimized, rules, key), True
    work = store.partial("quantize", key)
    with store.put("quantize", key) as folder:
        _calibrate(optimized, samples, digest, rules, options, work, folder, progress)
    return _read(store.require("quantize", key), optimized, rules, key), False


def _calibrate(
    optimized: Optimized, samples: Dataset, digest: str, rules: QuantRules, options: CalibrationOptions, work: Path,
    folder: Path, progress: Progress,
) -> None:  # fmt: skip
    import onnx_ir as ir

    from hwc.calibrate.check_data import DataChecker
    from hwc.calibrate.check_sets import check_identity
    from hwc.calibrate.choose_scales import choose_scales
    from hwc.calibrate.finding import refuse_errors
    from hwc.calibrate.statistics import collect_statistics
    from hwc.precision.find_points import find_points
    from hwc.precision.plan import QuantPlan
    from hwc.precision.plan_files import write_plan
    from hwc.precision.quantize_weights import quantize_weights

    model = ir.load(optimized.folder / MODEL)
    points, misses = find_points(model, optimized.groups, rules)
    if not points:
        raise TargetError(
            "nothing in this graph can be quantized", where=misses[0].node if misses else "",
            got=misses[0].reason if misses else "no convolution and no matrix product with constant weights",
            do="use --precision auto",
        )  # fmt: skip

    def make_plan(graph: ir.Model, statistics: Mapping[str, TensorStatistics]) -> QuantPlan:
        scales = choose_scales(statistics, points, method=options.method, unsigned_allowed=rules.unsigned)
        weights = quantize_weights(graph, optimized.groups, points, rules)
        return QuantPlan(graph, optimized.groups, rules, points, scales, weights)

    tensors = [point.tensor for point in points]
    checker = DataChecker(samples.inputs, samples.recipe, examples=load_arrays(optimized.folder / FEEDS))
    statistics = collect_statistics(
        model, tensors, _checked(samples, checker), checkpoint=work / "statistics.npz", data_digest=digest,
        total=len(samples), progress=progress,
    )  # fmt: skip
    findings = (*checker.findings(), *check_identity(samples))
    refuse_errors(findings, samples.source)
    plan = make_plan(model, statistics)

    def plan_again(graph: ir.Model, feeds: Sequence[Mapping[str, np.ndarray]]) -> QuantPlan:
        return make_plan(graph, collect_statistics(graph, tensors, feeds, progress=progress))

    plan, effects, notes = improve_plan(
        plan, plan_again, samples, without=options.without, seconds=options.rounding_seconds, work=work,
        progress=progress,
    )  # fmt: skip
    write_plan(folder, plan)
    table = QuantTable(
        model_digest=optimized.digest,
        data_digest=digest,
        samples=len(samples),
        method=options.method,
        tensors=plan.scales,
        weights={name: TensorScale(tuple(map(float, w.scale.reshape(-1))), w.axis) for name, w in plan.weights.items()},
        notes=(samples.describe(), *notes, *(f"{found.message}: {found.got}; {found.do}" for found in findings)),
    )
    (folder / TABLE).write_text(to_json(table), encoding="utf-8")
    (folder / _EFFECTS).write_text(json.dumps(effects))


def _checked(samples: Dataset, checker: DataChecker) -> Iterator[Mapping[str, np.ndarray]]:
    """The feeds of all samples, looked at on the way; one that no engine could run is refused before it is run."""
    from hwc.calibrate.finding import refuse_errors

    for sample in samples:
        checker.observe(sample)
        if checker.unusable is not None:
            refuse_errors((checker.unusable,), samples.source)
        yield sample.feeds


def _read(folder: Path, optimized: Optimized, rules: QuantRules, key: str) -> Calibrated:
    from hwc.precision.plan_files import read_plan

    plan = read_plan(folder, optimized.groups, rules)
    table = from_json(QuantTable, (folder / TABLE).read_text(encoding="utf-8"))
    return Calibrated(plan, table, json.loads((folder / _EFFECTS).read_text()), key)


def place_plan(
    calibrated: Calibrated, optimized: Optimized, high: frozenset[str], rest: str, target: Target, *, store: Store
) -> Optimized:
    """The graph with Q/DQ where the plan puts them and none for the groups in `high`, as a step that can be built.

    Its expected outputs are its own, run as written: what is checked later is that the engine computes this graph. How
    much accuracy the graph itself lost is the guard's to say.

    Args:
        rest: "fp16" turns what does not compute on integers into FP16, for an engine that takes types from the graph.
    """
    from hwc.graph.evaluate import Evaluator
    from hwc.graph.save import save_model
    from hwc.graph.text import digest_model
    from hwc.precision.place_qdq import place_qdq

    key = key_of("place", calibrated.key, sorted(high), rest, target_key(target))
    kept = store.get("place", key)
    if kept is None:
        with store.put("place", key) as folder:
            plan = calibrated.plan.replace(high=high)
            graph, feeds = place_qdq(plan), load_arrays(optimized.folder / FEEDS)
            steps: tuple[Step, ...] = ()
            if rest != "fp32":
                graph, steps = _narrow_rest(graph, plan, rest, target, feeds)
            save_model(graph, folder / MODEL)
            save_arrays(folder / FEEDS, feeds)
            save_arrays(folder / EXPECTED, Evaluator(folder / MODEL).run(feeds))
            write_optimized(dataclasses.replace(
                optimized, folder=folder, precision="int8", digest=digest_model(graph), extra_files=(),
                steps=(*optimized.steps, *steps),
            ))  # fmt: skip
        kept = store.require("place", key)
    return read_optimized(kept)


def _narrow_rest(
    graph: ir.Model, plan: QuantPlan, rest: str, target: Target, feeds: Mapping[str, np.ndarray]
) -> tuple[ir.Model, tuple[Step, ...]]:
    """The layers without integers in `rest`; those with integers keep FP32 around them, which Q/DQ absorb."""
    from hwc.calibrate.measure_ranges import measure_ranges
    from hwc.passes.base import PassContext
    from hwc.passes.pipeline import PRECISION, run_passes
    from hwc.precision.sensitivity import quantized_groups

    integer = set(quantized_groups(plan))
    names = [name for group in plan.groups if group.id in integer for name in group.nodes]
    kept = dict.fromkeys(names, "its fusion group computes on integers")
    ranges = measure_ranges(plan.model, [feeds])
    context = PassContext(target=target, precision=rest, amax=ranges, keep_fp32=kept)
    graph, steps, _ = run_passes(graph, context, passes=PRECISION)
    return graph, steps
