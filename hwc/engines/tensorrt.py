"""TensorRT and TensorRT for RTX: builds in a child process and reads back what was built.

The Python module is that of the backend: `tensorrt_rtx` builds ahead of time for the target's compute capability and
needs no GPU; `tensorrt` builds for the GPU it runs on. Where the module is missing on a board, `trtexec` builds in its
place. The ONNX file and engine.request.json stay in the bundle, so that `Engine.command`, run in the bundle folder,
builds the same plan again.

The options are those of `tensorrt_options`, and `allow_int8_convolution` (TensorRT for RTX builds INT8 convolutions
although its support matrix has none; whether they run is not known here). With `builds=K` the best of K is kept.

A steps' order: check what was asked, place the files, build (once or K times), read back, rank, keep.
This file is part of the device half: Python 3.8.
"""

from __future__ import annotations

import gzip
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from hwc.artifacts import Engine
from hwc.engines import cuda_memory, trtexec
from hwc.engines.base import BuildRequest, Progress, Session
from hwc.engines.files import require_files, staging
from hwc.engines.inspect import count_precisions, require_precision
from hwc.engines.tensorrt_child import LAYERS, LOG, PLAN
from hwc.engines.tensorrt_dla import require_dla
from hwc.engines.tensorrt_options import Options, read_options
from hwc.engines.tensorrt_place import REQUEST, place_request
from hwc.engines.tensorrt_rank import choose_best
from hwc.engines.tensorrt_read_back import ReadBack, read_back
from hwc.engines.tensorrt_run import run_child, take_away
from hwc.engines.tensorrt_session import TensorrtSession, measure_latency_ms
from hwc.engines.tensorrt_timing import TimingFiles, keep_timing, machine_folder, timing_files
from hwc.errors import EngineError, TargetError, UsageError

NAME = "tensorrt"
LOG_GZ = "engine.log.gz"
_FAMILIES = ("geforce", "datacenter", "jetson")
_HISTORY = "builds.jsonl"


def build(request: BuildRequest) -> Engine:
    """Builds a plan for `request.target` and writes it, its log and its request into `request.out_dir`.

    Raises:
        UsageError: the model or an option is wrong.
        TargetError: this target or this TensorRT cannot do what was asked, or did something else.
        EngineError: the module is missing, or its builder failed or crashed.
    """
    return build_with(NAME, request)


def build_with(module: str, request: BuildRequest) -> Engine:
    """`build` with that Python module, "tensorrt" or "tensorrt_rtx", whose API is one."""
    require_precision(request.precision)
    options = read_options(request.options)
    if request.target.family not in _FAMILIES:
        raise TargetError(
            f"{request.target.name} has no NVIDIA GPU",
            expected="a target of family " + ", ".join(_FAMILIES),
            got=request.target.family,
            do=f"use the {request.target.engine} engine",
        )
    capability = _compute_capability(request) if module == "tensorrt_rtx" else ""
    if "dla_core" in request.options:
        require_dla(request.target, request.key.runtime)
    tool = trtexec.choose_driver(module, options.driver)
    started = time.monotonic()
    placed = place_request(module, request, options, capability)
    count = options.number("builds", 1)
    timing = timing_files(request.cache, request.options.get("timing_cache", ""), request.key, count)
    with staging(request.out_dir) as folder:
        builds: List[ReadBack] = []
        for index in range(count):
            place = folder if count == 1 else folder / f"build-{index}"
            place.mkdir(exist_ok=True)
            progress = _part(request.progress, index, count)
            built, command = _build_once(module, request, options, tool, place, progress, timing)
            builds.append(built)
        best, notes = (0, ()) if count == 1 else choose_best(builds)
        measured = take_away(builds[best].folder)
        if timing.write is not None and measured.is_file():
            keep_timing(measured, timing.write)
        _keep_only(folder, builds[best].folder)
        names = [PLAN, LOG_GZ, REQUEST, *placed] + [LAYERS] * (folder / LAYERS).is_file()
    # The builder's own phases may end before their last step, and old versions report none.
    request.progress("done", 1.0)
    kept = builds[best]
    return Engine(
        backend=module,
        state="built",
        key=request.key,
        files=tuple(dict.fromkeys(names)),
        inputs=request.inputs,
        outputs=request.outputs,
        kernels=kept.kernels,
        size_bytes=kept.size_bytes,
        activation_bytes=kept.activation_bytes,
        weight_bytes=kept.weight_bytes,
        build_seconds=time.monotonic() - started,
        command=command,
        precision_built=count_precisions(kept.kernels),
        notes=(*kept.notes, timing.note, *notes),
    )


def open_session(engine: Engine, folder: Path, activation_memory: str = "engine") -> Session:
    """Loads the plan on this machine's GPU.

    Args:
        activation_memory: "engine" lets TensorRT allocate it, "caller" allocates it here, where it can be counted
            and shared.

    Raises:
        TargetError: this machine has no CUDA GPU, or its TensorRT has no tensors by name (before 8.5).
        EngineError: a file is missing, or TensorRT does not load the plan.
    """
    if activation_memory not in ("engine", "caller"):
        raise UsageError("no such owner of activations", expected="engine or caller", got=activation_memory)
    require_files(folder, engine.files)
    if not has_cuda_gpu():
        raise TargetError(
            f"this {engine.backend} engine was built here and cannot run here",
            where=engine.key.target,
            expected="a CUDA GPU of the target's kind",
            got="no CUDA driver or no device",
            do="copy the bundle to the target and run it there",
        )
    if not trtexec.has_module(engine.backend):
        raise EngineError(
            f"the Python module '{engine.backend}' is not installed, so no session can be opened",
            do=f"run {PLAN} with the runtime's own tool (trtexec --loadEngine={PLAN})",
        )
    return TensorrtSession(engine, folder, owns_activations=activation_memory == "caller")


def has_cuda_gpu() -> bool:
    """Whether the CUDA driver is here and finds a device."""
    return cuda_memory.has_cuda_gpu()


def _build_once(
    module: str, request: BuildRequest, options: Options, tool: Optional[Path], folder: Path, progress: Progress,
    timing: TimingFiles,
) -> Tuple[ReadBack, Tuple[str, ...]]:  # fmt: skip
    """One build, read back; and the command that repeats it in the bundle folder."""
    is_contest = options.number("builds", 1) > 1
    if tool is not None:
        result, command = trtexec.run_trtexec(
            tool, request, options, folder, progress=progress, timing=timing, is_timed=is_contest
        )
        built = read_back(folder, request, result)
    else:
        command = ("python3", "-m", "hwc.engines.tensorrt_child", REQUEST)
        history = None if request.cache is None else machine_folder(request.cache, request.key) / _HISTORY
        result = run_child(request.out_dir / REQUEST, folder, progress, command, timing, history)
        built = read_back(folder, request, result)
        if is_contest and has_cuda_gpu():
            built = replace(built, latency_ms=_measure(module, request, folder))
    # mtime 0: equal builds give equal files.
    (folder / LOG_GZ).write_bytes(gzip.compress((folder / LOG).read_bytes(), mtime=0))
    return built, command


def _measure(module: str, request: BuildRequest, folder: Path) -> Optional[float]:
    """Median GPU time of the plan in `folder`; None where this GPU cannot load it (built for another one)."""
    files: Dict[str, Any] = {"files": (PLAN,), "kernels": (), "command": (), "size_bytes": 0, "build_seconds": 0.0}
    engine = Engine(
        backend=module, state="built", key=request.key, inputs=request.inputs, outputs=request.outputs,
        activation_bytes=None, weight_bytes=None, **files,
    )  # fmt: skip
    try:
        session = TensorrtSession(engine, folder, request_folder=request.out_dir)
        with session:
            return measure_latency_ms(session)
    except EngineError:
        return None


def _keep_only(folder: Path, kept: Path) -> None:
    """Leaves only the files of the kept build in the staging folder."""
    if kept == folder:
        return
    for path in sorted(kept.iterdir()):
        path.replace(folder / path.name)
    for place in [path for path in folder.iterdir() if path.is_dir()]:
        shutil.rmtree(str(place))


def _part(progress: Progress, index: int, count: int) -> Progress:
    """Progress of one of several builds."""
    if count == 1:
        return progress
    return lambda what, fraction: progress(f"build {index + 1} of {count}: {what}", (index + fraction) / count)


def _compute_capability(request: BuildRequest) -> str:
    """The name of the target's compute capability in `tensorrt_rtx.ComputeCapability`, "SM89".

    Raises:
        TargetError: TensorRT for RTX does not serve this target, or the asked DLA.
    """
    target = request.target
    if target.family == "jetson" or "dla_core" in request.options:
        raise TargetError(
            f"TensorRT for RTX has no {'DLA' if 'dla_core' in request.options else 'Jetson support'}",
            where=target.name,
            source="https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix-1/1.5.html",
            do="use the tensorrt engine, on the board",
        )
    supported = target.facts.get("engine.tensorrt_rtx_supported")
    if supported is not None and supported.value is False:
        raise TargetError(
            f"TensorRT for RTX does not support {target.name}",
            where="fact engine.tensorrt_rtx_supported",
            source=supported.source,
            do="use the tensorrt engine, on a machine with that GPU",
        )
    named = target.facts.get("engine.tensorrt_rtx_compute_capability")
    if named is not None and named.value is not None:
        return str(named.value)
    fact = target.fact("gpu.compute_capability")
    if fact.value is None:
        raise TargetError(
            f"the compute capability of {target.name} is unknown", source=fact.source, do="add it to the target's file"
        )
    return "SM" + str(fact.value).replace(".", "")
