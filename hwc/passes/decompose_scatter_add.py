"""Writes a scatter that adds (a histogram, mostly) as a product of one-hot matrices, which every engine can run.

ScatterElements with reduction "add" along the last axis, for B bins with B = H * L and an index i = h * L + l:

    out[.., h * L + l] = data[.., h * L + l] + sum over p of [hi(p) = h] * updates[.., p] * [lo(p) = l]

with hi = i / L and lo = i - hi * L. That is one matrix product of a (H x P) by a (P x L) one-hot matrix, where a single
one-hot matrix would hold P * B elements: for 1296 pixels and 512 bins, 48 columns in place of 512. H and L are the
divisors of B with the smallest sum. Counts are exact up to 2^24, as before; other updates are summed in another order.

Limit: the index must provably lie in 0..B-1 (see graph.integer_range), since a negative one would count from the end,
and H + L may not exceed 256, as it would for a large prime B.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.integer_range import Interval, integer_ranges
from hwc.graph.match import attribute, require, skip_unless, static_shape, sweep
from hwc.graph.model import Namer, add_initializer, constant_array, make_node, replace_nodes
from hwc.passes.base import PassContext, PassReport

_MAX_COLUMNS = 256


def decompose_scatter_add(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the formula."""
    misses: list[NearMiss] = []
    namer = Namer(model)
    ranges = integer_ranges(model.graph)
    count = sweep(
        model, ("ScatterElements",), lambda node: _decompose(model.graph, node, ranges, namer), misses=misses
    )
    return PassReport(count, tuple(misses))


def split_bins(bins: int) -> tuple[int, int]:
    """(H, L) with H * L = bins, H >= L and H + L smallest."""
    low = next(d for d in range(math.isqrt(bins), 0, -1) if bins % d == 0)
    return bins // low, low


def _decompose(graph: ir.Graph, node: ir.Node, ranges: dict[ir.Value, Interval], namer: Namer) -> None:
    skip_unless(node.graph is graph and attribute(node, "reduction", "none") == "add")
    data, index, updates = node.inputs
    assert data is not None and index is not None and updates is not None
    result = node.outputs[0]
    require(data.dtype == ir.DataType.FLOAT, f"it adds up {data.dtype}, not float32")
    shape, shape_of_index = static_shape(data, "data"), static_shape(index, "indices")
    rank, bins = len(shape), shape[-1]
    require(attribute(node, "axis", 0) % rank == rank - 1, "the axis is not the last one")
    require(shape[:-1] == shape_of_index[:-1], "the indices do not cover every row")
    low, high = ranges[index]
    require(low >= 0 and high < bins, f"an index may be {low if low < 0 else high}, outside of 0 to {bins - 1}")
    rows, columns = split_bins(bins)
    require(rows + columns <= _MAX_COLUMNS, f"{bins} bins split into {rows} x {columns} only")

    base = str(node.name)
    made: list[ir.Node] = []
    assert index.dtype is not None
    integer = index.dtype.numpy()

    def constant_of(what: str, array: np.ndarray) -> ir.Value:
        return add_initializer(graph, namer.fresh(f"{base}_{what}"), array)

    def emit(op: str, what: str, inputs: list[ir.Value], dtype: ir.DataType | None, **attributes: int) -> ir.Value:
        name = namer.fresh(f"{base}_{what}")
        made.append(make_node(op, inputs, name=name, outputs=[name], attributes=attributes, dtype=dtype))
        return made[-1].outputs[0]

    step = constant_of("step", np.array(columns, integer))
    high_part = emit("Div", "hi", [index, step], index.dtype)
    low_part = emit("Sub", "lo", [index, emit("Mul", "hi_step", [high_part, step], index.dtype)], index.dtype)

    def one_hot(what: str, part: ir.Value, axis: int, numbers: np.ndarray) -> ir.Value:
        where = constant_of(f"{what}_axis", np.array([axis], np.int64))
        wide = emit("Unsqueeze", f"{what}_wide", [part, where], index.dtype)
        hits = emit("Equal", f"{what}_hits", [wide, constant_of(f"{what}_numbers", numbers)], ir.DataType.BOOL)
        return emit("Cast", f"{what}_one_hot", [hits], ir.DataType.FLOAT, to=int(ir.DataType.FLOAT))

    left = one_hot("hi", high_part, rank - 1, np.arange(rows, dtype=integer).reshape(rows, 1))
    right = one_hot("lo", low_part, rank, np.arange(columns, dtype=integer))
    given = constant_array(updates)
    if given is None or not (given == 1).all():
        where = constant_of("updates_axis", np.array([rank], np.int64))
        right = emit("Mul", "weighted", [right, emit("Unsqueeze", "updates", [updates, where], None)], None)
    counts = emit("MatMul", "bins", [left, right], ir.DataType.FLOAT)
    # 0 copies a dimension, so rows that are bound later would still fit.
    flat = emit("Reshape", "flat", [counts, constant_of("shape", np.array([0] * (rank - 1) + [bins]))], data.dtype)
    start = constant_array(data)
    if start is None or start.any():
        flat = emit("Add", "sum", [flat, data], data.dtype)
    replace_nodes([node], made, {result: flat})
