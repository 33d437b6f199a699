"""Builds one TensorRT engine in a process of its own: `python -m hwc.engines.tensorrt_child engine.request.json`.

A separate process, because a builder that meets a bad graph may end in a segmentation fault, and because that one line
reproduces a build from nothing but the bundle. Paths in the request are relative to the request's folder.
Beside the request (or in `--out`) it writes engine.log as it goes, then engine.plan and last result.json; each of the
last two is renamed into place. Exit code 0, or that of the error in result.json.

This file is part of the device half: Python 3.8, standard library and the named module.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, TextIO

from hwc.engines import tensorrt_builder as steps
from hwc.errors import EngineError, HwcError, TargetError

PLAN, LOG, RESULT, LAYERS = "engine.plan", "engine.log", "result.json", "engine.layers.json"
PROGRESS = "hwc-progress"  # prefix of the lines on stdout that are meant for the parent


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs one request; the exit code."""
    parser = argparse.ArgumentParser(description="build one TensorRT engine")
    parser.add_argument("request", type=Path)
    parser.add_argument("--out", type=Path, help="folder for the results (default: the request's own)")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    args = parser.parse_args(arguments)
    out = args.out or args.request.resolve().parent
    if args.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        request = json.loads(args.request.read_text())
        with (out / LOG).open("w", encoding="utf-8") as log:
            result = build_plan(request, args.request.resolve().parent, out, log)
        code = 0
    except HwcError as error:
        result, code = {"error": error.to_dict()}, error.exit_code
        print(error, file=sys.stderr)  # noqa: T201 - a person may have started this
    write_whole(out / RESULT, json.dumps(result, indent=1, sort_keys=True).encode())
    return code


def build_plan(request: Dict[str, Any], folder: Path, out: Path, log: TextIO) -> Dict[str, Any]:
    """Builds what `request` describes and writes the plan into `out`; what the parent needs to know about it.

    Raises:
        UsageError: the network's inputs or outputs are not those of the request.
        TargetError: an operator, a type or a device that this module does not have.
        EngineError: the module is missing, or its builder failed.
    """
    trt = steps.load_module(request["module"])
    options = request["options"]
    logger = make_logger(trt, log)
    builder = trt.Builder(logger)
    is_strong, flags = steps.typing_of(trt, options)
    network = builder.create_network(flags)
    steps.parse(trt, network, logger, folder / request["model"])
    steps.check_borders(network, request)
    quantized = steps.quantized_convolutions(trt, network)
    if quantized and request["module"] == "tensorrt_rtx" and options.get("allow_int8_convolution") != "yes":
        raise TargetError(
            "TensorRT for RTX supports no INT8 convolution",
            where=f"node {quantized[0]}" + (f" and {len(quantized) - 1} more" if len(quantized) > 1 else ""),
            expected="INT8 only as weight-only quantized matrix products",
            got="Q/DQ on a convolution's data input",
            source="https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix-1/1.5.html",
            do="compile with --precision fp16 for this target",
        )
    config = builder.create_builder_config()
    steps.configure(trt, builder, config, request, is_strong, steps.is_quantized(trt, network))
    steps.add_profile(builder, config, network, request["inputs"])
    if hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):
        monitor = make_monitor(trt)  # kept alive here: the builder holds only a pointer
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{request['module']} could not build the engine", got=last_errors(out / LOG), do="see engine.log"
        )
    write_whole(out / PLAN, memoryview(plan))
    device_bytes = inspect_plan(trt, logger, plan, out) if request["module"] == "tensorrt" else None
    return {
        "module": request["module"],
        "version": str(trt.__version__),
        "is_strongly_typed": is_strong,
        "tf32": bool(hasattr(trt.BuilderFlag, "TF32") and config.get_flag(trt.BuilderFlag.TF32)),
        "device_bytes": device_bytes,
    }


def make_logger(trt: Any, log: TextIO) -> Any:
    """An ILogger that writes everything to `log`, at once, so that a crash leaves its last words."""

    class FileLogger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.write(f"{getattr(severity, 'name', severity)} {message}\n")
            log.flush()

    return FileLogger()


def inspect_plan(trt: Any, logger: Any, plan: Any, out: Path) -> Optional[int]:
    """Loads the plan on this machine's GPU, writes what the inspector says, returns its device memory in bytes."""
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError("the engine that was just built cannot be loaded", got=last_errors(out / LOG))
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    write_whole(out / LAYERS, text.encode())
    size = getattr(engine, "device_memory_size_v2", None)
    return int(engine.device_memory_size if size is None else size)


def make_monitor(trt: Any) -> Any:
    """An IProgressMonitor that prints how far the whole build is: steps of a phase, subdivided by its inner phases."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: Dict[str, List[Any]] = {}  # name -> [parent, steps, steps done]
            self.furthest = 0.0

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            self.phases[phase_name] = [parent_phase, max(num_steps, 1), 0]

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.phases[phase_name][2] = step + 1
            fraction, name = 0.0, phase_name  # type: float, Optional[str]
            while name in self.phases:
                parent, steps, done = self.phases[name]
                fraction, name = min((done + fraction) / steps, 1.0), parent
            self.furthest = max(self.furthest, fraction)
            print(f"{PROGRESS} {self.furthest:.4f} {phase_name}", flush=True)  # noqa: T201 - the parent reads it
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

    return Monitor()


def last_errors(log: Path, count: int = 3) -> str:
    """The last lines of the log that report an error, or simply the last ones."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    errors = [line for line in lines if line.startswith(("ERROR", "INTERNAL_ERROR"))]
    return " | ".join((errors or lines)[-count:]) or "the log is empty"


def write_whole(path: Path, data: Any) -> None:
    """Writes a file so that it is there whole or not at all.

    Raises:
        EngineError: the disk is full or not writable.
    """
    half = path.with_name(path.name + ".half")
    try:
        half.write_bytes(data)
        half.replace(path)
    except OSError as error:
        raise EngineError("cannot write the engine's files", where=str(path), got=str(error.strerror)) from error


def _end_with_parent() -> None:
    # Not sys.stdin: its lock, held by this thread, would abort the interpreter when it ends.
    while os.read(0, 1024):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
