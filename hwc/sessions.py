"""Opens a bundle, or a bare ONNX file, as something that runs; and makes inputs for it.

An engine that cannot run on this machine is refused by its backend. `engine` runs the bundle's model.onnx with another
backend instead, which is how an engine for another machine is judged here: same graph, same types, other kernels.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np

from hwc.artifacts import BuildKey, Target, TensorSpec
from hwc.bundle import full_disk_named, read_bundle, verify_bundle
from hwc.engines import base as engines
from hwc.engines.base import Session, check_feeds
from hwc.errors import UsageError

MODEL = "model.onnx"
_HERE = Target(name="this-machine", title="the machine that runs hwc", family="cpu", engine="", facts={})


@contextlib.contextmanager
def open_bundle(folder: Path, *, engine: str = "", threads: int = 0, profile: bool = False) -> Iterator[Session]:
    """A session of the bundle's engine, or of its model.onnx in `engine`.

    Args:
        threads: CPU threads; 0 for what the engine was built with.
        profile: time layers, where the backend can.

    Raises:
        UsageError: not a bundle, or one whose files are not those of its manifest.
        TargetError, EngineError: the engine cannot run here.
    """
    bundle = read_bundle(folder)
    verify_bundle(folder, bundle)
    built = bundle.engine
    if engine and engine != built.backend:
        with open_model(folder / MODEL, bundle.inputs, bundle.outputs, engine, threads=threads) as session:
            yield session
        return
    if built.state == "deferred":
        raise UsageError(
            "this bundle has no engine yet: its target builds it",
            where=str(folder),
            expected=f"an engine that runs here, as --engine onnxruntime (target: {bundle.target.name})",
            do="copy the bundle to the target, run `python3 DIR/hwc.pyz build DIR` there, or judge its graph with "
            "--engine onnxruntime",
        )
    options: Dict[str, object] = {}
    if built.backend in ("openvino", "onnxruntime"):
        options = {"profile": profile, "threads": threads or None}
    with engines.open_session(built, folder, **options) as session:
        yield session


def runs_on(folder: Path, engine: str = "") -> Target:
    """What the session of `open_bundle` with the same arguments runs on: the bundle's target, or this CPU.

    Raises:
        UsageError: not a bundle.
    """
    bundle = read_bundle(folder)
    return bundle.target if not engine or engine == bundle.engine.backend else _HERE


@contextlib.contextmanager
def open_model(
    model: Path, inputs: Tuple[TensorSpec, ...], outputs: Tuple[TensorSpec, ...], engine: str, *, threads: int = 0,
    precision: str = "",
) -> Iterator[Session]:  # fmt: skip
    """An ONNX file in one of the engines that run on any CPU."""
    with tempfile.TemporaryDirectory(prefix="hwc-run-") as work:
        key = BuildKey("", _HERE.name, engine, precision)
        request = engines.BuildRequest(
            model=model, target=_HERE, inputs=inputs, outputs=outputs, precision=precision or "fp32", key=key,
            out_dir=Path(work), threads=threads,
        )  # fmt: skip
        with engines.open_session(engines.build(engine, request), Path(work)) as session:
            yield session


def make_feeds(
    inputs: Tuple[TensorSpec, ...], given: Mapping[str, np.ndarray], *, seed: int = 0
) -> Dict[str, np.ndarray]:
    """`given`, checked, completed with seeded noise at the `opt` shapes: normal floats, zeros and ones as integers.

    Raises:
        UsageError: a given array does not fit.
    """
    rng = np.random.default_rng(seed)
    feeds = dict(given)
    for spec in inputs:
        if spec.name in feeds:
            continue
        dtype = np.dtype(spec.dtype)
        shape = spec.at("opt")
        feeds[spec.name] = (
            rng.standard_normal(shape).astype(dtype) if dtype.kind == "f" else rng.integers(0, 2, shape).astype(dtype)
        )
    check_feeds(inputs, feeds)
    return feeds


def describe_outputs(outputs: Mapping[str, np.ndarray]) -> List[Dict[str, Any]]:
    """Name, dtype, shape, min, max and mean of each output; the figures of an empty one are None."""
    return [
        {
            "name": name, "dtype": str(array.dtype), "shape": list(array.shape),
            "min": float(array.min()) if array.size else None, "max": float(array.max()) if array.size else None,
            "mean": float(array.mean()) if array.size else None,
        }
        for name, array in outputs.items()
    ]  # fmt: skip


def save_outputs(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays to an .npz by name; errors as in `staged_file`."""
    with staged_file(path) as partial, partial.open("wb") as stream:
        np.savez(stream, **dict(arrays))  # type: ignore[arg-type]


def check_output_file(path: Path) -> None:
    """Refuses what a rename would destroy: run as root, `-o /dev/null` would replace the device.

    Raises:
        UsageError: something other than a regular file is there.
    """
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{path} is not a regular file", expected="the name of a file to write", do="choose another -o"
        )


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` that takes its place when the block ends without an error.

    Raises:
        UsageError: `path` is something other than a file, or cannot be written.
        EngineError: the disk is full.
    """
    check_output_file(path)
    partial = path.with_name(f".{path.name}.tmp")
    try:
        with full_disk_named(path):
            yield partial
            os.replace(partial, path)
    except OSError as error:
        raise UsageError("cannot write the file", where=str(path), got=str(error), do="choose another -o") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
