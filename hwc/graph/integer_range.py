"""Bounds of every integer tensor: interval arithmetic forwards over the graph.

Each value gets a closed interval [low, high] that holds all its elements for every legal input. Constants give their
own extremes, graph inputs their type's range, Shape the sizes; sums, products, quotients, shifts, selections and
movements are followed; any other operator gives its type's range. A result that could leave its type may wrap around,
so it gets the whole range too. An index read by Gather is bounded by the axis that it counts along, since ONNX calls
any other an error.

Limit: no relation between values is kept (x - x is not 0). Assumption: no dimension exceeds 2**31 - 1, as in TensorRT.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hwc.graph.match import attribute, is_op
from hwc.graph.model import constant_array

Interval = tuple[int, int]
MAX_DIMENSION = 2**31 - 1
_INTEGERS = {
    ir.DataType.INT8: (-(2**7), 2**7 - 1), ir.DataType.INT16: (-(2**15), 2**15 - 1),
    ir.DataType.INT32: (-(2**31), 2**31 - 1), ir.DataType.INT64: (-(2**63), 2**63 - 1),
    ir.DataType.UINT8: (0, 2**8 - 1), ir.DataType.UINT16: (0, 2**16 - 1),
    ir.DataType.UINT32: (0, 2**32 - 1), ir.DataType.UINT64: (0, 2**64 - 1), ir.DataType.BOOL: (0, 1),
}  # fmt: skip
# The result holds nothing but elements of the first input.
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "GatherElements", "GatherND",
          "Expand", "Tile", "Identity", "Split", "ReduceMax", "ReduceMin", "DepthToSpace", "SpaceToDepth")


def type_range(dtype: ir.DataType | None) -> Interval | None:
    """All values of an integer type (bool counts as 0..1); None for any other type."""
    return _INTEGERS.get(dtype) if dtype is not None else None


def integer_ranges(graph: ir.Graph) -> dict[ir.Value, Interval]:
    """An interval for each integer or boolean value of the main graph."""
    known: dict[ir.Value, Interval] = {}

    def of(value: ir.Value | None) -> Interval | None:
        if value is None:
            return None
        if value not in known:
            array = constant_array(value)
            if array is not None and array.dtype.kind in "iub":
                known[value] = (int(array.min()), int(array.max())) if array.size else (0, 0)
            else:
                whole = type_range(value.dtype)
                if whole is not None:
                    known[value] = _clip_to_use(value, whole)
        return known.get(value)

    for value in (*graph.inputs, *graph.initializers.values()):
        of(value)
    for node in graph:
        for value in node.outputs:
            whole = type_range(value.dtype)
            if whole is None or constant_array(value) is not None:
                of(value)
                continue
            inputs = [of(v) for v in node.inputs]
            found = None
            if is_op(node, "TopK") and value is node.outputs[0]:
                found = inputs[0]
            elif node.domain in ("", "ai.onnx"):
                found = _result(node, inputs)
            if found is None or found[0] < whole[0] or found[1] > whole[1]:
                found = whole
            known[value] = _clip_to_use(value, found)
    return known


def _clip_to_use(value: ir.Value, found: Interval) -> Interval:
    for use in value.uses():
        if is_op(use.node, "Gather", "GatherElements") and use.idx == 1 and use.node.graph is value.graph:
            data = use.node.inputs[0]
            if data is None or data.shape is None or not len(data.shape):
                continue
            size = data.shape[attribute(use.node, "axis", 0)]
            size = size if isinstance(size, int) else MAX_DIMENSION
            found = (max(found[0], -size), min(found[1], max(size - 1, 0)))
    return found


def _result(node: ir.Node, inputs: Sequence[Interval | None]) -> Interval | None:
    """The interval before wrap-around; None where this operator is not followed."""
    kind = node.op_type
    if kind == "Shape":
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        if shape is None:
            return 0, MAX_DIMENSION
        sizes = [dim if isinstance(dim, int) else None for dim in shape]
        sizes = sizes[attribute(node, "start", 0):attribute(node, "end", None)]
        fixed = [size if size is not None else MAX_DIMENSION for size in sizes]
        return (min(size or 0 for size in sizes), max(fixed)) if sizes else (0, 0)
    if kind in ("ArgMax", "ArgMin", "TopK", "NonZero"):
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        dims = list(shape) if shape is not None else []
        if kind in ("ArgMax", "ArgMin", "TopK") and dims:
            dims = [dims[attribute(node, "axis", -1 if kind == "TopK" else 0)]]
        return 0, max((dim if isinstance(dim, int) else MAX_DIMENSION for dim in dims), default=MAX_DIMENSION)
    if kind in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        return _compare(kind, inputs[0], inputs[1])
    if kind == "Cast":
        return inputs[0]
    if kind in _MOVES:
        return inputs[0]
    if kind in ("Concat", "Where", "Pad", "ScatterElements", "ScatterND"):
        return _joined(node, inputs)
    if any(interval is None for interval in inputs) or not inputs:
        return None
    given = [interval for interval in inputs if interval is not None]
    return _arithmetic(node, given)


def _joined(node: ir.Node, inputs: Sequence[Interval | None]) -> Interval | None:
    parts: list[Interval | None] = list(inputs)
    if node.op_type == "Where":
        condition = inputs[0]
        parts = list(inputs[1:])
        if condition == (1, 1):
            parts = parts[:1]
        elif condition == (0, 0):
            parts = parts[1:]
    elif node.op_type == "Pad":
        parts = [inputs[0], inputs[2] if len(inputs) > 2 and inputs[2] is not None else (0, 0)]
    elif node.op_type.startswith("Scatter"):
        if attribute(node, "reduction", "none") != "none":
            return None
        parts = [inputs[0], inputs[2]]
    sure = [part for part in parts if part is not None]
    if len(sure) != len(parts) or not sure:
        return None
    return min(low for low, _ in sure), max(high for _, high in sure)


def _compare(kind: str, a: Interval | None, b: Interval | None) -> Interval:
    if a is None or b is None:
        return 0, 1
    if kind in ("Greater", "GreaterOrEqual"):
        kind, a, b = kind.replace("Greater", "Less"), b, a
    if kind == "Equal":
        never, always = a[1] < b[0] or b[1] < a[0], a == b and a[0] == a[1]
    elif kind == "Less":
        never, always = a[0] >= b[1], a[1] < b[0]
    else:
        never, always = a[0] > b[1], a[1] <= b[0]
    return (0, 0) if never else (1, 1) if always else (0, 1)


def _arithmetic(node: ir.Node, given: Sequence[Interval]) -> Interval | None:
    kind, a = node.op_type, given[0]
    if kind == "Neg":
        return -a[1], -a[0]
    if kind == "Abs":
        return (0 if a[0] <= 0 <= a[1] else min(abs(a[0]), abs(a[1]))), max(abs(a[0]), abs(a[1]))
    if kind in ("Min", "Max"):
        pick = min if kind == "Min" else max
        return pick(i[0] for i in given), pick(i[1] for i in given)
    if len(given) != 2:
        return None
    b = given[1]
    if kind == "Add":
        return a[0] + b[0], a[1] + b[1]
    if kind == "Sub":
        return a[0] - b[1], a[1] - b[0]
    if kind == "Mul":
        products = [x * y for x in a for y in b]
        return min(products), max(products)
    if kind == "Div" and b[0] > 0:
        # ONNX does not say which way a negative quotient is rounded, so both ways are inside.
        return min(x // y for x in a for y in b), max(-(-x // y) if x < 0 else x // y for x in a for y in b)
    if kind == "Mod" and b[0] > 0 and a[0] >= 0:
        return 0, min(a[1], b[1] - 1)
    if kind == "BitShift" and a[0] >= 0 and b[0] >= 0 and b[1] < 64:
        if attribute(node, "direction", "") == "LEFT":
            return a[0] << b[0], a[1] << b[1]
        return a[0] >> b[1], a[1] >> b[0]
    if kind == "BitwiseAnd" and a[0] >= 0 and b[0] >= 0:
        return 0, min(a[1], b[1])
    return None


def fits(interval: Interval, dtype: ir.DataType) -> bool:
    """Whether every element can be written in the type."""
    whole = type_range(dtype)
    return whole is not None and whole[0] <= interval[0] and interval[1] <= whole[1]
