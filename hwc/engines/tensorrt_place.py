"""What a TensorRT build needs, laid into the output folder: model, weights, INT8 scales, plugins and the request.

Everything is named relative to that folder, so the folder alone builds the engine again, on this machine or another.
engine.request.json names no machine's folders and none of the options that say how a build is done, not what it is.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict, List, Tuple

from hwc.artifacts import TensorSpec
from hwc.engines.base import BuildRequest
from hwc.engines.files import copy_model, external_files, staging
from hwc.engines.tensorrt_options import FILES, PLACES, Options
from hwc.errors import UsageError

REQUEST = "engine.request.json"


def place_request(module: str, request: BuildRequest, options: Options, capability: str) -> Tuple[str, ...]:
    """Writes the request and what it names into `request.out_dir`; the names of those files, the ONNX file first.

    Raises:
        UsageError: a file is missing, or is no ONNX file.
        EngineError: the folder cannot be written.
    """
    model = _place_model(request)
    kept = {name: value for name, value in request.options.items() if name not in PLACES}
    extra: List[str] = []
    for name in FILES:
        placed = [_place_file(request, file) for file in options.named(name)]
        if placed:
            kept[name] = ",".join(placed)
            extra += placed
    content = {
        "module": module,
        "model": model[0],
        "inputs": [_spec(spec) for spec in request.inputs],
        "outputs": [_spec(spec) for spec in request.outputs],
        "precision": request.precision,
        "compute_capability": capability,
        "options": kept,
    }
    with staging(request.out_dir) as folder:
        (folder / REQUEST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    return (*model, *extra)


def read_request(folder: Path) -> Dict[str, Any]:
    """The request that lies beside an engine.

    Raises:
        UsageError: it is not there or is no JSON.
    """
    try:
        content: Dict[str, Any] = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError("cannot read the engine's request", where=str(folder / REQUEST), got=str(error)) from None
    return content


def _place_model(request: BuildRequest) -> Tuple[str, ...]:
    """Names of the ONNX file and its external data relative to `out_dir`; copied there unless they lie there."""
    try:
        relative = request.model.resolve().relative_to(request.out_dir.resolve())
    except ValueError:
        with staging(request.out_dir) as folder:
            return copy_model(request.model, folder)
    return (relative.as_posix(), *((relative.parent / name).as_posix() for name in external_files(request.model)))


def _place_file(request: BuildRequest, name: str) -> str:
    """One file that an option names, relative to the model or absolute; its name relative to `out_dir`."""
    source = request.model.parent / name
    if not source.is_file():
        raise UsageError("a file of the build is missing", where=str(source), do="give its path, or put it there")
    try:
        return source.resolve().relative_to(request.out_dir.resolve()).as_posix()
    except ValueError:
        with staging(request.out_dir) as folder:
            shutil.copyfile(str(source), str(folder / source.name))
        return source.name


def _spec(spec: TensorSpec) -> Dict[str, Any]:
    open_shape = [dim if isinstance(dim, int) else -1 for dim in spec.shape]
    ranges = {which: list(spec.at(which)) for which in ("min", "opt", "max")}
    return {"name": spec.name, "dtype": spec.dtype, "shape": open_shape, **ranges}
