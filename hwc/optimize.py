"""The optimize step: passes for one target and precision, judged against the captured graph on real inputs.

1. The graph is brought to the newest opset that the target's parser is known to take.
2. The structural passes run in FP32.
3. For a narrower precision, the ranges of all tensors are measured on the example inputs, and the precision pass
   converts the graph with FP32 islands where a range would overflow.
4. Both graphs run in ONNX Runtime with its own optimizations off; outputs must agree within the precision's tolerance.

`auto` tries the narrowest precision the target computes fast first and settles on the first that passes step 4; what
it passed over, and why, is in the notes. An explicit precision that fails step 4 is an error, never a silent other one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwc.array_file import load_arrays, save_arrays
from hwc.artifacts import FusionGroup, Step, Target, TensorSpec
from hwc.capture import FEEDS, MODEL, Captured
from hwc.compare import Difference, compare_outputs, tolerance_of
from hwc.engines.base import Progress
from hwc.errors import EngineError, TargetError, UsageError
from hwc.serialize import from_json, to_json
from hwc.store import Store, installed_versions, key_of, own_source_digest

if TYPE_CHECKING:
    import onnx_ir as ir

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")
EXPECTED = "expected.npz"
RECORD = "optimize.json"
# Opset 17 is the oldest that has LayerNormalization; TensorRT 8.5 parses up to it. Unknown parsers get no newer one.
_SAFE_OPSET = 17
_STRONG_TYPING_FROM = 10  # TensorRT before 10 takes an FP32 graph and a builder flag


@dataclass(frozen=True)
class Normalization:
    """y = (x - mean) / std per channel, done by the pipeline before the model; folded, the input becomes raw pixels."""

    input: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    as_uint8: bool = False


@dataclass(frozen=True)
class OptimizeOptions:
    """What decides the optimized graph besides the model and the target."""

    precision: str
    backend: str
    without_passes: tuple[str, ...] = ()
    normalization: tuple[Normalization, ...] = ()
    by_flag: bool = False  # the precision is the builder's flag also where a graph could carry it, as for a DLA

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.precision == "int8":
            raise UsageError(
                "integers are chosen after the passes", expected="auto, fp32, fp16, bf16", got="int8",
                do="`hwc compile --precision int8 --calibration-data DATA`",
            )  # fmt: skip


@dataclass(frozen=True)
class Optimized:
    """What the passes left, in the `precision` settled on; `folder` holds model.onnx, feeds and expected outputs."""

    folder: Path
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    digest: str
    steps: tuple[Step, ...]
    groups: tuple[FusionGroup, ...]
    notes: tuple[str, ...]
    extra_files: tuple[str, ...] = ()  # weights beside model.onnx, if it is large


def optimize_model(
    captured: Captured, target: Target, options: OptimizeOptions, *, store: Store, progress: Progress
) -> tuple[Optimized, bool]:
    """The optimized graph, and whether it came from the cache.

    Raises:
        TargetError: the target cannot take the graph or the precision.
        EngineError: the optimized graph gives other outputs than the captured one.
    """
    key = key_of(
        "optimize", captured.digest, captured.feeds_digest, target_key(target), repr(options), own_source_digest(),
        installed_versions(),
    )  # fmt: skip
    kept = store.get("optimize", key)
    if kept is None:
        with store.put("optimize", key) as folder:
            _optimize(captured, target, options, folder, progress)
        return read_optimized(store.require("optimize", key)), False
    return read_optimized(kept), True


def check_precision(precision: str) -> None:
    """Raises UsageError unless this version compiles in that precision."""
    if precision not in PRECISIONS:
        raise UsageError(f"no precision is called '{precision}'", expected=", ".join(PRECISIONS), got=precision)


def target_key(target: Target) -> str:
    """Digest of all that a target states."""
    return key_of(to_json(target))


def precision_candidates(asked: str, target: Target, backend: str) -> tuple[str, ...]:
    """Precisions to try, narrowest first; one for an explicit request."""
    if asked != "auto":
        return (asked,)
    if target.family == "cpu":
        isa = str(target.facts["cpu.isa"].value or "") if "cpu.isa" in target.facts else ""
        return ("bf16", "fp32") if backend == "openvino" and ("bf16" in isa or "amx" in isa) else ("fp32",)
    slow = "precision.fp16_fast" in target.facts and target.facts["precision.fp16_fast"].value is False
    return ("fp32",) if slow else ("fp16", "fp32")


def is_strongly_typed(target: Target, backend: str) -> bool:
    """Whether the graph itself must carry the precision."""
    if backend != "tensorrt":
        return backend == "tensorrt_rtx"
    version = str(target.facts["software.tensorrt"].value or "") if "software.tensorrt" in target.facts else ""
    major = version.split(".")[0]
    return major.isdigit() and int(major) >= _STRONG_TYPING_FROM


def _optimize(captured: Captured, target: Target, options: OptimizeOptions, folder: Path, progress: Progress) -> None:
    from hwc.calibrate.measure_ranges import measure_ranges
    from hwc.graph.evaluate import Evaluator
    from hwc.graph.save import save_model
    from hwc.graph.shapes import read_specs
    from hwc.graph.text import digest_model
    from hwc.passes.base import InputNormalization, PassContext
    from hwc.passes.pipeline import GROUPING, PASSES, PRECISION, run_passes, select_passes

    model, notes = _load_for(captured, target)
    feeds = load_arrays(captured.folder / FEEDS)
    _check_normalization(options.normalization, feeds)
    raw = raw_feeds(feeds, options.normalization)
    expected = Evaluator(captured.folder / MODEL).run(_normalized(raw, options.normalization))
    fold = tuple(InputNormalization(n.input, n.mean, n.std, n.as_uint8) for n in options.normalization)

    def stage(name: str, fraction: float) -> None:
        progress(f"pass {name}", 0.2 + 0.2 * fraction)

    context = PassContext(target=target, normalization=fold)
    chosen = select_passes(options.without_passes)
    full, steps, _ = run_passes(model, context, passes=tuple(p for p in PASSES if p in chosen), progress=stage)
    amax: dict[str, float] = {}
    failures: list[str] = []
    empty: tuple[Step, ...] = ()
    for precision in precision_candidates(options.precision, target, options.backend):
        graph, more = full, empty
        if precision != "fp32":
            amax = amax or measure_ranges(full, [raw])
            narrow = PassContext(target=target, precision=precision, amax=amax, normalization=fold)
            graph, more, _ = run_passes(full, narrow, passes=tuple(p for p in PRECISION if p in chosen), progress=stage)
        inputs, outputs = read_specs(graph.graph.inputs), read_specs(graph.graph.outputs)
        inputs = _with_ranges(inputs, captured.inputs)
        save_model(graph, folder / MODEL)
        progress(f"judging {precision}", 0.45)
        judge = Evaluator(folder / MODEL)
        differences = compare_outputs(expected, judge.run(raw), tolerance_of(precision))
        bad = [d for d in differences if not d.passed]
        if not bad:
            break
        failures.append(f"{precision} was passed over: output '{bad[0].output}': {bad[0].reason}")
    else:
        raise EngineError(
            f"the optimized graph gives other outputs in {precision}",
            where=captured.name,
            got="; ".join(failures),
            expected=f"within {tolerance_of(precision)} of the captured graph",
            do="`hwc optimize --passes=-NAME` finds the pass at fault; please report it"
            if precision == "fp32"
            else "use --precision auto or fp32",
        )
    # A weakly typed TensorRT is told the precision by a flag and gets the FP32 graph that was judged in both forms.
    if precision != "fp32" and (options.by_flag or not is_strongly_typed(target, options.backend)):
        save_model(full, folder / MODEL)
        graph, more = full, empty
    grouped = PassContext(target=target, precision=precision)
    _, last, groups = run_passes(graph, grouped, passes=tuple(p for p in GROUPING if p in chosen), progress=stage)
    save_arrays(folder / FEEDS, raw)
    save_arrays(folder / EXPECTED, expected)
    notes = [*notes, *failures, _judgement(differences, precision, judge.judge)]
    write_optimized(Optimized(
        folder, precision, inputs, outputs, digest_model(graph), (*steps, *more, *last), groups, tuple(notes)
    ))  # fmt: skip


def write_optimized(optimized: Optimized) -> None:
    """Writes the record of the graph beside it; model, feeds and expected outputs must be there."""
    parts: dict[str, tuple[Any, ...]] = {
        name: getattr(optimized, name) for name in ("inputs", "outputs", "steps", "groups")
    }
    listed = {name: [json.loads(to_json(item)) for item in items] for name, items in parts.items()}
    plain = {"precision": optimized.precision, "digest": optimized.digest, "notes": list(optimized.notes)}
    (optimized.folder / RECORD).write_text(json.dumps({**plain, **listed}))


def narrow_plain(
    captured: Captured, precision: str, target: Target, backend: str, path: Path
) -> tuple[TensorSpec, ...]:
    """Writes the captured graph to `path`, converted to `precision` if the backend is strongly typed; its inputs."""
    import onnx_ir as ir

    from hwc.graph.save import save_model
    from hwc.passes.base import PassContext
    from hwc.passes.pipeline import PRECISION, run_passes

    model = ir.load(captured.folder / MODEL)
    if precision != "fp32" and is_strongly_typed(target, backend):
        model, _, _ = run_passes(model, PassContext(target=target, precision=precision), passes=PRECISION)
    save_model(model, path)
    return captured.inputs


def _load_for(captured: Captured, target: Target) -> tuple[ir.Model, list[str]]:
    """The captured graph at an opset that the target's parser takes."""
    import onnx_ir as ir

    from hwc.frontend.convert_opset import convert_opset
    from hwc.graph.model import opset
    from hwc.graph.shapes import infer_shapes

    model = ir.load(captured.folder / MODEL)
    fact = target.facts.get("software.onnx_opset_max")
    limit = int(target.number("software.onnx_opset_max")) if fact is not None and fact.is_known else _SAFE_OPSET
    wanted = min(limit, 20)  # 20 is where Gelu became an operator; nothing here needs a newer one
    if opset(model) == wanted:
        return model, []
    try:
        notes = convert_opset(model, wanted)
    except UsageError as error:
        raise TargetError(
            f"{target.name} cannot take this model: {error.what}",
            where=error.where,
            expected=f"opset {wanted}",
            got=error.got,
            source=fact.source if fact is not None else "",
            do=error.do,
        ) from None
    infer_shapes(model, f"after conversion to opset {wanted}")
    return model, list(notes)


def _with_ranges(found: tuple[TensorSpec, ...], asked: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """The specs of the graph with the ranges that the user gave: a graph knows only that a dimension is open."""
    shapes = {spec.name: spec.shape for spec in asked}
    return tuple(TensorSpec(spec.name, spec.dtype, shapes.get(spec.name, spec.shape)) for spec in found)


def _check_normalization(folded: tuple[Normalization, ...], feeds: Mapping[str, np.ndarray]) -> None:
    """Raises UsageError for an input that is not there, not of floats, or of another number of channels."""
    for n in folded:
        if n.input not in feeds:
            raise UsageError(f"--normalize: no input is called '{n.input}'", expected=", ".join(feeds), got=n.input)
        array = feeds[n.input]
        if array.dtype.kind != "f" or array.ndim < 2:
            raise UsageError(
                f"--normalize: input '{n.input}' is no batch of float channels",
                expected="float32 of shape NxCx...",
                got=f"{array.dtype} of rank {array.ndim}",
            )
        if len(n.mean) not in (1, array.shape[1]):
            raise UsageError(
                f"--normalize: input '{n.input}' has another number of channels",
                expected=f"{array.shape[1]} means and standard deviations, or one",
                got=str(len(n.mean)),
            )


def raw_feeds(feeds: Mapping[str, np.ndarray], folded: tuple[Normalization, ...]) -> dict[str, np.ndarray]:
    """What the folded model is fed: x * std + mean, rounded to pixels where they are uint8."""
    raw = dict(feeds)
    for n in folded:
        pixels = feeds[n.input] * _channels(n.std, feeds[n.input]) + _channels(n.mean, feeds[n.input])
        raw[n.input] = np.clip(np.rint(pixels), 0, 255).astype(np.uint8) if n.as_uint8 else pixels.astype(np.float32)
    return raw


def _normalized(raw: Mapping[str, np.ndarray], folded: tuple[Normalization, ...]) -> dict[str, np.ndarray]:
    feeds = dict(raw)
    for n in folded:
        x = raw[n.input].astype(np.float32)
        feeds[n.input] = ((x - _channels(n.mean, x)) / _channels(n.std, x)).astype(np.float32)
    return feeds


def _channels(values: tuple[float, ...], like: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32).reshape((1, -1) + (1,) * (like.ndim - 2))


def _judgement(differences: tuple[Difference, ...], precision: str, judge: str) -> str:
    worst = max(differences, key=lambda d: d.relative)
    return (
        f"optimized graph against captured graph in {precision}: {len(differences)} outputs agree, worst "
        f"'{worst.output}' {worst.relative:.2e} of its largest magnitude ({worst.sqnr_db:.0f} dB; judge: {judge})"
    )


def read_optimized(folder: Path) -> Optimized:
    """The optimized graph that a step left in that folder of the cache."""
    data: dict[str, Any] = json.loads((folder / RECORD).read_text())

    def items(kind: Any, name: str) -> tuple[Any, ...]:
        return tuple(from_json(kind, json.dumps(item)) for item in data[name])

    return Optimized(
        folder=folder,
        precision=data["precision"],
        inputs=items(TensorSpec, "inputs"),
        outputs=items(TensorSpec, "outputs"),
        digest=data["digest"],
        steps=items(Step, "steps"),
        groups=items(FusionGroup, "groups"),
        notes=tuple(data["notes"]),
        extra_files=tuple(p.name for p in folder.glob(f"{MODEL}.*")),
    )
