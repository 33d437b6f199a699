"""Computes in int32 what stands in an integer type that engines do not compute in.

These are uint8, uint16, uint32, uint64 and int16. TensorRT takes uint8 at the border of a network only, and the
other four nowhere. Using the interval of every integer (see graph.integer_range):

1. Where whose condition is the same for every legal input -> the branch it takes. Exporters guard a signed shift with
   "is it negative?", which a value that came from uint8 never is
2. x >> k -> x / 2^k for x >= 0 and constant k, and x << k -> x * 2^k if that cannot leave the type: there is no shift
   operator in TensorRT
3. every class of values tied by ONNX's type rules (see graph.retype) that fits int32 -> int32, with one Cast at a graph
   input, an output, or any other slot that wants the old type

Limit: a type at the border stays, as the border is the user's; an engine that refuses it says so.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.integer_range import Interval, fits, integer_ranges, type_range
from hwc.graph.match import attribute, constant, require, skip_unless, sweep
from hwc.graph.model import (
    Namer,
    add_initializer,
    bypass,
    can_bypass,
    make_node,
    origins,
    remove_dead,
    replace_nodes,
)
from hwc.graph.retype import drop_idle_casts, move_class, tied_classes
from hwc.passes.base import PassContext, PassReport

NARROW_TYPES = frozenset(
    {ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64, ir.DataType.INT16}
)


def widen_integers(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the three cases."""
    misses: list[NearMiss] = []
    namer = Namer(model)
    ranges = integer_ranges(model.graph)
    count = sweep(model, ("Where",), lambda node: _decide_where(node, ranges), misses=misses)
    if count:
        # The branch that is never taken often holds the widest numbers of all.
        remove_dead(model)
        ranges = integer_ranges(model.graph)
    count += sweep(model, ("BitShift",), lambda node: _replace_shift(model.graph, node, ranges, namer), misses=misses)
    ranges = integer_ranges(model.graph)
    for one in tied_classes(model, NARROW_TYPES, ir.DataType.INT32):
        if not one.readers:
            continue
        wide = [v for v in (*one.values, *(c[0] for c in one.constants)) if not fits(ranges[v], ir.DataType.INT32)]
        if wide:
            low, high = ranges[wide[0]]
            reason = f"'{wide[0].name}' may hold {low} to {high}, which int32 cannot"
            misses.append(NearMiss(str(next(iter(one.readers)).name), reason))
            continue
        move_class(model, one, ir.DataType.INT32, namer)
        count += 1
    drop_idle_casts(model, ir.DataType.INT32)
    return PassReport(count, tuple(misses))


def _decide_where(node: ir.Node, ranges: dict[ir.Value, Interval]) -> None:
    condition, result = node.inputs[0], node.outputs[0]
    skip_unless(condition is not None and condition in ranges and ranges[condition] in ((0, 0), (1, 1)))
    assert condition is not None
    branch = node.inputs[1] if ranges[condition] == (1, 1) else node.inputs[2]
    assert branch is not None
    same = branch.shape is not None and result.shape is not None and branch.shape == result.shape
    require(same, f"its condition is decided, but '{branch.name}' is broadcast")
    require(can_bypass(node, branch), "it gives a graph output its name")
    bypass(node, branch)


def _replace_shift(graph: ir.Graph, node: ir.Node, ranges: dict[ir.Value, Interval], namer: Namer) -> None:
    value, result = node.inputs[0], node.outputs[0]
    skip_unless(node.graph is graph and value is not None and value.dtype is not None)
    assert value is not None and value.dtype is not None
    shift = constant(node.inputs[1], "the shift")
    whole = type_range(value.dtype)
    assert whole is not None
    is_left = attribute(node, "direction", "") == "LEFT"
    low, high = ranges[value]
    top = int(shift.max()) if shift.size else 0
    require(low >= 0, f"'{value.name}' may be negative")
    require((1 << top) <= whole[1], f"2^{top} does not fit {value.dtype.name}")
    is_exact = not is_left or high << top <= whole[1]
    require(is_exact, f"'{value.name}' may hold {high}, which wraps when shifted by {top}")
    factor = np.left_shift(np.ones_like(shift), shift).astype(value.dtype.numpy())
    new = make_node(
        "Mul" if is_left else "Div",
        [value, add_initializer(graph, namer.fresh(f"{origins(node)[0]}_factor"), factor)],
        name=namer.fresh(str(node.name)), outputs=[namer.fresh(str(result.name))], dtype=value.dtype,
        shapes=[result.shape],
    )
    replace_nodes([node], [new], {result: new.outputs[0]})
    ranges[new.outputs[0]] = (low << int(shift.min()), high << top) if is_left else (low >> top, high)
