"""Bytes of each tensor of a graph at one size of its dynamic dimensions.

A symbol of an input has a range in the input's spec. The symbols of what is computed from it (2*w, floor(w/2)) do not,
so a graph with open dimensions is copied, its inputs fixed, and onnx's own inference run again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from hwc.artifacts import TensorSpec
from hwc.errors import UsageError
from hwc.graph.shapes import forget_shapes, infer_shapes


def tensor_sizes(model: ir.Model, inputs: Sequence[TensorSpec] = (), which: str = "opt") -> dict[str, int]:
    """Value name -> bytes, of all inputs and results of the main graph.

    Args:
        inputs: the specs, needed where an input has an open dimension.
        which: "min", "opt" or "max" of those.

    Raises:
        UsageError: an input's size is not known, or that of a result depends on data.
    """
    graph = model.graph
    if not all(_is_sized(value) for value in _values(graph)):
        graph = _fixed(model, inputs, which).graph
    sizes: dict[str, int] = {}
    for value in _values(graph):
        if not _is_sized(value):
            raise UsageError(
                f"the size of '{value.name}' is not known before the model runs", got=f"shape {value.shape}",
                do="plan a model whose shapes do not depend on data",
            )
        assert value.shape is not None and value.dtype is not None
        sizes[str(value.name)] = math.ceil(math.prod(map(int, value.shape)) * value.dtype.itemsize)  # type: ignore[arg-type]
    return sizes


def _values(graph: ir.Graph) -> list[ir.Value]:
    """Inputs that are no weights, and results that somebody wants."""
    wanted = [value for node in graph for value in node.outputs if value.name]
    return [value for value in graph.inputs if not value.is_initializer()] + wanted


def _is_sized(value: ir.Value) -> bool:
    if value.shape is None or value.dtype is None or value.dtype == ir.DataType.STRING:
        return False
    return all(isinstance(dim, int) and dim >= 0 for dim in value.shape)


def _fixed(model: ir.Model, inputs: Sequence[TensorSpec], which: str) -> ir.Model:
    specs = {spec.name: spec for spec in inputs}
    model = model.clone()
    for value in model.graph.inputs:
        spec = specs.get(str(value.name))
        if spec is not None:
            value.shape = ir.Shape(spec.at(which))
        elif not value.is_initializer() and not _is_sized(value):
            raise UsageError(f"the size of input '{value.name}' is open", do="give its shape")
    forget_shapes(model)
    infer_shapes(model, "at one size of the inputs")
    return model
