"""The contract of every engine: what can be built, and what can be run.

A backend is one file of this folder with the name of the engine family. It has two functions, the same in each:

    build(request: BuildRequest) -> Engine          compiles `request.model` and writes its files into `request.out_dir`
    open_session(engine, folder) -> Session         loads those files; a context manager, so memory has one owner

and one constant, NAME. `build` reads kernels, precisions and memory back from what it built; it raises rather than
build something else than was asked. `tests/engines/contract.py` holds one set of tests that all backends pass.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Type

import numpy as np

from hwc.artifacts import BuildKey, Engine, Kernel, Target, TensorSpec
from hwc.errors import UsageError

Progress = Callable[[str, float], None]  # (what is being done, fraction done from 0 to 1)


def no_progress(what: str, fraction: float) -> None:
    """A Progress that shows nothing."""


@dataclass(frozen=True)
class BuildRequest:
    """One engine to be built.

    Args:
        model: the ONNX file, already optimized for `target`; external data lie beside it.
        inputs: the model's inputs with their final (possibly dynamic) shapes.
        precision: "fp32", "fp16" or "bf16": what arithmetic the engine must use. "int8" is carried by Q/DQ in the
            graph.
        key: what the engine is, for the engine store.
        threads: CPU threads an engine on the CPU may use; 0 means all.
        cache: folder where a builder keeps what it measured (TensorRT's timing caches); None keeps nothing.
    """

    model: Path
    target: Target
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    precision: str
    key: BuildKey
    out_dir: Path
    options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 0
    progress: Progress = no_progress
    cache: Optional[Path] = None


class Session:
    """A loaded engine, ready to run. Used as a context manager; `close` frees everything and may be called twice."""

    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """One inference.

        Args:
            feeds: input name -> array of that input's dtype and a shape within its range, C-contiguous.

        Returns:
            output name -> array owned by the caller.

        Raises:
            UsageError: a name, dtype or shape does not fit (checked by `check_feeds`).
            EngineError: the runtime failed.
        """
        raise NotImplementedError(type(self).__name__)

    def layers(self) -> Tuple[Kernel, ...]:
        """Kernels of the runs so far with `time_us`, or empty if the runtime cannot time layers."""
        return ()

    def stage_times_ns(self) -> Dict[str, int]:
        """Of the last run, in ns: "enqueue" (host), "h2d", "gpu" and "d2h"; empty if the runtime has no such stages."""
        return {}

    def close(self) -> None:
        """Free device and host memory."""

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()


def check_feeds(inputs: Tuple[TensorSpec, ...], feeds: Mapping[str, np.ndarray]) -> None:
    """Refuses what the engine was not built for, before any runtime sees it.

    Raises:
        UsageError: missing or unknown name, wrong dtype, wrong rank, or a size outside the dimension's range.
    """
    known = {spec.name for spec in inputs}
    for name in feeds:
        if name not in known:
            raise UsageError(f"no input is called '{name}'", expected=", ".join(sorted(known)), got=name)
    for spec in inputs:
        if spec.name not in feeds:
            raise UsageError(
                f"input '{spec.name}' is missing",
                expected=f"{spec.dtype} {format_shape(spec)}",
                got=", ".join(sorted(feeds)) or "no inputs",
            )
        array = feeds[spec.name]
        if array.dtype != np.dtype(spec.dtype):
            raise UsageError(f"input '{spec.name}' has the wrong dtype", expected=spec.dtype, got=str(array.dtype))
        low, high = spec.at("min"), spec.at("max")
        fits = len(array.shape) == len(low) and all(a <= n <= b for a, n, b in zip(low, array.shape, high))
        if not fits:
            raise UsageError(
                f"input '{spec.name}' has the wrong shape",
                expected=format_shape(spec),
                got="x".join(map(str, array.shape)) or "scalar",
                do="compile again with --minShapes/--optShapes/--maxShapes that include this shape",
            )


def format_shape(spec: TensorSpec) -> str:
    """'1x3x224x224', with 'min..max' for a dimension that may vary."""
    return "x".join(str(dim) if isinstance(dim, int) else f"{dim.min}..{dim.max}" for dim in spec.shape) or "scalar"


BACKENDS = ("reference", "onnxruntime", "openvino", "tensorrt_rtx", "tensorrt")


def load_backend(name: str) -> ModuleType:
    """The module of that backend.

    Raises:
        UsageError: no such backend.
    """
    if name not in BACKENDS:
        raise UsageError(f"no engine is called '{name}'", expected=", ".join(BACKENDS), got=name)
    return importlib.import_module("hwc.engines." + name)


def build(backend: str, request: BuildRequest) -> Engine:
    """Build with the named backend."""
    engine: Engine = load_backend(backend).build(request)
    return engine


def open_session(engine: Engine, folder: Path, **options: Any) -> Session:
    """Load a built engine from the bundle folder it lies in."""
    session: Session = load_backend(engine.backend).open_session(engine, folder, **options)
    return session
