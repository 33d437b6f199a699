"""Turns a float32 graph into one that computes in float16 (or bfloat16), with float32 inputs and outputs.

The result is strongly typed: every node's operands agree, so an engine has no precision left to choose. A node computes
in half precision unless one of these keeps it in float32, an island:

1. range or accumulation: powers, exponentials, norms, recurrences, sums over more than 512 elements, squares x * x;
   then the mean, sum with a constant, root or reciprocal of what an island made, a quotient by it and a product with
   that reciprocal: these are the spellings of a variance, whose epsilon would become 0 and x / epsilon infinite
2. a tensor that was seen above half of float16's 65504 on calibration data (context.amax)
3. a constant that float16 cannot hold: finite but above 65504, or off by more than 2^-9 of its largest element, as an
   epsilon of 1e-12 is. What is computed from the former stays in float32 up to an operator with a bounded result
4. an operator without a half variant in its schema, of another domain, with a body, or with its type in an attribute
5. one that only hands values on, with islands or the border of the graph on both sides
6. the caller says so (context.keep_fp32): a Cast between Q/DQ and their layer would cost the layer its integers

Each value is cast at most once per direction, however many nodes read it. Bounds of Clip beyond float16 become its
largest number: they bound nothing there. What only looks at one tensor (Shape, ArgMax, a Cast to integers) reads
whatever type is there. bfloat16 has float32's range, so 2 and 3 do not apply to it.

Limit: without calibration data nothing is known of activations, and 2 cannot help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import is_op
from hwc.graph.model import Namer, add_initializer, constant_array, make_node, mark_origin, opset
from hwc.graph.slots import Slot, slots_of
from hwc.passes.base import PassContext, PassReport

FLOAT16_MAX = 65504.0
AMAX_MARGIN = 0.5  # inputs in the field exceed those of a calibration set; a factor of two is one exponent bit
_MANY_ELEMENTS = 512  # float16 has 11 bits: a running sum of 512 equal terms still sees two bits of each
_CONSTANT_ERROR = 2.0**-9  # four times the rounding of a normal float16; subnormals are worse than that
_HALF = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
_RANGE_OPS = (
    "Pow", "Exp", "Log", "Softplus", "CumSum", "Range", "LRN", "InstanceNormalization", "LayerNormalization",
    "GroupNormalization", "RMSNormalization", "MeanVarianceNormalization", "LpNormalization", "LpPool", "GlobalLpPool",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ReduceProd", "LSTM", "GRU", "RNN",
    "QuantizeLinear", "DequantizeLinear", "Det", "GridSample", "RoiAlign",
)
_NEUTRAL = (
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Concat", "Split", "Slice", "Gather",
    "Expand", "Tile", "Pad", "Relu", "MaxPool", "Max", "Min", "Neg", "Abs", "DepthToSpace", "SpaceToDepth",
)
# A number that float16 cannot hold goes through these; any other operator bounds or mixes what it reads.
_HANDS_ON_WIDE = (*_NEUTRAL, "Add", "Sub", "Mul", "Div", "Where", "Sum")
# With constants beside it, each of these is a step from the mean of squares to the deviation.
_CONTINUES = ("Sqrt", "Reciprocal", "ReduceMean", "ReduceSum", "GlobalAveragePool", "Add", "Max", "Clip")
# Islands for what happens inside them; what they make is of the size of their input, or of one.
_WELL_SCALED = (
    "LRN", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "LpNormalization",
    "MeanVarianceNormalization", "LSTM", "GRU", "RNN", "DequantizeLinear", "Cast", "Range", "GridSample", "RoiAlign",
)
_EXACT_IN_HALF = (ir.DataType.BOOL, ir.DataType.UINT8, ir.DataType.INT8)


def convert_float16(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring. `rewrites` is the number of nodes that now compute in half precision; the islands are
    the near misses."""
    half = _HALF.get(context.precision)
    if half is None:
        return PassReport(0, notes=(f"precision is {context.precision}",))
    reasons = _choose(model, half, context.amax, context.keep_fp32)
    converted = [node for node, reason in reasons.items() if reason is None]
    if not converted:
        return PassReport(0, tuple(_misses(reasons)))
    casts = _Converter(model, half).convert(set(converted))
    note = f"{len(converted)} nodes in {context.precision}, {len(reasons) - len(converted)} in fp32, {casts} Casts"
    return PassReport(len(converted), tuple(_misses(reasons)), (note,))


def _misses(reasons: Mapping[ir.Node, str | None]) -> list[NearMiss]:
    return [NearMiss(str(node.name), f"stays in fp32: {reason}") for node, reason in reasons.items() if reason]


def _half_slots(node: ir.Node, version: int, half: ir.DataType) -> list[Slot]:
    """The float32 slots that change if the node does."""
    return [slot for slot in slots_of(node, version)
            if slot.value.dtype == ir.DataType.FLOAT and slot.variable and half in slot.allowed]


def _reads_any_type(node: ir.Node, version: int, half: ir.DataType) -> bool:
    """Whether the node looks at one float32 tensor, makes none, and would take the other type as well."""
    slots = [slot for slot in slots_of(node, version) if slot.value.dtype == ir.DataType.FLOAT]
    return len(slots) == 1 and not slots[0].is_output and half in slots[0].allowed and bool(slots[0].variable)


def _choose(
    model: ir.Model, half: ir.DataType, amax: Mapping[str, float], kept: Mapping[str, str]
) -> dict[ir.Node, str | None]:
    """None or the reason against, for every node that touches float32."""
    version = opset(model)
    reasons: dict[ir.Node, str | None] = {}
    wide: set[ir.Value] = set()
    small: set[ir.Value] = set()  # made by an island, so perhaps below what float16 tells from 0
    steep: set[ir.Value] = set()  # one over such a value
    for node in model.graph:
        if not any(v is not None and v.dtype == ir.DataType.FLOAT for v in (*node.inputs, *node.outputs)):
            continue
        if is_op(node, "Constant") or _reads_any_type(node, version, half):
            continue
        slots = _half_slots(node, version, half)
        reason = kept.get(str(node.name)) or _operator_reason(node, slots, version)
        if half == ir.DataType.FLOAT16:
            found, is_wide = _value_reason(node, slots, amax)
            reason = reason or found
            if is_wide or any(slot.value in wide for slot in slots if not slot.is_output):
                reason = reason or "it reads what may exceed float16"
                if is_op(node, *_HANDS_ON_WIDE):
                    wide.update(node.outputs)
            quotient = _quotient_reason(node, small, steep)
            reason = reason or quotient
            is_neutral = is_op(node, *_NEUTRAL)
            if (reason is not None and _is_reciprocal(node, small)) or (is_neutral and node.inputs[0] in steep):
                steep.update(node.outputs)
            elif (is_neutral and node.inputs[0] in small) or (
                reason is not None and not is_op(node, *_WELL_SCALED) and not (quotient and is_op(node, "Div", "Mul"))
            ):
                small.update(node.outputs)
        reasons[node] = reason
    _close_gaps(reasons)
    return reasons


def _operator_reason(node: ir.Node, slots: list[Slot], version: int) -> str | None:
    if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
        return "it runs a body"
    if not slots:
        return "the operator has no half-precision form"
    if is_op(node, "Cast"):
        source = node.inputs[0]
        if source is not None and source.dtype in _HALF.values():
            return "the graph leaves half precision here on purpose"
        exact = source is not None and source.dtype in _EXACT_IN_HALF
        return None if exact else "whole numbers above 2048 are not exact in half precision"
    bound = {slot.variable for slot in slots_of(node, version) if not slot.is_output}
    if any(slot.is_output and slot.variable not in bound for slot in slots):
        return "its type is an attribute"
    if node.op_type in _RANGE_OPS:
        return f"{node.op_type} needs the range or the digits of float32"
    if node.op_type in ("ReduceSum", "ReduceMean"):
        source, result = node.inputs[0], node.outputs[0]
        sizes = [v.shape.numpy() if v is not None and v.shape is not None and v.shape.is_static() else None
                 for v in (source, result)]
        if sizes[0] is None or sizes[1] is None:
            return "it sums an unknown number of elements"
        count = math.prod(sizes[0]) // max(math.prod(sizes[1]), 1)
        return f"it sums {count} elements" if count > _MANY_ELEMENTS else None
    if is_op(node, "Mul") and node.inputs[0] is node.inputs[1]:
        return "a square doubles the exponent"
    return None


def _value_reason(node: ir.Node, slots: list[Slot], amax: Mapping[str, float]) -> tuple[str | None, bool]:
    """The reason that lies in a tensor, and whether it is a constant that float16 cannot hold."""
    for slot in slots:
        array = None if slot.is_output else constant_array(slot.value)
        if array is None:
            seen = amax.get(str(slot.value.name), 0.0)
            if not seen <= FLOAT16_MAX * AMAX_MARGIN:
                return f"'{slot.value.name}' reached {seen:.6g} on calibration data", False
            continue
        if is_op(node, "Clip") and slot.position > 0:
            array = array.clip(-FLOAT16_MAX, FLOAT16_MAX)  # beyond it bounds nothing; an epsilon has to stay one
        finite = np.abs(array[np.isfinite(array)])
        top = float(finite.max()) if finite.size else 0.0
        if top > FLOAT16_MAX:
            return f"constant '{slot.value.name}' holds {top:.6g}, above float16's {FLOAT16_MAX:.0f}", True
        error = float(np.abs(finite.astype(np.float16).astype(np.float32) - finite).max()) if finite.size else 0.0
        if error > _CONSTANT_ERROR * top:
            return f"constant '{slot.value.name}' (largest {top:.3g}) loses {error / top:.1%} in float16", False
    return None, False


def _quotient_reason(node: ir.Node, small: set[ir.Value], steep: set[ir.Value]) -> str | None:
    computed = [value for value in node.inputs if value is not None and constant_array(value) is None]
    if is_op(node, *_CONTINUES) and len(computed) == 1 and computed[0] in small:
        return "it goes on from an island"
    if is_op(node, "Div") and node.inputs[1] in small:
        return "it divides by what an island made, which may be 0 in float16"
    if is_op(node, "Mul") and any(value in steep for value in node.inputs):
        return "it multiplies by the reciprocal of what an island made"
    return None


def _is_reciprocal(node: ir.Node, small: set[ir.Value]) -> bool:
    if is_op(node, "Div"):
        return node.inputs[1] in small and constant_array(node.inputs[0]) is not None
    exponent = constant_array(node.inputs[1]) if is_op(node, "Pow") else None
    return is_op(node, "Reciprocal") or (exponent is not None and bool((exponent < 0).any()))


def _close_gaps(reasons: dict[ir.Node, str | None]) -> None:
    """A neutral node between islands or borders joins them, which saves the Casts into it and out of it."""
    for node in [*reasons, *reversed(reasons)]:
        if reasons[node] is not None or not is_op(node, *_NEUTRAL):
            continue
        makers = [v.producer() for v in node.inputs
                  if v is not None and v.dtype == ir.DataType.FLOAT and constant_array(v) is None]
        readers = [use.node for v in node.outputs for use in v.uses()]
        ends = any(v.is_graph_output() for v in node.outputs)
        if all(maker is None or reasons.get(maker) for maker in makers) and (
            (readers or ends) and all(reasons.get(reader) for reader in readers)
        ):
            reasons[node] = "it stands between islands, where Casts would cost more"


class _Converter:
    """Edits one model; keeps what has been cast or copied already, so that each is made once."""

    def __init__(self, model: ir.Model, half: ir.DataType) -> None:
        self._model = model
        self._half = half
        self._namer = Namer(model)
        self._made: dict[tuple[ir.Value, bool, bool], ir.Value] = {}  # value, to half?, clamped?
        self._halves: set[ir.Value] = set()
        self._casts = 0

    def convert(self, nodes: set[ir.Node]) -> int:
        """Returns the number of Casts made."""
        graph, version = self._model.graph, opset(self._model)
        readers_of_any = {node for node in graph if _reads_any_type(node, version, self._half)}
        # Read before anything changes: what counts are the types that the graph came with.
        slots_by_node = {node: _half_slots(node, version, self._half) if node in nodes else [] for node in graph}
        for node, slots in slots_by_node.items():
            inputs = {slot.position for slot in slots if not slot.is_output}
            for position, value in enumerate(node.inputs):
                if value is None or value.dtype not in (ir.DataType.FLOAT, self._half):
                    continue
                if position in inputs:
                    node.replace_input_with(position, self._as_half(value, is_op(node, "Clip") and position > 0))
                elif value in self._halves and node not in readers_of_any:
                    node.replace_input_with(position, self._as_single(value))
            for slot in slots:
                if slot.is_output:
                    slot.value.type = ir.TensorType(self._half)
                    self._halves.add(slot.value)
            if node in nodes and is_op(node, "Cast"):
                node.attributes["to"] = ir.AttrInt64("to", int(self._half))
        for value in self._halves:
            for use in list(value.uses()):
                if use.node.graph is not graph:
                    use.node.replace_input_with(use.idx, self._as_single(value))
        for index, value in enumerate(list(graph.outputs)):
            if value in self._halves:
                # The border keeps its name; the half-precision value gets another.
                single, name = self._as_single(value), str(value.name)
                graph.outputs[index] = single
                value.name = self._namer.fresh(f"{name}_half")
                single.name = name
        return self._casts

    def _as_half(self, value: ir.Value, is_bound: bool) -> ir.Value:
        if value in self._halves or value.dtype == self._half:
            return value
        array = constant_array(value)
        if array is None:
            return self._cast(value, self._half)
        key = (value, True, is_bound)
        if key not in self._made:
            if is_bound and self._half == ir.DataType.FLOAT16:
                array = array.clip(-FLOAT16_MAX, FLOAT16_MAX)
            name = self._namer.fresh(f"{value.name}_half")
            self._made[key] = add_initializer(self._model.graph, name, array.astype(self._half.numpy()))
        return self._made[key]

    def _as_single(self, value: ir.Value) -> ir.Value:
        return self._cast(value, ir.DataType.FLOAT)

    def _cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        key = (value, to == self._half, False)
        if key not in self._made:
            name = self._namer.fresh(f"{value.name}_as_{to.name.lower()}")
            cast = make_node("Cast", [value], name=name, outputs=[name], attributes={"to": int(to)}, dtype=to,
                             shapes=[value.shape])
            graph, producer = self._model.graph, value.producer()
            if producer is not None:
                mark_origin(cast, [producer])
                graph.insert_after(producer, cast)
            else:
                first = next(node for node in graph if value in node.inputs)
                mark_origin(cast, [first])
                graph.insert_before(first, cast)
            self._made[key] = cast.outputs[0]
            self._casts += 1
        return self._made[key]
