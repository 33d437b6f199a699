"""The model as a user has it without hwc: the ONNX file itself, or what torch's exporter writes with its defaults.

Both benchmarks give this file to the peers, and compile the same network with hwc. One thing is done to it: where
an input has open dimensions, they are fixed to the sizes that hwc is given, because a compiler that knows the sizes
has an advantage that is the user's to give, not hwc's merit. Nothing is folded, simplified or made canonical.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.models import Entry
from hwc.artifacts import DynamicDim, TensorSpec
from hwc.errors import EngineError
from hwc.frontend.input_shapes import InputShapes

ROOT = Path(__file__).resolve().parents[1]
_LARGEST = 2**31 - 1
_WRAPPER = """\
from benchmarks.models import find_entry

entry = find_entry({name!r})
model = entry.load


def example_inputs():
    return tuple(entry.example_inputs().values())
"""


@dataclass(frozen=True)
class Plain:
    """The file, its borders in their order, how many operators it has, and the torch module that it came from.

    Operators are nodes of all subgraphs, those that only hold a constant (Constant) left out.
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: int
    module: Any = None


def make_plain(entry: Entry, folder: Path) -> Plain:
    """The plain file of a network; a new file, if one is needed, is written into `folder`.

    Raises:
        EngineError: torch's exporter failed.
    """
    loaded = entry.load()
    if isinstance(loaded, Path):
        return read_plain(_fix_sizes(loaded, entry, folder / "plain.onnx"))
    path = folder / "plain.onnx"
    _export(loaded, entry, path)
    return read_plain(path, loaded)


def source_for_hwc(entry: Entry, folder: Path) -> tuple[str, InputShapes]:
    """MODEL and shapes, as `hwc compile` takes them, for the same network on the same inputs."""
    if entry.source.endswith(".onnx"):
        return entry.source, InputShapes()
    if entry.is_onnx:
        return f"{ROOT / entry.source}", InputShapes({name: tuple(shape) for name, shape in entry.inputs.items()})
    if not entry.arguments:
        return f"{ROOT / entry.source}", InputShapes()
    # The file's own example inputs have another size than this entry.
    path = folder / f"{entry.name}.py"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(_WRAPPER.format(name=entry.name))
    return f"{path}:model", InputShapes()


def bind_feeds(specs: tuple[TensorSpec, ...], examples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The entry's inputs under the names of an engine: by name where all agree, else in order, checked by dtype.

    Raises:
        EngineError: the engine takes other inputs.
    """
    names = [spec.name for spec in specs]
    given = examples if set(names) == set(examples) else dict(zip(names, examples.values()))
    fits = len(specs) == len(examples) and all(
        given[spec.name].dtype == np.dtype(spec.dtype) and len(spec.shape) == given[spec.name].ndim for spec in specs
    )
    if not fits:
        raise EngineError(
            "the engine takes other inputs than the network",
            expected=", ".join(f"{name} {array.dtype} {array.shape}" for name, array in examples.items()),
            got=", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in specs),
        )
    # Not ascontiguousarray, which makes a scalar one-dimensional.
    return {name: np.asarray(given[name], order="C") for name in names}


def _export(module: Any, entry: Entry, path: Path) -> None:
    import torch

    args = tuple(torch.from_numpy(array) for array in entry.example_inputs().values())
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # it logs pages about operators that no network here has
    silence = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            warnings.simplefilter("ignore")
            torch.onnx.export(module.eval(), args, str(path), dynamo=True, verbose=False)
    except Exception as error:  # the exporter wraps whatever it met
        raise EngineError("torch's exporter failed", where=entry.name, got=str(error).strip().split("\n")[0]) from None
    finally:
        logging.disable(disabled)


def _fix_sizes(path: Path, entry: Entry, fixed: Path) -> Path:
    """`path` itself if all its inputs have fixed sizes, else a copy with the entry's."""
    model = onnx.load(str(path))
    is_open = False
    for value in _real_inputs(model):
        for dim, size in zip(value.type.tensor_type.shape.dim, entry.inputs[value.name]):
            if not dim.dim_value > 0:
                dim.dim_value, is_open = size, True
    if is_open:
        onnx.save(model, str(fixed))
    return fixed if is_open else path


def read_plain(path: Path, module: Any = None) -> Plain:
    """The borders and operators of an ONNX file."""
    model = onnx.load(str(path), load_external_data=False)
    inputs = tuple(_spec(value) for value in _real_inputs(model))
    outputs = tuple(_spec(value) for value in model.graph.output)
    operators = _count(model.graph) + sum(_count(function) for function in model.functions)
    return Plain(path, inputs, outputs, operators, module)


def _real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs without those that only give an initializer a place: IR version 3 lists each of them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    sizes = [dim.dim_value or DynamicDim(1, 1, _LARGEST) for dim in tensor.shape.dim]
    return TensorSpec(value.name, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), tuple(sizes))


def _count(graph: Any) -> int:
    inner = (attribute for node in graph.node for attribute in node.attribute)
    graphs = [g for attribute in inner for g in ([attribute.g] if attribute.HasField("g") else attribute.graphs)]
    return sum(node.op_type != "Constant" for node in graph.node) + sum(map(_count, graphs))
