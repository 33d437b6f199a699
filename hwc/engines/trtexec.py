"""Builds with `trtexec` where TensorRT's Python module is missing, which is so on many boards.

JetPack installs trtexec in /usr/src/tensorrt/bin; HWC_TRTEXEC or PATH may name another. Its flags differ by version, so
its own `--help` is asked which ones it has; what was asked and has no flag there is refused. Its answers are its exit
code, the layer information (the engine inspector's JSON) and the verbose log, where "&&&& FAILED" is the last word.

Types: up to 8 by --fp16 and --int8; with --stronglyTyped (10 and newer) by the graph, if it holds FP16 tensors; from 11
by the graph alone. One optimization profile. INT8 scales beside the graph only as a calibration cache.

Limits: trtexec reports no progress, so the clock and an estimate do; no session can be opened without the module.
Sources: samples/common/sampleOptions.cpp and samples/trtexec of TensorRT's tags 8.2.1 to 11.1.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import importlib.machinery
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Tuple

from hwc.engines.base import BuildRequest, Progress
from hwc.engines.files import scan_model
from hwc.engines.tensorrt_child import LAYERS, LOG, PLAN, last_errors
from hwc.engines.tensorrt_int8 import check_header
from hwc.engines.tensorrt_options import FLAGS, POOLS, Options
from hwc.engines.tensorrt_place import read_request
from hwc.engines.tensorrt_run import STDERR, run_to_end
from hwc.engines.tensorrt_timing import KEPT, TimingFiles
from hwc.errors import EngineError, TargetError

NAME = "trtexec"
_JETPACK = Path("/usr/src/tensorrt/bin/trtexec")
_FLAG = re.compile(r"--([A-Za-z][A-Za-z0-9]*)")
_BANNER = re.compile(r"\[TensorRT v(\d+)\]")
_MEDIAN = re.compile(r"GPU Compute Time: .*?median = ([0-9.]+) ms")
_TYPES = {"fp16": 10, "bf16": 16}  # onnx.TensorProto.DataType
_FLAG_NAMES = {  # option -> trtexec's flag
    "gpu_fallback": "allowGPUFallback",
    "version_compatible": "versionCompatible",
    "exclude_lean_runtime": "excludeLeanRuntime",
    "refit": "refit",
    "strip_plan": "stripWeights",
    "sparsity": "sparsity",
}
_NUMBER_NAMES = {
    "builder_optimization_level": "builderOptimizationLevel",
    "max_aux_streams": "maxAuxStreams",
    "avg_timing_iterations": "avgTiming",
    "dla_core": "useDLACore",
}
_LEVELS = {"none": "none", "ampere_plus": "ampere+", "same_compute_capability": "sameComputeCapability"}
_USUAL_SECONDS = 120.0  # only for the bar: a build that takes longer stays below its end


def find_trtexec() -> Optional[Path]:
    """The trtexec of this machine: $HWC_TRTEXEC, one on PATH, or JetPack's; None where there is none."""
    named = os.environ.get("HWC_TRTEXEC") or shutil.which(NAME)
    for path in [Path(named)] if named else [_JETPACK]:
        if os.access(str(path), os.X_OK) and path.is_file():
            return path
    return None


def has_module(name: str) -> bool:
    """Whether a build child would find that Python module."""
    paths = sys.path + [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return importlib.machinery.PathFinder.find_spec(name, paths) is not None


def choose_driver(module: str, asked: str) -> Optional[Path]:
    """The trtexec that builds, or None where the Python module does.

    Raises:
        EngineError: neither is here, or the one that was asked is not.
    """
    tool = find_trtexec()
    if asked == "python" or module != "tensorrt" or (asked == "auto" and (has_module(module) or tool is None)):
        return None  # a missing module is reported by the build child, which also runs alone
    if tool is None:
        raise EngineError(
            "there is no trtexec here", expected=f"on PATH, in HWC_TRTEXEC or {_JETPACK}",
            do="install JetPack's tensorrt package, or use driver=python",
        )  # fmt: skip
    return tool


def read_flags(tool: Path) -> FrozenSet[str]:
    """The flags that `trtexec --help` lists, without their dashes.

    Raises:
        EngineError: it does not run or lists none.
    """
    try:
        done = subprocess.run(
            [str(tool), "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=60, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError("trtexec does not run", where=str(tool), got=str(error)) from None
    text = done.stdout.decode(errors="replace")
    flags = frozenset(_FLAG.findall(text))
    if "onnx" not in flags or "saveEngine" not in flags:
        raise EngineError("trtexec --help lists no flags", where=str(tool), got=text[-300:].strip() or "nothing")
    return flags


def trtexec_arguments(
    flags: FrozenSet[str], request: BuildRequest, options: Options, content: Dict[str, Any], *, is_timed: bool
) -> Tuple[str, ...]:
    """The arguments of one build, with files named relative to the bundle folder.

    Args:
        flags: those of this trtexec.
        content: engine.request.json.
        is_timed: whether the engine is also run, to measure it.

    Raises:
        TargetError: something was asked that this trtexec has no flag for.
    """
    arguments: List[str] = [f"--onnx={content['model']}", f"--saveEngine={PLAN}"]

    def add(flag: str, value: str = "", *, asked: str = "") -> None:
        if flag not in flags:
            raise TargetError(
                f"this trtexec has no --{flag}", where=asked,
                do="do not ask for it, or install TensorRT's Python module",
            )  # fmt: skip
        arguments.append(f"--{flag}={value}" if value else f"--{flag}")

    if "explicitBatch" in flags:
        add("explicitBatch")
    open_inputs = [spec for spec in content["inputs"] if -1 in spec["shape"]]
    for word in ("min", "opt", "max"):
        shapes = [f"{spec['name']}:{'x'.join(map(str, spec[word]))}" for spec in open_inputs]
        if shapes:
            add(f"{word}Shapes", ",".join(shapes))
    if options.extra_profiles or options.named("dynamic_ranges"):
        raise TargetError(
            "trtexec takes one optimization profile, and INT8 scales only as a calibration cache",
            got="extra_profiles" if options.extra_profiles else "dynamic_ranges",
            do="install TensorRT's Python module on this board",
        )
    if options.named("dla_plan"):
        raise TargetError(
            "trtexec cannot be asked which layers the DLA takes, so it builds by no DLA plan",
            do="sudo apt-get install python3-libnvinfer on this board",
        )
    _add_types(add, flags, request, options, content)
    _add_pools(add, flags, options)
    for name in _NUMBER_NAMES:
        if name in dict(options.numbers):
            add(_NUMBER_NAMES[name], str(options.number(name)), asked=name)
    for name in options.flags:
        add(_FLAG_NAMES[name], "enable" if FLAGS[name] == "SPARSE_WEIGHTS" else "", asked=name)
    if options.hardware_compatibility:
        add("hardwareCompatibilityLevel", _LEVELS[options.hardware_compatibility], asked="hardware_compatibility")
    if options.tactic_sources:
        add("tacticSources", ",".join(("+" if on else "-") + name for name, on in options.tactic_sources))
    kept = content["options"]
    for path in [name for name in kept.get("static_plugins", "").split(",") if name]:
        add("staticPlugins" if "staticPlugins" in flags else "plugins", path)
    for path in [name for name in kept.get("dynamic_plugins", "").split(",") if name]:
        add("dynamicPlugins", path, asked="dynamic_plugins")
        add("setPluginsToSerialize", path, asked="dynamic_plugins")
    if not options.allow_tf32:
        add("noTF32")
    add("profilingVerbosity", "detailed")
    add("exportLayerInfo", LAYERS)
    add("verbose")
    if not is_timed:
        add("skipInference" if "skipInference" in flags else "buildOnly")
    return tuple(arguments)


def run_trtexec(
    tool: Path, request: BuildRequest, options: Options, folder: Path, *, progress: Progress, timing: TimingFiles,
    is_timed: bool,
) -> Tuple[Dict[str, Any], Tuple[str, ...]]:  # fmt: skip
    """Builds into `folder`; what the build child would have answered, and the command that repeats it.

    Raises:
        TargetError: this trtexec lacks what was asked.
        EngineError: it failed; the log's last errors are told.
    """
    content = read_request(request.out_dir)
    flags = read_flags(tool)
    arguments = trtexec_arguments(flags, request, options, content, is_timed=is_timed)
    # It runs in the bundle folder, where the names of the request hold, and writes into `folder` beside it.
    outputs = {PLAN: folder / PLAN, LAYERS: folder / LAYERS}
    command = [str(tool)]
    for argument in arguments:
        flag, _, value = argument.partition("=")
        command.append(f"{flag}={outputs[value]}" if value in outputs else argument)
    if timing.write is not None:
        if timing.read is not None:
            shutil.copyfile(str(timing.read), str(folder / KEPT))
        command.append(f"--timingCacheFile={folder / KEPT}")
    started, lines = time.monotonic(), [0]
    with (folder / LOG).open("wb") as log, (folder / STDERR).open("wb") as stderr:

        def read(line: bytes) -> None:
            log.write(line)
            lines[0] += 1
            spent = time.monotonic() - started
            if lines[0] % 100 == 1:
                progress(f"trtexec builds for {spent:.0f} s (by the clock)", min(0.95, spent / _USUAL_SECONDS))

        code = run_to_end(command, stderr, read, cwd=request.out_dir, is_ours=False)
    text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    if code != 0 or "&&&& FAILED" in text or not (folder / PLAN).is_file():
        said = (folder / STDERR).read_text(errors="replace").strip().splitlines()[-3:]
        raise EngineError(
            "trtexec crashed" if code < 0 else "trtexec did not build the engine",
            where=f"signal {-code}" if code < 0 else f"exit code {code}",
            got=" | ".join([last_errors(folder / LOG), *said]),
            do=f"to reproduce it, run in {request.out_dir}: {NAME} {' '.join(arguments)}",
        )
    if not (folder / LAYERS).is_file():
        raise EngineError("trtexec wrote no layer information", expected=LAYERS, do="report this version of trtexec")
    banner, median = _BANNER.search(text), _MEDIAN.findall(text)
    version = banner.group(1) if banner else "unknown"
    _check_cache(options, request.out_dir, content, version)
    return {
        "module": NAME,
        "version": version,
        "is_strongly_typed": "--stronglyTyped" in arguments or "fp16" not in flags,
        "tf32": options.allow_tf32,
        "device_bytes": None,
        "latency_ms": float(median[-1]) if median else None,
        "notes": [f"built by trtexec: {' '.join(arguments)}"],
    }, (NAME, *arguments)


def _add_types(
    add: Callable[..., None], flags: FrozenSet[str], request: BuildRequest, options: Options, content: Dict[str, Any]
) -> None:
    """The flags that decide precision."""
    types, operators = scan_model(request.out_dir / content["model"])
    is_typed = request.precision == "fp32" or _TYPES[request.precision] in types
    needs_weak = options.has_calibration or "dla_core" in dict(options.numbers)
    if "fp16" not in flags:  # 11 and newer
        if options.has_calibration or not is_typed or options.typing == "weak":
            raise TargetError(
                "this trtexec takes types from the graph alone",
                got=f"an ONNX file without {request.precision}" if not is_typed else "INT8 scales or flags beside it",
                do="compile the model for this target again",
            )
        return
    wants_strong = options.typing == "strong" or (is_typed and not needs_weak and not options.typing)
    if "stronglyTyped" in flags and wants_strong:
        add("stronglyTyped")
        return
    if options.typing == "strong":
        raise TargetError("this trtexec has no --stronglyTyped", do="drop the option typing")
    if request.precision != "fp32":
        add(request.precision, asked="precision")
    if options.has_calibration or "QuantizeLinear" in operators:
        add("int8")
    if options.has_calibration:
        add("calib", content["options"]["calibration_cache"])


def _add_pools(add: Callable[..., None], flags: FrozenSet[str], options: Options) -> None:
    sizes = []
    for name, size in options.pools:
        word, mebibytes = POOLS[name][1], size / (1 << 20)
        if not word:
            raise TargetError(f"trtexec sets no pool {name}", do="install TensorRT's Python module on this board")
        if "memPoolSize" in flags:
            sizes.append(f"{word}:{mebibytes:.12g}")
        elif name == "workspace" and mebibytes == int(mebibytes):  # up to 8.3
            add("workspace", f"{mebibytes:.0f}")
        else:
            add("memPoolSize", asked=f"{name} of {size} bytes")
    if sizes:
        add("memPoolSize", ",".join(sizes))


def _check_cache(options: Options, folder: Path, content: Dict[str, Any], version: str) -> None:
    """Refuses a calibration cache that TensorRT ignored: trtexec then calibrates on random numbers and says nothing."""
    if options.named("calibration_cache"):
        text = (folder / content["options"]["calibration_cache"]).read_text(encoding="utf-8")
        check_header(text, version, f"trtexec of TensorRT {version}")
