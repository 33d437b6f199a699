"""Computes in int32 what an exporter left in int64, where every value provably fits.

1. Slice with constant starts, ends, axes and steps -> the same in int32. Starts and ends beyond int32 mean "to the
   edge" and are clamped to it, which is exact because no dimension exceeds 2**31 - 1
2. every class of values tied by ONNX's type rules (see graph.retype) whose intervals (see graph.integer_range) fit
   int32 -> int32, with one Cast where a slot wants int64 (Reshape's shape, Pad's pads, a graph input, ...)

A class that needs Casts moves only if it carries data, more than 64 elements somewhere, and has at least as many
readers as Casts: shape arithmetic is done once on the host, where int64 costs nothing. INT64 has no fast path on GPUs,
and TensorRT before 10 has none at all.

Limit: intervals know nothing of the data behind a graph input beyond its use as an index, so arithmetic on such inputs
stays in int64.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.integer_range import Interval, fits, integer_ranges
from hwc.graph.match import constant, require, skip_unless, sweep
from hwc.graph.model import Namer, add_initializer, constant_array
from hwc.graph.retype import TypeClass, drop_idle_casts, move_class, tied_classes
from hwc.passes.base import PassContext, PassReport

_HOST_ELEMENTS = 64  # a tensor up to this size is taken for a shape computation
_INT32 = (-(2**31), 2**31 - 1)


def narrow_int64(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the two cases."""
    misses: list[NearMiss] = []
    namer = Namer(model)
    made: dict[ir.Value, ir.Value] = {}
    count = sweep(model, ("Slice",), lambda node: _narrow_slice(model.graph, node, namer, made), misses=misses)
    ranges = integer_ranges(model.graph)
    for one in tied_classes(model, frozenset({ir.DataType.INT64}), ir.DataType.INT32):
        where = _where(one)
        reason = _reason_against(one, ranges)
        if reason:
            # A class without a reader in int32 is no pattern at all: Shape into Reshape, for one.
            if one.readers:
                misses.append(NearMiss(where, reason))
            continue
        move_class(model, one, ir.DataType.INT32, namer)
        count += 1
    drop_idle_casts(model, ir.DataType.INT32)
    return PassReport(count, tuple(misses))


def _narrow_slice(graph: ir.Graph, node: ir.Node, namer: Namer, made: dict[ir.Value, ir.Value]) -> None:
    skip_unless(node.graph is graph and len(node.inputs) >= 3)
    skip_unless(any(value is not None and value.dtype == ir.DataType.INT64 for value in node.inputs[1:]))
    arrays = [constant(value, ("starts", "ends", "axes", "steps")[i]) if value is not None else None
              for i, value in enumerate(node.inputs[1:])]
    for name, array in zip(("axes", "steps"), arrays[2:]):
        for number in array.reshape(-1) if array is not None else ():
            require(_INT32[0] <= number <= _INT32[1], f"{name} hold {number}, which int32 cannot")
    for index, (value, array) in enumerate(zip(node.inputs[1:], arrays)):
        if value is None or array is None:
            continue
        if value not in made:
            narrow = array.clip(*_INT32).astype("int32")
            made[value] = add_initializer(graph, namer.fresh(f"{value.name}_int32"), narrow)
        node.replace_input_with(index + 1, made[value])


def _where(one: TypeClass) -> str:
    if one.values:
        producer = one.values[0].producer()
        return str(producer.name if producer is not None else one.values[0].name)
    return str(one.constants[0][1].name)


def _reason_against(one: TypeClass, ranges: dict[ir.Value, Interval]) -> str:
    if not one.readers:
        return "nothing reads it in int32"
    constants = [value for value, _, _ in one.constants]
    for value in (*one.values, *constants):
        low, high = ranges[value]
        if not fits((low, high), ir.DataType.INT32):
            kind = "holds" if value in constants else "may hold"
            return f"'{value.name}' {kind} {high if high > _INT32[1] else low}, which int32 cannot"
    if one.cast_count:
        if not any(_carries_data(value) for value in one.values):
            return f"it would take {one.cast_count} Casts for what looks like shape arithmetic"
        if one.cast_count > len(one.readers):
            return f"it would take {one.cast_count} Casts for {len(one.readers)} readers"
    return ""


def _carries_data(value: ir.Value) -> bool:
    if constant_array(value) is not None:
        return False
    count = 1
    for dim in value.shape if value.shape is not None else (None,):
        if not isinstance(dim, int):
            return True
        count *= dim
    return count > _HOST_ELEMENTS
