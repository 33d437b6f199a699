"""Builds one TensorRT engine in a process of its own: `python -m hwc.engines.tensorrt_child engine.request.json`.

A separate process, because a builder that meets a bad graph may end in a segmentation fault, and because that one line
reproduces a build from nothing but the bundle. Paths in the request are relative to the request's folder.
Beside the request (or in `--out`) it writes engine.log as it goes, then engine.plan, with `--timing` what was measured,
and last result.json; each is renamed into place. Exit code 0, or that of the error in result.json.

Progress goes to stdout in lines for the parent: from IProgressMonitor where the module has one (9 and newer), else from
the clock and the forecast, which is then called so.

This file is part of the device half: Python 3.8, standard library and the named module.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, TextIO

from hwc.engines import tensorrt_builder as steps
from hwc.engines.files import external_files
from hwc.engines.tensorrt_configure import configure, load_plugins, make_runtime, serialize_plugins
from hwc.engines.tensorrt_dla import place_layers
from hwc.engines.tensorrt_forecast import Forecast, Record, add_record, forecast, read_history
from hwc.engines.tensorrt_int8 import set_scales
from hwc.engines.tensorrt_options import Options, read_options
from hwc.engines.tensorrt_timing import KEPT, load_timing
from hwc.errors import EngineError, HwcError, TargetError

PLAN, LOG, RESULT, LAYERS = "engine.plan", "engine.log", "result.json", "engine.layers.json"
PROGRESS = "hwc-progress"  # prefix of the lines on stdout that are meant for the parent


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs one request; the exit code."""
    parser = argparse.ArgumentParser(description="build one TensorRT engine")
    parser.add_argument("request", type=Path)
    parser.add_argument("--out", type=Path, help="folder for the results (default: the request's own)")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    parser.add_argument("--timing", action="store_true", help="leave a timing cache beside the plan")
    parser.add_argument("--timing-read", type=Path, help="timing cache to start from")
    parser.add_argument("--history", type=Path, help="file of earlier builds, for the forecast")
    args = parser.parse_args(arguments)
    out = args.out or args.request.resolve().parent
    if args.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        request = json.loads(args.request.read_text())
        with (out / LOG).open("w", encoding="utf-8") as log:
            extras = Extras(args.timing or args.timing_read is not None, args.timing_read, args.history)
            result = build_plan(request, args.request.resolve().parent, out, log, extras)
        code = 0
    except HwcError as error:
        result, code = {"error": error.to_dict()}, error.exit_code
        print(error, file=sys.stderr)  # noqa: T201 - a person may have started this
    write_whole(out / RESULT, json.dumps(result, indent=1, sort_keys=True).encode())
    return code


@dataclass(frozen=True)
class Extras:
    """What a build needs besides its request: places on this machine. Neither changes what is built, but how soon."""

    keeps_timing: bool = False
    timing_read: Optional[Path] = None
    history: Optional[Path] = None


def build_plan(
    request: Dict[str, Any], folder: Path, out: Path, log: TextIO, extras: Optional[Extras] = None
) -> Dict[str, Any]:
    """Builds what `request` describes and writes the plan into `out`; what the parent needs to know about it.

    Raises:
        UsageError: the network's inputs or outputs are not those of the request.
        TargetError: an operator, a type or a device that this module does not have.
        EngineError: the module is missing, or its builder failed.
    """
    extras = extras or Extras()
    trt = steps.load_module(request["module"])
    options = read_options(request["options"])
    precision = request["precision"]
    logger = make_logger(trt, log)
    notes = list(load_plugins(trt, logger, options, folder))
    builder = trt.Builder(logger)
    parsed = steps.make_network(trt, builder, logger, folder / request["model"], options, precision)
    network, is_strong = parsed.network, parsed.is_strong
    notes += parsed.notes
    steps.check_borders(network, request)
    _refuse_int8_convolution(trt, network, options, request["module"])
    config = builder.create_builder_config()
    has_int8 = steps.is_quantized(trt, network) or options.has_calibration
    notes += configure(
        trt, builder, config, options, precision=precision, capability=request["compute_capability"],
        is_strong=is_strong, has_int8=has_int8,
    )  # fmt: skip
    serialize_plugins(trt, config, options, folder)
    scales = set_scales(trt, network, config, options, folder) if options.has_calibration else None
    notes += [scales.note] if scales is not None else []
    notes += place_layers(trt, network, config, options, folder)
    profiles = steps.add_profiles(builder, config, network, request["inputs"], options.extra_profiles)
    notes += [f"{profiles} optimization profiles, each with kernels of its own"] if profiles > 1 else []
    cache = None
    if extras.keeps_timing:
        cache, said = load_timing(trt, config, extras.timing_read)
        notes.append(said)
    model_bytes = _model_bytes(folder / request["model"])
    level = options.number("builder_optimization_level")
    earlier = read_history(extras.history)
    expected = forecast(request["module"], int(network.num_layers), model_bytes, level, earlier)
    say(0.0, f"building, {expected}")
    started = time.monotonic()
    with _progress(trt, config, expected):
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{request['module']} could not build the engine", got=last_errors(out / LOG), do="see engine.log"
        )
    if scales is not None:
        scales.check()
    write_whole(out / PLAN, memoryview(plan))
    if cache is not None:
        write_whole(out / KEPT, memoryview(cache.serialize()))
    device_bytes = inspect_plan(trt, logger, plan, out, options) if request["module"] == "tensorrt" else None
    record = Record(int(network.num_layers), model_bytes, time.monotonic() - started, peak_bytes())
    if extras.history is not None and extras.timing_read is None and level < 0:
        add_record(extras.history, record)
    notes.append(f"forecast {expected}; took {record.seconds:.1f} s and {record.peak_bytes / 1e9:.1f} GB")
    return {
        "module": request["module"],
        "version": str(trt.__version__),
        "is_strongly_typed": is_strong,
        "tf32": bool(hasattr(trt.BuilderFlag, "TF32") and config.get_flag(trt.BuilderFlag.TF32)),
        "device_bytes": device_bytes,
        "notes": notes,
    }


def _refuse_int8_convolution(trt: Any, network: Any, options: Options, module: str) -> None:
    quantized = steps.quantized_convolutions(trt, network)
    if quantized and module == "tensorrt_rtx" and not options.allow_int8_convolution:
        raise TargetError(
            "TensorRT for RTX supports no INT8 convolution",
            where=f"node {quantized[0]}" + (f" and {len(quantized) - 1} more" if len(quantized) > 1 else ""),
            expected="INT8 only as weight-only quantized matrix products",
            got="Q/DQ on a convolution's data input",
            source="https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix-1/1.5.html",
            do="compile with --precision fp16 for this target",
        )


def _model_bytes(model: Path) -> int:
    return sum(path.stat().st_size for path in [model, *(model.parent / name for name in external_files(model))])


def say(fraction: float, what: str) -> None:
    """One line of progress for the parent."""
    print(f"{PROGRESS} {fraction:.4f} {what}", flush=True)  # noqa: T201 - the parent reads it


def peak_bytes() -> int:
    """Largest resident memory of this process so far; Linux counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def _progress(trt: Any, config: Any, expected: Forecast) -> Iterator[None]:
    """Reports progress while the builder runs."""
    if hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):
        monitor = make_monitor(trt)  # kept alive here: the builder holds only a pointer
        config.progress_monitor = monitor
        yield
        return
    done, started = threading.Event(), time.monotonic()

    def tick() -> None:
        while not done.wait(1.0):
            spent = time.monotonic() - started
            say(min(0.95, spent / max(expected.seconds, 1.0)), f"building for {spent:.0f} s (by the clock)")

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def make_logger(trt: Any, log: TextIO) -> Any:
    """An ILogger that writes everything to `log`, at once, so that a crash leaves its last words."""

    class FileLogger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.write(f"{getattr(severity, 'name', severity)} {message}\n")
            log.flush()

    return FileLogger()


def inspect_plan(trt: Any, logger: Any, plan: Any, out: Path, options: Options) -> Optional[int]:
    """Loads the plan on this machine's GPU, writes what the inspector says, returns its device memory in bytes."""
    runtime = make_runtime(trt, logger, options)
    engine = runtime.deserialize_cuda_engine(plan)
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
            say(self.furthest, phase_name)
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

    return Monitor()


def last_errors(log: Path, count: int = 3) -> str:
    """The last lines of the log that report an error, or simply the last ones."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    # Our own words, and trtexec's: "[01/02/2026-10:11:12] [E] ...".
    errors = [line for line in lines if line.startswith(("ERROR", "INTERNAL_ERROR")) or "[E] " in line[:32]]
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
