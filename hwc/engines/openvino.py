"""The engine that every machine has: OpenVINO on the CPU, x86 and aarch64.

The ONNX file is read, given its final shapes and saved as OpenVINO IR, so a session needs no ONNX. Build and session
compile that same IR. The kernels are those nodes of the execution graph that the profiler saw run once over zeros at
the `opt` shapes; layout changes (`Reorder`) count, nodes that only rename a view do not, and both are told in a note.

The precision hint is always set: left alone, a CPU with BF16 would silently compute fp32 models in bf16
(https://docs.openvino.ai/2025/openvino-workflow/running-inference/optimize-inference/precision-control.html).

Options: `compress_to_fp16` = no (default), yes: halves the file, and changes the weights. Limits: the latency hint
with one stream; OpenVINO reports no activation bytes; INT8 on an x86 CPU without VNNI or AMX saturates (see the note).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from hwc.artifacts import DynamicDim, Engine
from hwc.engines.base import BuildRequest, Session, format_shape
from hwc.engines.files import external_files, require_files, staging, total_bytes
from hwc.engines.inspect import check_precision, count_precisions, require_precision
from hwc.engines.openvino_names import Names, read_names
from hwc.engines.openvino_session import OpenVinoSession, last_line
from hwc.errors import EngineError, TargetError, UsageError

NAME = "openvino"
MODEL, WEIGHTS, SETTINGS = "openvino.xml", "openvino.bin", "openvino.json"
_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_NEEDS = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16"}  # what OPTIMIZATION_CAPABILITIES must list


def build(request: BuildRequest) -> Engine:
    """Compiles `request.model` for this machine's CPU and writes the IR into `request.out_dir`.

    Raises:
        UsageError: the model is broken, an option is unknown, or inputs and outputs are not those of the request.
        TargetError: this CPU lacks the precision that was asked, or OpenVINO did not build it.
        EngineError: OpenVINO failed.
    """
    require_precision(request.precision)
    compress = _option(request)
    started = time.monotonic()
    capabilities = _require_capability(request.precision)
    request.progress("reading the model", 0.1)
    model, names = _read_model(request)
    settings = {"hint": _HINTS[request.precision], "threads": request.threads}
    with staging(request.out_dir) as folder:
        import openvino as ov

        try:
            ov.save_model(model, str(folder / MODEL), compress_to_fp16=compress)
        except RuntimeError as error:
            raise EngineError(
                "OpenVINO cannot save the model", where=str(request.out_dir), got=last_line(error), do="check the disk"
            ) from error
        stored = {**settings, "owner": names.owner, "absorbed": names.absorbed}
        (folder / SETTINGS).write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
        request.progress("compiling", 0.4)
        session = OpenVinoSession(folder / MODEL, request.inputs, request.outputs, settings, names, True)
        with session:
            request.progress("one run over zeros", 0.9)
            session.run({spec.name: np.zeros(spec.at("opt"), spec.dtype) for spec in request.inputs})
            kernels = session.untimed_kernels()
            idle = session.idle_nodes()
            saturating = session.saturating_kernels()
        notes = check_precision(request.precision, kernels, NAME)
    reorders = sum(kernel.kind == "Reorder" for kernel in kernels)
    request.progress("done", 1.0)
    return Engine(
        backend=NAME,
        state="built",
        key=request.key,
        files=(MODEL, WEIGHTS, SETTINGS),
        inputs=request.inputs,
        outputs=request.outputs,
        kernels=kernels,
        size_bytes=total_bytes(request.out_dir, (MODEL, WEIGHTS)),
        activation_bytes=None,
        weight_bytes=total_bytes(request.out_dir, (WEIGHTS,)),
        build_seconds=time.monotonic() - started,
        command=(),
        precision_built=count_precisions(kernels),
        notes=(
            f"{reorders} of {len(kernels)} kernels change a layout (Reorder)",
            "nodes that did not run: " + (", ".join(f"{kind} {count}" for kind, count in idle) or "none"),
            f"this CPU offers {', '.join(capabilities)}",
            "OpenVINO reports no activation bytes",
            *_saturation_note(saturating),
            *notes,
        ),
    )


def open_session(engine: Engine, folder: Path, *, profile: bool = False, threads: int | None = None) -> Session:
    """Compiles the engine's IR on this machine's CPU.

    Args:
        engine: an engine of `build`.
        folder: where its files lie.
        profile: time every kernel (costs some speed); `layers` is empty without it.
        threads: overrides the number that was built for; 0 means all.

    Raises:
        EngineError: a file is missing or broken, or OpenVINO failed.
        TargetError: this CPU lacks the engine's precision.
    """
    require_files(folder, engine.files)
    try:
        stored = json.loads((folder / SETTINGS).read_text())
        names = Names(dict(stored["owner"]), dict(stored["absorbed"]))
        hint = str(stored["hint"])
        settings = {"hint": hint, "threads": int(stored["threads"] if threads is None else threads)}
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{SETTINGS} is broken", where=str(folder), got=repr(error), do="compile again") from None
    _require_capability({value: name for name, value in _HINTS.items()}.get(hint, hint))
    return OpenVinoSession(folder / MODEL, engine.inputs, engine.outputs, settings, names, profile)


def _read_model(request: BuildRequest) -> tuple[Any, Names]:
    """The model with its final shapes, and where its operators came from."""
    import openvino as ov

    external_files(request.model)  # refuses truncated files and weights outside the model's folder
    try:
        model = ov.Core().read_model(str(request.model))
    except RuntimeError as error:
        raise UsageError(
            "OpenVINO cannot read this model", where=request.model.name, got=last_line(error), do="see its message"
        ) from error
    names = read_names(request.model, model)
    for word, ports, specs in (("input", model.inputs, request.inputs), ("output", model.outputs, request.outputs)):
        found = {name: str(np.dtype(port.get_element_type().to_dtype())) for port in ports for name in port.get_names()}
        asked = {spec.name: str(np.dtype(spec.dtype)) for spec in specs}
        if any(found.get(name) != dtype for name, dtype in asked.items()) or (
            word == "input" and len(asked) != len(ports)
        ):
            raise UsageError(
                f"the model's {word}s are not those of the request",
                where=request.model.name,
                expected=", ".join(f"{name}: {dtype}" for name, dtype in asked.items()),
                got=", ".join(f"{name}: {dtype}" for name, dtype in found.items()),
            )
    shapes = {
        spec.name: ov.PartialShape(
            [ov.Dimension(dim.min, dim.max) if isinstance(dim, DynamicDim) else ov.Dimension(dim) for dim in spec.shape]
        )
        for spec in request.inputs
    }
    try:
        model.reshape(shapes)
    except RuntimeError as error:
        raise UsageError(
            "the model does not take the shapes of the request",
            expected=", ".join(f"{spec.name}: {format_shape(spec)}" for spec in request.inputs),
            got=last_line(error),
        ) from error
    return model, names


def _require_capability(precision: str) -> list[str]:
    """What this CPU can compute in, as OpenVINO says.

    Raises:
        TargetError: it has no kernels of that precision; OpenVINO would silently compute in fp32.
    """
    import openvino as ov

    core = ov.Core()
    capabilities = [str(name) for name in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")]
    if _NEEDS.get(precision, precision) not in capabilities:
        raise TargetError(
            f"this CPU cannot compute in {precision}",
            where=str(core.get_property("CPU", "FULL_DEVICE_NAME")),
            expected=f"{_NEEDS.get(precision, precision)} among its capabilities",
            got=", ".join(capabilities),
            source=f"OpenVINO {ov.get_version()}, OPTIMIZATION_CAPABILITIES of the CPU",
            do="ask for fp32, or build on the machine that has it",
        )
    return capabilities


def _saturation_note(kernels: int) -> tuple[str, ...]:
    # Seen on an AVX2 CPU: weights over the full +-127 gave errors of a sixth of the largest value, +-64 gave none.
    text = "INT8 kernels without VNNI: sums of two products saturate at 16 bits unless weights keep to -64..64"
    return (f"{kernels} {text}",) if kernels else ()


def _option(request: BuildRequest) -> bool:
    unknown = sorted(set(request.options) - {"compress_to_fp16"})
    value = request.options.get("compress_to_fp16", "no")
    if unknown or value not in ("yes", "no"):
        raise UsageError(
            "the openvino engine has no such option",
            expected="compress_to_fp16=yes|no",
            got=", ".join(unknown) or f"compress_to_fp16={value}",
        )
    return value == "yes"
