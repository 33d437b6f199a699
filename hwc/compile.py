"""HOST half: from a model to a bundle, top to bottom like a recipe.

    target    the named hardware; for `cpu` its unknown facts are filled in by a probe of this machine
    capture   PyTorch or ONNX becomes one canonical graph, checked against the original on real inputs
    optimize  the passes, for this target and precision; judged against the captured graph on the same inputs
    memory    with a budget: the cheapest rewrites that keep the activations within it; judged the same way
    build     the target's engine, read back; run and judged too where this machine can
    bundle    everything in one folder, with a manifest; for a board also hwc.pyz and what it is to build

Each step is kept in the step cache under a key of all that went in, and lives in a file of its own (capture, optimize,
build). The engine judged is the engine shipped: where the target's runtime cannot run here, the state is "built"
(compiled, never run) or "deferred" (the board builds it), and nothing calls it verified.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import hwc
from hwc import targets
from hwc.array_file import load_arrays
from hwc.artifacts import Bundle, Fact, Target
from hwc.build import build_engine, build_plain
from hwc.bundle import SCHEMA, hash_files, staged_folder, write_manifest
from hwc.capture import FEEDS, MODEL, Captured, capture_model
from hwc.choose_precision import Chosen, GuardOptions, PrecisionRequest, choose_precision, write_quantization
from hwc.engines.base import Progress, no_progress, open_session
from hwc.equip_bundle import equip_bundle
from hwc.errors import AccuracyError, UsageError
from hwc.explain import ledger_beside
from hwc.fit_memory import fit_memory
from hwc.frontend.input_shapes import InputShapes
from hwc.optimize import Normalization, Optimized, OptimizeOptions, check_precision, optimize_model, target_key
from hwc.place_on_dla import DlaPlacement, read_choice
from hwc.profile.measure import MeasureOptions, measure
from hwc.quantize import CalibrationOptions
from hwc.serialize import from_json, to_json
from hwc.sessions import staged_file
from hwc.store import Store, installed_versions, key_of, own_source_digest
from hwc.targets.probe import probe_cpu, with_probed

# Kept in the manifest: these decide what came out.
_VERSIONS = (
    "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "openvino", "tensorrt", "tensorrt-rtx-cu12", "torch",
)  # fmt: skip


@dataclass(frozen=True)
class CompileRequest:
    """What the user asked for; `hwc compile --help` says what each means."""

    model: str
    target: str
    out: Path
    precision: str = "auto"
    shapes: InputShapes = field(default_factory=InputShapes)
    engine: str = ""
    without_passes: tuple[str, ...] = ()
    normalization: tuple[Normalization, ...] = ()
    engine_options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 0
    compare_plain: bool = False
    command: tuple[str, ...] = ()
    calibration: CalibrationOptions | None = None
    guard: GuardOptions = field(default_factory=GuardOptions)
    dla_objective: str = ""
    memory_budget: int = 0  # bytes of activations; 0 sets no budget

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.memory_budget and self.calibration is not None:
            raise UsageError(
                "a memory budget and INT8 calibration cannot be asked for together", expected="one of the two",
                do="scales belong to whole tensors, which tiles cut up; compile in fp32 or fp16, or without a budget",
            )  # fmt: skip
        if self.precision == "int8" and self.calibration is None:
            raise UsageError(
                "INT8 needs samples to calibrate on", expected="--calibration-data DATA", got="none",
                do="give a folder of images with --calibration-recipe, an .npz, an .npy or file.py:generator; a model "
                "that already carries Q/DQ nodes is compiled as it is with --precision fp32",
            )  # fmt: skip
        if self.calibration is not None and self.precision not in ("int8", "auto"):
            raise UsageError(
                f"calibration data decide nothing in {self.precision}", expected="--precision int8 or auto",
                got=self.precision,
            )  # fmt: skip


def compile_model(
    request: CompileRequest, *, store: Store, progress: Progress = no_progress
) -> tuple[Bundle, tuple[str, ...]]:
    """Compiles, writes the bundle to `request.out`, and returns it with the names of the steps that were reused.

    Raises:
        UsageError: the model, a shape or a flag is wrong.
        TargetError: the target cannot do what was asked; names the operator where one is at fault.
        EngineError: a runtime failed, or an engine gives other outputs than the model.
    """
    progress = _only_forward(progress)
    target = resolve_target(request.target, store)
    backend = request.engine or target.engine
    reused: list[str] = []
    dla = _dla_placement(request, target, backend)

    progress("capturing the model", 0.0)
    captured, was_kept = capture_model(request.model, request.shapes, store=store)
    reused += ["capture"] * was_kept

    progress("optimizing the graph", 0.2)
    how = (target, backend, dict(request.engine_options), request.threads)
    chosen: Chosen | None = None
    if request.calibration is None:
        optimized, was_kept = _optimize(request, captured, request.precision, how[:2], dla, store, progress)
        reused += ["optimize"] * was_kept
        if request.memory_budget:
            optimized, was_kept = fit_memory(
                optimized, target, request.memory_budget, store=store, progress=progress,
                seconds_of=partial(_seconds_here, how=how, store=store) if target.family == "cpu" else None,
            )  # fmt: skip
            reused += ["memory budget"] * was_kept
        progress("building the engine", 0.5)
        built, was_kept = build_engine(optimized, *how, store=store, progress=progress)
        reused += ["build"] * was_kept
    else:
        chosen, kept = _choose(request, captured, target, backend, dla, store, progress)
        optimized, built = chosen.optimized, chosen.built
        reused += kept
    plain = None
    if request.compare_plain and built.engine.state != "deferred":
        progress("building the plain graph, to compare", 0.8)
        plain, was_kept = build_plain(captured, optimized.precision, *how, store=store, progress=progress)
        reused += ["plain build"] * was_kept

    progress("writing the bundle", 0.95)
    with staged_folder(request.out) as stage:
        for name in {MODEL, *optimized.extra_files, *built.engine.files}:
            source = built.folder if (built.folder / name).is_file() else optimized.folder
            shutil.copyfile(source / name, stage / name)
        tie = dla.tie if dla is not None else None
        implicit = write_quantization(chosen, target, stage, tie) if chosen is not None else {}
        engine, model = built.engine, MODEL
        if dla is not None:
            engine, model, implicit = dla.place(stage, optimized, engine, implicit)
        rest = chosen.rest if chosen is not None else optimized.precision
        notes = equip_bundle(stage, engine, optimized, rest=rest, implicit=implicit, model=model)
        bundle = Bundle(
            schema=SCHEMA,
            name=captured.name,
            target=target,
            precision_asked=request.precision,
            inputs=optimized.inputs,
            outputs=optimized.outputs,
            steps=optimized.steps,
            groups=optimized.groups,
            engine=engine,
            files=hash_files(stage),
            versions={"hwc": hwc.__version__, **{k: v for k, v in installed_versions() if k in _VERSIONS}},
            command=request.command,
            source=captured.source,
            plain=plain,
            notes=(*captured.notes, *optimized.notes, *(dla.notes if dla is not None else ()), *notes),
        )
        write_manifest(stage, bundle)
    ledger_beside(request.out).unlink(missing_ok=True)  # of an earlier refusal, which this bundle has settled
    progress("done", 1.0)
    return bundle, tuple(reused)


def _dla_placement(request: CompileRequest, target: Target, backend: str) -> DlaPlacement | None:
    """How the engine gets onto a DLA core; None where none was asked."""
    choice = read_choice(request.engine_options, request.dla_objective, target, backend, request.precision)
    precision = "fp16" if request.calibration is None else "int8"
    return None if choice is None else DlaPlacement(choice, target, precision)


def _optimize(
    request: CompileRequest, captured: Captured, precision: str, where: tuple[Target, str], dla: DlaPlacement | None,
    store: Store, progress: Progress,
) -> tuple[Optimized, bool]:  # fmt: skip
    """The optimized graph, for a DLA rewritten too, and whether it came from the cache."""
    target, backend = where
    options = OptimizeOptions(
        precision, backend, request.without_passes, request.normalization, by_flag=dla is not None
    )
    optimized, was_kept = optimize_model(captured, target, options, store=store, progress=progress)
    if dla is None:
        return optimized, was_kept
    rewritten, was_rewritten = dla.rewrite(optimized, store=store, progress=progress)
    return rewritten, was_kept and was_rewritten


def _choose(
    request: CompileRequest, captured: Captured, target: Target, backend: str, dla: DlaPlacement | None, store: Store,
    progress: Progress,
) -> tuple[Chosen, list[str]]:  # fmt: skip
    """What keeps the accuracy and is not slower; and the names of the steps that were reused.

    Raises:
        AccuracyError: INT8 was asked and nothing with INT8 passed; the ledger lies beside where the bundle would.
    """
    assert request.calibration is not None
    reused: list[str] = []
    graphs = []
    # On a DLA what has no INT8 scale computes in FP16, so that has to be judged too.
    for precision in ("fp32", "auto") if request.precision == "auto" or dla is not None else ("fp32",):
        optimized, was_kept = _optimize(request, captured, precision, (target, backend), dla, store, progress)
        reused += ["optimize"] * (was_kept and "optimize" not in reused)
        graphs.append(optimized)
    how = (target, backend, dict(request.engine_options), request.threads)
    wanted = PrecisionRequest(
        name=captured.name, target=target, backend=backend, full=graphs[0], floating=graphs[-1],
        asked=request.precision, calibration=request.calibration, guard=request.guard,
        build=lambda optimized: build_engine(optimized, *how, store=store, progress=progress)[0],
        engine_key=repr((target_key(target), backend, sorted(request.engine_options.items()), request.threads)),
    )  # fmt: skip
    try:
        chosen, was_kept = choose_precision(wanted, store=store, progress=progress)
    except AccuracyError as error:
        if error.ledger is not None:
            refused = ledger_beside(request.out)
            with staged_file(refused) as partial:
                partial.parent.mkdir(parents=True, exist_ok=True)
                partial.write_text(to_json(error.ledger), encoding="utf-8")
        raise
    return chosen, reused + ["precision"] * was_kept


def _seconds_here(optimized: Optimized, *, how: tuple[Any, ...], store: Store) -> float:
    """Median seconds of one run of that graph's engine on this machine, for weighing graphs against each other."""
    built, _ = build_engine(optimized, *how, store=store, progress=no_progress)
    feeds = load_arrays(optimized.folder / FEEDS)
    options = MeasureOptions(warmup_s=0.2, max_warmup_s=2.0, duration_s=1.0, min_runs=3)
    with open_session(built.engine, built.folder) as session:
        profile = measure(session, feeds, options, name=built.engine.backend)
    return profile.percentile_ms(50) / 1e3


def _only_forward(progress: Progress) -> Progress:
    """The same, never smaller than before: passes run in several rounds, and a bar that goes back says nothing."""
    furthest = 0.0

    def forward(what: str, fraction: float) -> None:
        nonlocal furthest
        furthest = max(furthest, fraction)
        progress(what, furthest)

    return forward


def resolve_target(name: str, store: Store) -> Target:
    """The target of that name; for the CPU, with this machine's facts filled in.

    Measured facts are kept in the cache per processor, so that two compiles on one machine decide alike.
    """
    target = targets.load(name)
    if target.family != "cpu":
        return target
    read = {k: f.value for k, f in probe_cpu(is_measured=False).items() if k != "cpu.clock_mhz"}
    key = key_of("probe", read, own_source_digest())
    entry = store.get("probe", key)
    if entry is None:
        with store.put("probe", key) as folder:
            facts = {k: dataclasses.asdict(f) for k, f in probe_cpu(is_measured=True).items()}
            (folder / "facts.json").write_text(json.dumps(facts))
        entry = store.require("probe", key)
    saved = json.loads((entry / "facts.json").read_text())
    return with_probed(target, {k: from_json(Fact, json.dumps(v)) for k, v in saved.items()})
