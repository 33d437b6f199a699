"""The build step: the target's engine from the optimized graph, read back, and run here where this machine can.

An engine that ran here is compared with the captured graph on the example inputs; only then its state is "verified". A
TensorRT engine of another machine stays "built" (TensorRT for RTX, compiled ahead of time) or "deferred" (TensorRT:
an engine belongs to the version and the GPU that build it, so the bundle carries the graph and the board builds).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwc.array_file import load_arrays
from hwc.artifacts import BuildKey, Engine, Target
from hwc.capture import FEEDS, MODEL, Captured
from hwc.compare import compare_outputs, tolerance_of
from hwc.engines import base as engines
from hwc.engines.base import Progress
from hwc.engines.tensorrt_options import FILES, key_parts, read_options
from hwc.errors import EngineError, TargetError
from hwc.limit_workspace import limit_workspace
from hwc.optimize import EXPECTED, Optimized, narrow_plain, target_key
from hwc.serialize import from_json, to_json
from hwc.store import Store, installed_versions, key_of, own_source_digest
from hwc.write_zipapp import ZIPAPP

_RECORD = "engine.json"
_DISTRIBUTIONS = {"openvino": "openvino", "onnxruntime": "onnxruntime", "reference": "onnx",
                  "tensorrt_rtx": "tensorrt-rtx-cu12", "tensorrt": "tensorrt"}  # fmt: skip


@dataclass(frozen=True)
class Built:
    """An engine and the folder that holds its files."""

    folder: Path
    engine: Engine


def build_engine(
    optimized: Optimized, target: Target, backend: str, options: Mapping[str, str], threads: int, *,
    store: Store, progress: Progress,
) -> tuple[Built, bool]:  # fmt: skip
    """The engine, and whether it came from the cache.

    Raises:
        UsageError: no such engine.
        TargetError: the target cannot run this graph; names the operator.
        EngineError: the build failed, or the engine gives other outputs than the captured graph.
    """
    key = _key(optimized.digest, optimized.precision, target, backend, options, threads)
    if is_deferred(backend):
        _refuse_files(options, target)
        return Built(optimized.folder, defer(optimized, key, target)), False
    step = key_of(to_json(key), target_key(target), own_source_digest(), installed_versions())
    kept = store.get("build", step)
    if kept is None:
        with store.put("build", step) as folder:
            for name in (MODEL, *optimized.extra_files):
                shutil.copyfile(optimized.folder / name, folder / name)
            request = _request(optimized, target, folder, key, options, threads, progress)
            engine = engines.build(backend, dataclasses.replace(request, cache=store.root / "timing"))
            engine = verify(engine, folder, optimized)
            (folder / _RECORD).write_text(to_json(engine))
        kept, was_kept = store.require("build", step), False
    else:
        was_kept = True
    return Built(kept, from_json(Engine, (kept / _RECORD).read_text())), was_kept


def build_plain(
    captured: Captured, precision: str, target: Target, backend: str, options: Mapping[str, str], threads: int, *,
    store: Store, progress: Progress,
) -> tuple[Engine, bool]:  # fmt: skip
    """The engine of the captured graph with no pass but the conversion to `precision`, for its figures only."""
    key = _key(f"plain {captured.digest}", precision, target, backend, options, threads)
    step = key_of(to_json(key), target_key(target), own_source_digest(), installed_versions())
    kept = store.get("plain", step)
    if kept is not None:
        return from_json(Engine, (kept / _RECORD).read_text()), True
    with store.put("plain", step) as folder:
        work = folder / "work"
        work.mkdir()
        inputs = narrow_plain(captured, precision, target, backend, work / MODEL)
        request = engines.BuildRequest(
            model=work / MODEL, target=target, inputs=inputs, outputs=captured.outputs, precision=precision, key=key,
            out_dir=work, options=options, threads=threads,
            progress=lambda what, fraction: progress(what, 0.8 + 0.15 * fraction),
        )  # fmt: skip
        engine = engines.build(backend, request)
        (folder / _RECORD).write_text(to_json(engine))
        shutil.rmtree(work)
    return engine, False


def defer(optimized: Optimized, key: BuildKey, target: Target) -> Engine:
    """The record of an engine that the board builds from the bundle, with the options that its builder is to get."""
    options, notes = dict(key.options), []
    limit = limit_workspace(optimized.folder / MODEL, optimized.inputs, target)
    asked = dict(read_options({name: value for name, value in options.items() if name != "threads"}).pools)
    if limit is not None and "workspace" not in asked:
        options["workspace_bytes"] = str(limit.size_bytes)
        notes.append(f"workspace_bytes: {limit.why}")
    # The version that is installed here, if any, will not build it.
    runtime = f"tensorrt {target.facts['software.tensorrt'].value if target.knows('software.tensorrt') else 'unknown'}"
    return Engine(
        backend="tensorrt",
        state="deferred",
        key=dataclasses.replace(key, runtime=runtime, options=tuple(sorted(options.items()))),
        files=(),
        inputs=optimized.inputs,
        outputs=optimized.outputs,
        kernels=(),
        size_bytes=0,
        activation_bytes=None,
        weight_bytes=None,
        build_seconds=0.0,
        command=("python3", ZIPAPP, "build", "."),
        notes=("TensorRT builds an engine only for the GPU it runs on: the target builds it from model.onnx", *notes),
    )


def verify(engine: Engine, folder: Path, optimized: Optimized) -> Engine:
    """Runs the engine on the example inputs where it can run here.

    Raises:
        EngineError: its outputs leave the tolerance of its precision.
    """
    if engine.backend in ("tensorrt", "tensorrt_rtx"):
        try:
            session = engines.open_session(engine, folder)
        except (TargetError, EngineError) as error:
            return dataclasses.replace(engine, notes=(*engine.notes, f"never run here: {error.what}"))
    else:
        session = engines.open_session(engine, folder)
    with session:
        got = session.run(load_arrays(optimized.folder / FEEDS))
    expected = load_arrays(optimized.folder / EXPECTED)
    differences = compare_outputs(expected, got, tolerance_of(optimized.precision))
    bad = [d for d in differences if not d.passed]
    if bad:
        raise EngineError(
            f"the {engine.backend} engine gives other outputs than the model",
            where=f"output '{bad[0].output}'",
            expected=f"within {tolerance_of(optimized.precision)}",
            got=bad[0].reason,
            do="try --precision fp32, or another --engine; please report it if fp32 fails",
        )
    worst = max(d.relative for d in differences)
    note = f"ran here; worst output {worst:.2e} of its largest magnitude from the captured graph"
    return dataclasses.replace(engine, state="verified", notes=(*engine.notes, note))


def _request(
    optimized: Optimized, target: Target, folder: Path, key: BuildKey, options: Mapping[str, str], threads: int,
    progress: Progress,
) -> engines.BuildRequest:  # fmt: skip
    return engines.BuildRequest(
        model=folder / MODEL,
        target=target,
        inputs=optimized.inputs,
        outputs=optimized.outputs,
        precision="fp32" if optimized.precision == "int8" else optimized.precision,  # Q/DQ in the graph say the rest
        key=key,
        out_dir=folder,
        options=options,
        threads=threads,
        progress=lambda what, fraction: progress(what, 0.5 + 0.3 * fraction),
    )


def _key(
    digest: str, precision: str, target: Target, backend: str, options: Mapping[str, str], threads: int
) -> BuildKey:
    name = _DISTRIBUTIONS.get(backend, backend)
    version = dict(installed_versions()).get(name, "not installed")
    # Only TensorRT's options name files, and only from the command line, where they are absolute.
    kept, plugins = key_parts(options, Path()) if backend.startswith("tensorrt") else (tuple(options.items()), ())
    chosen = tuple(sorted({**dict(kept), **({"threads": str(threads)} if threads else {})}.items()))
    return BuildKey(digest, target.name, f"{backend} {version}", precision, chosen, plugins=plugins)


def _refuse_files(options: Mapping[str, str], target: Target) -> None:
    """A file on this machine is nothing that the board's own build could read."""
    named = [name for name in FILES if name in options]
    if named:
        raise TargetError(
            f"the engine of {target.name} is built on the target, which cannot read files of this machine",
            got=", ".join(f"{name}={options[name]}" for name in named),
            do=f"name them on the board: python3 {ZIPAPP} build BUNDLE --engine-option {named[0]}=FILE",
        )


def is_deferred(backend: str) -> bool:
    """Whether the engine is built on the board: this machine has no TensorRT, or no GPU for it."""
    from hwc.engines.tensorrt import has_cuda_gpu

    return backend == "tensorrt" and not (backend in dict(installed_versions()) and has_cuda_gpu())
