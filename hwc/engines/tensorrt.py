"""TensorRT and TensorRT for RTX: builds in a child process and reads back what was built.

The Python module is that of the backend: `tensorrt_rtx` builds ahead of time for the target's compute capability and
needs no GPU; `tensorrt` builds for the GPU it runs on. The ONNX file and
engine.request.json stay in the bundle, so that `Engine.command`, run in the bundle folder, builds the same plan again.

Options, all optional: typing = strong|weak, workspace_bytes, builder_optimization_level = 0..5,
allow_tf32 = yes, dla_core = 0|1, gpu_fallback = yes, allow_int8_convolution = yes (TensorRT for RTX builds INT8
convolutions although its support matrix has none; whether they run is not known here).

Limits: sessions are not opened here yet; an engine is "built" and never more. This file is part of the device half:
Python 3.8.
"""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import hwc
from hwc import errors
from hwc.artifacts import Engine, Kernel, TensorSpec
from hwc.engines.base import BuildRequest, Progress, Session
from hwc.engines.files import copy_model, external_files, require_files, staging
from hwc.engines.inspect import check_precision, count_precisions, require_precision
from hwc.engines.tensorrt_child import LAYERS, LOG, PLAN, PROGRESS, RESULT, last_errors
from hwc.engines.tensorrt_log import (
    count_fills,
    kernels_from_layers,
    layers_from_inspector,
    layers_from_log,
    memory_from_log,
)
from hwc.errors import EngineError, TargetError, UsageError

NAME = "tensorrt"
REQUEST, LOG_GZ = "engine.request.json", "engine.log.gz"
_FAMILIES = ("geforce", "datacenter", "jetson")
_YES_NO = ("allow_tf32", "gpu_fallback", "allow_int8_convolution")
_NUMBERS = ("workspace_bytes", "builder_optimization_level", "dla_core")


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
    _check_options(request)
    if request.target.family not in _FAMILIES:
        raise TargetError(
            f"{request.target.name} has no NVIDIA GPU",
            expected="a target of family " + ", ".join(_FAMILIES),
            got=request.target.family,
            do=f"use the {request.target.engine} engine",
        )
    capability = _compute_capability(request) if module == "tensorrt_rtx" else ""
    started = time.monotonic()
    model = _place_model(request)
    content = {
        "module": module,
        "model": model[0],
        "inputs": [_spec(spec) for spec in request.inputs],
        "outputs": [_spec(spec) for spec in request.outputs],
        "precision": request.precision,
        "compute_capability": capability,
        "options": dict(request.options),
    }
    with staging(request.out_dir) as folder:
        (folder / REQUEST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    command = ("python3", "-m", "hwc.engines.tensorrt_child", REQUEST)
    with staging(request.out_dir) as folder:
        result = _run_child(request.out_dir / REQUEST, folder, request.progress, command)
        kernels, notes, memory = _read_back(folder, request, result)
        files = [PLAN, LOG_GZ, REQUEST, *model] + [LAYERS] * (folder / LAYERS).is_file()
        # mtime 0: equal builds give equal files.
        (folder / LOG_GZ).write_bytes(gzip.compress((folder / LOG).read_bytes(), mtime=0))
        (folder / LOG).unlink()
        (folder / RESULT).unlink()
        (folder / "stderr.txt").unlink()
        size_bytes = (folder / PLAN).stat().st_size
    # The builder's own phases may end before their last step, and old versions report none.
    request.progress("done", 1.0)
    return Engine(
        backend=module,
        state="built",
        key=request.key,
        files=tuple(files),
        inputs=request.inputs,
        outputs=request.outputs,
        kernels=kernels,
        size_bytes=size_bytes,
        activation_bytes=memory["activation_bytes"],
        weight_bytes=memory["weight_bytes"],
        build_seconds=time.monotonic() - started,
        command=command,
        precision_built=count_precisions(kernels),
        notes=notes,
    )


def open_session(engine: Engine, folder: Path) -> Session:
    """Refuses: no TensorRT engine is run by this version.

    Raises:
        TargetError: this machine has no CUDA GPU.
        EngineError: it has one, but the session is not written yet; or a file is missing.
    """
    require_files(folder, engine.files)
    if not has_cuda_gpu():
        raise TargetError(
            f"this {engine.backend} engine was built here and cannot run here",
            where=engine.key.target,
            expected="a CUDA GPU of the target's kind",
            got="no CUDA driver or no device",
            do="copy the bundle to the target and run it there",
        )
    raise EngineError(
        f"this version of hwc does not run {engine.backend} engines yet",
        do=f"run {PLAN} with the runtime's own tool (trtexec --loadEngine, or tensorrt_rtx --loadEngine)",
    )


def has_cuda_gpu() -> bool:
    """Whether the CUDA driver is here and finds a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _check_options(request: BuildRequest) -> None:
    options: Mapping[str, str] = request.options
    unknown = sorted(set(options) - {"typing", *_YES_NO, *_NUMBERS})
    wrong = [
        f"{name}={value}"
        for name, value in sorted(options.items())
        if (name in _YES_NO and value not in ("yes", "no"))
        or (name in _NUMBERS and not value.isdigit())
        or (name == "typing" and value not in ("strong", "weak"))
    ]
    if unknown or wrong:
        raise UsageError(
            "the tensorrt engine has no such option",
            expected=f"typing=strong|weak, {'|'.join(_YES_NO)}=yes|no, {'|'.join(_NUMBERS)}=<number>",
            got=", ".join(unknown + wrong),
        )


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


def _place_model(request: BuildRequest) -> Tuple[str, ...]:
    """Names of the ONNX file and its external data relative to `out_dir`; copied there unless they lie there."""
    try:
        relative = request.model.resolve().relative_to(request.out_dir.resolve())
    except ValueError:
        with staging(request.out_dir) as folder:
            return copy_model(request.model, folder)
    return (relative.as_posix(), *((relative.parent / name).as_posix() for name in external_files(request.model)))


def _spec(spec: TensorSpec) -> Dict[str, Any]:
    open_shape = [dim if isinstance(dim, int) else -1 for dim in spec.shape]
    ranges = {which: list(spec.at(which)) for which in ("min", "opt", "max")}
    return {"name": spec.name, "dtype": spec.dtype, "shape": open_shape, **ranges}


def _run_child(path: Path, out: Path, progress: Progress, command: Tuple[str, ...]) -> Dict[str, Any]:
    """Runs the build child; its result.

    Raises:
        HwcError: what the child reported.
        EngineError: it ended without a report: a crash, or the machine ran out of memory.
    """
    # The child must find this very hwc, also when it lies in a zipapp or a folder that is not installed.
    root = str(Path(hwc.__file__ or "").resolve().parent.parent)
    paths = [root] + [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    arguments = [sys.executable, *command[1:-1], str(path), "--out", str(out), "--with-parent"]
    with (out / "stderr.txt").open("wb") as stderr:
        child = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment
        )
        try:
            assert child.stdout is not None
            for line in child.stdout:
                words = line.decode(errors="replace").split(None, 2)
                if len(words) == 3 and words[0] == PROGRESS:
                    progress(words[2].strip(), float(words[1]))
            code = child.wait()
        finally:
            # Only our own child, and only if we leave before it does (an interrupt).
            if child.poll() is None:
                child.kill()
                child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
    result: Dict[str, Any] = {}
    if (out / RESULT).is_file():
        result = json.loads((out / RESULT).read_text())
    if "error" in result:
        raise _reported(result["error"])
    if code != 0 or not result or not (out / PLAN).is_file():
        said = (out / "stderr.txt").read_text(errors="replace").strip().splitlines()[-3:]
        raise EngineError(
            "the TensorRT builder crashed" if code < 0 else "the TensorRT builder ended without a result",
            where=f"signal {-code}" if code < 0 else f"exit code {code}",
            got=" | ".join([last_errors(out / LOG), *said]),
            do=f"to reproduce it, run in {path.parent}: {' '.join(command)}",
        )
    return result


def _reported(error: Dict[str, Any]) -> errors.HwcError:
    kind = getattr(errors, str(error["error"]))
    fields = {key: str(value) for key, value in error.items() if key in ("where", "expected", "got", "do", "source")}
    raised = kind(str(error["what"]), **fields)
    assert isinstance(raised, errors.HwcError)
    return raised


def _read_back(
    folder: Path, request: BuildRequest, result: Dict[str, Any]
) -> Tuple[Tuple[Kernel, ...], Tuple[str, ...], Dict[str, Optional[int]]]:
    """Kernels, notes and memory of the plan, from the inspector where a GPU could load it, else from the log.

    Raises:
        TargetError: the engine's arithmetic is not what was asked.
        EngineError: neither can be read.
    """
    log = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    inspected = (folder / LAYERS).is_file()
    layers = layers_from_inspector((folder / LAYERS).read_text()) if inspected else layers_from_log(log)
    kernels = kernels_from_layers(layers)
    fast = [layer for layer in layers if "tf32" in layer.tactic.lower()]
    if fast and request.options.get("allow_tf32") != "yes":
        raise TargetError(
            "TensorRT chose TF32 although it was switched off",
            where=f"layer '{fast[0].name}'",
            expected="fp32 arithmetic",
            got=fast[0].tactic,
            do="ask for allow_tf32=yes if 10 bits of mantissa are enough",
        )
    memory = memory_from_log(log)
    if memory["activation_bytes"] is None and result["device_bytes"] is not None:
        memory["activation_bytes"] = int(result["device_bytes"])
    notes: List[str] = [
        f"{result['module']} {result['version']}, {'strongly' if result['is_strongly_typed'] else 'weakly'} typed, "
        f"TF32 {'on' if result['tf32'] else 'off'}",
        f"kernels read from the {'engine inspector' if inspected else 'build log'}; "
        f"{len(layers) - len(kernels)} layers are bookkeeping (signal, wait, shape_call, NoOp)",
        f"{count_fills(layers)} of {len(kernels)} kernels only fill a constant",
    ]
    return kernels, (*notes, *check_precision(request.precision, kernels, result["module"])), memory
