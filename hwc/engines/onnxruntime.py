"""The second opinion: ONNX Runtime on the CPU.

The engine's file is the ONNX file itself; ONNX Runtime compiles it when a session opens. Kernels and their precision
are read from the trace of one profiled run over zeros, at the `opt` shapes: what the profiler saw run is the list.

Options: `graph_optimization_level` = all (default), extended, basic, disable_all. With `disable_all` no node is fused,
so every node can be traced to the graph. Limits: CPU only; fused nodes keep the names that ONNX Runtime gives them, and
where that is no node of the graph, `sources` stays empty. Source: https://onnxruntime.ai/docs/performance/.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwc.artifacts import Engine, Kernel, TensorSpec
from hwc.engines.base import BuildRequest, Session, check_feeds
from hwc.engines.files import copy_model, require_files, staging, total_bytes
from hwc.engines.inspect import check_precision, count_precisions, require_precision
from hwc.errors import EngineError, UsageError

NAME = "onnxruntime"
SETTINGS = "onnxruntime.json"
_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disable_all": "ORT_DISABLE_ALL",
}
_PRECISIONS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64", "uint8": "int8"}


def build(request: BuildRequest) -> Engine:
    """Copies the ONNX file into `request.out_dir`, runs it once over zeros and reads back what ran.

    Raises:
        UsageError: the model is broken, an option is unknown, or inputs and outputs are not those of the request.
        EngineError: ONNX Runtime failed.
        TargetError: it computes in another precision than was asked (on x86 it widens fp16 to fp32).
    """
    require_precision(request.precision)
    level = _level(request.options)
    started = time.monotonic()
    settings = {"graph_optimization_level": level, "threads": request.threads}
    with staging(request.out_dir) as folder:
        names = copy_model(request.model, folder)
        request.progress("one profiled run", 0.3)
        nodes = _node_names(folder / names[0])
        with OnnxRuntimeSession(folder / names[0], request.inputs, request.outputs, settings, nodes, True) as session:
            session.run({spec.name: np.zeros(spec.at("opt"), spec.dtype) for spec in request.inputs})
            kernels = tuple(
                Kernel(name=k.name, kind=k.kind, precision=k.precision, sources=k.sources) for k in session.layers()
            )
        notes = check_precision(request.precision, kernels, NAME)
        (folder / SETTINGS).write_text(json.dumps({**settings, "nodes": nodes}, indent=1) + "\n")
    request.progress("one profiled run", 1.0)
    return Engine(
        backend=NAME,
        state="built",
        key=request.key,
        files=(*names, SETTINGS),
        inputs=request.inputs,
        outputs=request.outputs,
        kernels=kernels,
        size_bytes=total_bytes(request.out_dir, names),
        activation_bytes=None,
        weight_bytes=None,
        build_seconds=time.monotonic() - started,
        command=(),
        precision_built=count_precisions(kernels),
        notes=("ONNX Runtime reports no activation or weight bytes", *notes),
    )


def open_session(engine: Engine, folder: Path, *, profile: bool = False, threads: int | None = None) -> Session:
    """A session on the CPU.

    Args:
        engine: an engine of `build`.
        folder: where its files lie.
        profile: time every node; `layers` is empty without it.
        threads: overrides the number that was built for; 0 means all.

    Raises:
        EngineError: a file is missing or broken, or ONNX Runtime failed.
    """
    require_files(folder, engine.files)
    try:
        settings = json.loads((folder / SETTINGS).read_text())
        nodes = [str(name) for name in settings["nodes"]]
        kept = {"graph_optimization_level": str(settings["graph_optimization_level"]), "threads": settings["threads"]}
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{SETTINGS} is broken", where=str(folder), got=repr(error), do="compile again") from None
    if threads is not None:
        kept["threads"] = threads
    return OnnxRuntimeSession(folder / engine.files[0], engine.inputs, engine.outputs, kept, nodes, profile)


class OnnxRuntimeSession(Session):
    """See `Session`. With `profile`, `layers` ends the trace, so it may be called once, after the last run."""

    def __init__(
        self,
        model: Path,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        settings: Mapping[str, Any],
        nodes: list[str],
        profile: bool,
    ) -> None:
        import onnxruntime as ort

        self.inputs, self.outputs = inputs, outputs
        self._nodes = set(nodes)
        self._layers: tuple[Kernel, ...] = ()
        options = ort.SessionOptions()
        options.log_severity_level = 3  # Its warnings are about its own passes; errors come as exceptions.
        level = _LEVELS[_level(settings)]
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.intra_op_num_threads = int(settings["threads"])
        # Traces go to a folder of our own: by default they would be left in the current one.
        self._trace = tempfile.TemporaryDirectory(prefix="hwc-onnxruntime-") if profile else None
        if self._trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._trace.name) / "trace")
        try:
            self._session: Any = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            self._check_borders()
        except UsageError:
            self.close()
            raise
        except Exception as error:  # its pybind exceptions share no public base class
            self._session = None
            self.close()
            raise EngineError(
                "ONNX Runtime cannot load this model", where=model.name, got=str(error).splitlines()[0]
            ) from error

    def _check_borders(self) -> None:
        for word, found, specs in (
            ("input", self._session.get_inputs(), self.inputs),
            ("output", self._session.get_outputs(), self.outputs),
        ):
            types = {value.name: _dtype(value.type) for value in found}
            asked = {spec.name: str(np.dtype(spec.dtype)) for spec in specs}
            if any(types.get(name) != dtype for name, dtype in asked.items()) or (word == "input" and types != asked):
                raise UsageError(
                    f"the model's {word}s are not those of the request",
                    expected=", ".join(f"{name}: {dtype}" for name, dtype in asked.items()),
                    got=", ".join(f"{name}: {dtype}" for name, dtype in types.items()),
                )

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._session is None:
            raise EngineError("this session is closed", do="open a new session")
        check_feeds(self.inputs, feeds)
        names = [spec.name for spec in self.outputs]
        try:
            values = self._session.run(names, dict(feeds))
        except Exception as error:  # see __init__
            raise EngineError("ONNX Runtime failed", got=str(error).splitlines()[0]) from error
        return dict(zip(names, values))

    def layers(self) -> tuple[Kernel, ...]:
        if self._session is not None and self._trace is not None and not self._layers:
            events = json.loads(Path(self._session.end_profiling()).read_text())
            self._layers = kernels_from_trace(events, self._nodes)
        return self._layers

    def close(self) -> None:
        self._session = None
        if self._trace is not None:
            self._trace.cleanup()
            self._trace = None


def kernels_from_trace(events: list[dict[str, Any]], nodes: set[str]) -> tuple[Kernel, ...]:
    """Nodes of a chrome trace in the order they first ran, with the median of their times in microseconds."""
    times: dict[tuple[str, str, str], list[float]] = {}
    for event in events:
        args = event.get("args", {})
        if event.get("cat") != "Node" or not str(event.get("name", "")).endswith("_kernel_time"):
            continue
        operands = [*args.get("input_type_shape", []), *args.get("output_type_shape", [])]
        types = [next(iter(operand)) for operand in operands if operand]
        precision = _PRECISIONS.get(types[0], types[0]) if types else "unknown"
        name = event["name"][: -len("_kernel_time")]
        times.setdefault((name, args["op_name"], precision), []).append(float(event["dur"]))
    return tuple(
        Kernel(name, kind, precision, (name,) if name in nodes else (), statistics.median(samples))
        for (name, kind, precision), samples in times.items()
    )


def _level(options: Mapping[str, Any]) -> str:
    unknown = sorted(set(options) - {"graph_optimization_level", "threads"})
    level = str(options.get("graph_optimization_level", "all"))
    if unknown or level not in _LEVELS:
        raise UsageError(
            "the onnxruntime engine has no such option",
            expected=f"graph_optimization_level={'|'.join(_LEVELS)}",
            got=", ".join(unknown) or f"graph_optimization_level={level}",
        )
    return level


def _dtype(text: str) -> str:
    """numpy's name of "tensor(float)"."""
    inner = text[len("tensor(") : -1] if text.startswith("tensor(") else text
    return {"float": "float32", "double": "float64"}.get(inner, inner)


def _node_names(path: Path) -> list[str]:
    import onnx

    try:
        return [node.name for node in onnx.load(str(path), load_external_data=False).graph.node if node.name]
    except Exception as error:  # protobuf's decode errors share no public base class
        raise UsageError(
            f"cannot read the ONNX file {path.name}", got=f"{type(error).__name__}: {error}", do="export it again"
        ) from None
