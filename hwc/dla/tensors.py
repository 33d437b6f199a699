"""What rules ask of a node's tensors: static shapes, which operands are constants, and their scales."""

from __future__ import annotations

import onnx_ir as ir

from hwc.graph.model import constant_array


def static_dims(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape, None if a dimension or the rank is not known."""
    if value is None or value.shape is None:
        return None
    dims = tuple(dim for dim in value.shape if isinstance(dim, int))
    return dims if len(dims) == len(value.shape) and all(dim > 0 for dim in dims) else None


def computed_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs that are not constants."""
    return [value for value in node.inputs if value is not None and constant_array(value) is None]


def constant_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs that are constants."""
    return [value for value in node.inputs if value is not None and constant_array(value) is not None]


def used_outputs(node: ir.Node) -> list[ir.Value]:
    """The outputs that are read, or that leave the graph; the first in any case."""
    return [v for i, v in enumerate(node.outputs) if i == 0 or v.uses() or v.is_graph_output()]


def batch_of(value: ir.Value | None) -> int:
    """What DLA calls the batch: the product of all dimensions in front of the last three, the first of two of a matrix.

    Returns 0 where the shape is not static.
    """
    dims = static_dims(value)
    if dims is None:
        return 0
    batch = 1
    for dim in dims[:-3] if len(dims) > 2 else dims[:1]:
        batch *= dim
    return batch
