"""Writes a QuantPlan into the graph: QuantizeLinear and DequantizeLinear where the points are, int8 weights.

    %x -> QuantizeLinear (x_quantized) -> DequantizeLinear (x_dequantized) -> the point's readers; others keep %x
    weight: @w_quantized (int8) -> DequantizeLinear (w_dequantized), or, for parsers that want float weights,
            @w_grid (float32, on the grid) -> QuantizeLinear -> DequantizeLinear

The zero point is an explicit tensor of zeros: its type says int8 or uint8. (With `rules.shift_signed`
int8 is written as uint8 around 128, which is the same grid.) Bias stays as it is. Where a group in `high` reads the
result of a carrier (Concat, MaxPool) that carries integers for others, it gets a twin of that carrier on floats, so
being put back means reading floats. Limit: opset 13 or newer (per-channel Q/DQ).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.artifacts import TensorScale
from hwc.errors import InternalError, TargetError
from hwc.graph.model import Namer, add_initializer, make_node, mark_origin, opset, remove_dead
from hwc.graph.shapes import infer_shapes
from hwc.graph.verify import verify_model
from hwc.precision.find_points import drop_high
from hwc.precision.integer_flow import IntegerFlow, carried_inputs, carries
from hwc.precision.plan import QuantPlan, QuantPoint, QuantWeight
from hwc.precision.quantize_weights import weight_readers
from hwc.precision.restore_constants import restore_constants

_OLDEST_OPSET = 13
_LIMITS = {"int8": np.int8, "uint8": np.uint8}


def place_qdq(plan: QuantPlan) -> ir.Model:
    """A clone of `plan.model` with the pairs in place, checked by `graph.verify` and by shape inference.

    Raises:
        TargetError: the graph's opset has no per-channel Q/DQ.
        InternalError: a point without a scale, a weight without integers, or sharers with different scales.
    """
    model = plan.model.clone()
    if opset(model) < _OLDEST_OPSET:
        raise TargetError(
            "Q/DQ per channel needs a newer opset", expected=f"opset {_OLDEST_OPSET} or newer",
            got=f"opset {opset(model)}", do="export the model with a newer opset",
        )  # fmt: skip
    points = drop_high(model, plan.points, plan.groups, plan.high)
    put_back = frozenset(name for group in plan.groups if group.id in plan.high for name in group.nodes)
    _check(plan, points, put_back)
    restore_constants(model, plan)
    placer = _Placer(model, plan)
    weights = weight_readers(model, points, put_back)  # before the graph changes under the points
    placer.twin_carriers(points, put_back)
    for point in points:
        placer.place_point(point, plan.scales[point.tensor])
    for name, readers in weights.items():
        placer.place_weight(name, plan.weights[name], readers)
    remove_dead(model)
    verify_model(model, "after place_qdq")
    infer_shapes(model, "after place_qdq")
    return model


def _check(plan: QuantPlan, points: tuple[QuantPoint, ...], put_back: frozenset[str]) -> None:
    shared: dict[str, tuple[str, TensorScale]] = {}
    for point in points:
        scale = plan.scales.get(point.tensor)
        if scale is None or len(scale.scale) != 1:
            raise InternalError(f"point '{point.tensor}' has no scale of its own", where="place_qdq")
        if scale.dtype == "uint8" and not (point.is_unsigned and plan.rules.unsigned):
            raise InternalError(f"'{point.tensor}' may be negative or this engine is signed, but its scale is uint8",
                                where="place_qdq")  # fmt: skip
        name, first = shared.setdefault(point.share, (point.tensor, scale))
        if (first.scale, first.dtype) != (scale.scale, scale.dtype):
            raise InternalError(
                f"'{name}' and '{point.tensor}' meet in one Concat and need one scale", where="place_qdq",
                expected=f"{first.scale[0]} {first.dtype}", got=f"{scale.scale[0]} {scale.dtype}",
            )  # fmt: skip
    for name in weight_readers(plan.model, points, put_back):
        if name not in plan.weights:
            raise InternalError(f"weight '{name}' is read as integers and has none", where="place_qdq")


class _Placer:
    def __init__(self, model: ir.Model, plan: QuantPlan) -> None:
        self.model = model
        self.plan = plan
        self.namer = Namer(model)
        self.nodes = {str(node.name): node for node in model.graph}
        self.values = {str(v.name): v for v in model.graph.inputs}
        self.values.update((str(v.name), v) for node in model.graph for v in node.outputs)

    def place_point(self, point: QuantPoint, scale: TensorScale) -> None:
        value = self.values[point.tensor]
        zero = np.zeros((), _LIMITS[scale.dtype])
        if self.plan.rules.shift_signed and scale.dtype == "int8":
            zero = np.array(128, np.uint8)
        pair = self._pair(value, point.tensor, np.float32(scale.scale[0]), zero, None)
        producer = value.producer()
        if producer is None:
            self.model.graph.insert_before(self.model.graph[0], pair)
        else:
            self.model.graph.insert_after(producer, pair)
        for name, index in point.readers:
            self.nodes[name].replace_input_with(index, pair[-1].outputs[0])

    def twin_carriers(self, points: tuple[QuantPoint, ...], put_back: frozenset[str]) -> None:
        """Gives each node that was put back a float copy of the carriers that carry integers to others."""
        flow = IntegerFlow(self.model, points)
        twins: dict[ir.Value, ir.Value] = {}
        for name in sorted(put_back & self.nodes.keys()):
            node = self.nodes[name]
            if carries(node):
                continue
            for index, value in enumerate(node.inputs):
                if value is not None and flow.is_integer(node, index):
                    node.replace_input_with(index, self._twin(value, flow, twins))

    def _twin(self, value: ir.Value, flow: IntegerFlow, twins: dict[ir.Value, ir.Value]) -> ir.Value:
        """`value`, made by copies of carriers from the floats in front of the pairs."""
        carrier = value.producer()
        if carrier is None or not carries(carrier):
            return value
        if not all(flow.is_integer(carrier, index) for index in carried_inputs(carrier)):
            return value
        if value not in twins:
            inputs = [v if v is None or i not in carried_inputs(carrier) else self._twin(v, flow, twins)
                      for i, v in enumerate(carrier.inputs)]  # fmt: skip
            outputs = [ir.Value(name=self.namer.fresh(f"{v.name}_float"), type=v.type, shape=v.shape)
                       for v in carrier.outputs]  # fmt: skip
            copy = ir.Node(
                carrier.domain, carrier.op_type, inputs, list(carrier.attributes.values()), outputs=outputs,
                name=self.namer.fresh(f"{carrier.name}_float"),
            )  # fmt: skip
            mark_origin(copy, [carrier])
            self.model.graph.insert_after(carrier, copy)
            twins.update(zip(carrier.outputs, outputs))
        return twins[value]

    def place_weight(self, name: str, weight: QuantWeight, readers: list[ir.Node]) -> None:
        graph = self.model.graph
        zero = np.zeros(weight.scale.shape, np.int8)
        if self.plan.rules.stored_int8:
            stored = add_initializer(graph, self.namer.fresh(f"{name}_quantized"), weight.integers)
            nodes = [self._dequantize(stored, name, weight.scale, zero, weight.axis, readers)]
        else:
            grid = add_initializer(graph, self.namer.fresh(f"{name}_grid"), weight.dequantize())
            nodes = self._pair(grid, name, weight.scale, zero, weight.axis, readers)
        graph.insert_before(readers[0], nodes)
        for reader in readers:
            reader.replace_input_with(1, nodes[-1].outputs[0])

    def _pair(
        self, value: ir.Value, base: str, scale: np.ndarray | np.float32, zero: np.ndarray, axis: int | None,
        sources: list[ir.Node] | None = None,
    ) -> list[ir.Node]:  # fmt: skip
        factors = self._factors(base, scale, zero)
        quantize = make_node(
            "QuantizeLinear", [value, *factors], name=self.namer.fresh(f"{base}_quantize"),
            outputs=[self.namer.fresh(f"{base}_quantized")], attributes=_axis(axis),
            dtype=ir.DataType.from_numpy(zero.dtype), shapes=[value.shape], sources=sources or _producers(value),
        )  # fmt: skip
        return [quantize, self._dequantize(quantize.outputs[0], base, scale, zero, axis, sources or _producers(value),
                                           factors)]  # fmt: skip

    def _dequantize(
        self, value: ir.Value, base: str, scale: np.ndarray | np.float32, zero: np.ndarray, axis: int | None,
        sources: list[ir.Node], factors: list[ir.Value] | None = None,
    ) -> ir.Node:  # fmt: skip
        return make_node(
            "DequantizeLinear", [value, *(factors or self._factors(base, scale, zero))],
            name=self.namer.fresh(f"{base}_dequantize"), outputs=[self.namer.fresh(f"{base}_dequantized")],
            attributes=_axis(axis), dtype=ir.DataType.FLOAT, shapes=[value.shape], sources=sources,
        )  # fmt: skip

    def _factors(self, base: str, scale: np.ndarray | np.float32, zero: np.ndarray) -> list[ir.Value]:
        graph = self.model.graph
        return [
            add_initializer(graph, self.namer.fresh(f"{base}_scale"), np.asarray(scale, np.float32)),
            add_initializer(graph, self.namer.fresh(f"{base}_zero_point"), zero),
        ]


def _axis(axis: int | None) -> dict[str, int]:
    return {} if axis is None else {"axis": axis}


def _producers(value: ir.Value) -> list[ir.Node]:
    producer = value.producer()
    return [producer] if producer is not None else []
