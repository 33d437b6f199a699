"""Which inputs of which nodes want integers, and through which nodes integers pass unchanged.

A *consumer* computes with integers: Conv, ConvTranspose, Gemm, MatMul with a constant weight, an average pool, the
addition in a convolution's group. A *carrier* only moves or selects elements, so quantizing before it or after it
gives the same integers (MaxPool: a monotone map commutes with max; Pad: its zeros are exact because the zero point is
0). Engines run carriers on integers when the pair stands in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from hwc.artifacts import FusionGroup, NearMiss
from hwc.graph.match import attribute, is_op
from hwc.graph.model import constant_array
from hwc.precision.plan import QuantPoint, QuantRules

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_AVERAGES = ("AveragePool", "GlobalAveragePool")
_CARRIERS = ("MaxPool", "GlobalMaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Identity",
             "DepthToSpace", "SpaceToDepth", "Concat", "Split", "Pad")  # fmt: skip
# Heavy or numerically delicate operators that stay in the higher precision, and why; told in the report.
_STAYS_HIGH = {
    "LSTM": "a recurrent layer feeds its rounding back into itself; no engine here runs it in INT8",
    "GRU": "a recurrent layer feeds its rounding back into itself; no engine here runs it in INT8",
    "RNN": "a recurrent layer feeds its rounding back into itself; no engine here runs it in INT8",
    "LayerNormalization": "it divides by a deviation that 8 bits cannot hold",
    "InstanceNormalization": "it divides by a deviation that 8 bits cannot hold",
    "Softmax": "its exponentials span more than 8 bits",
    "Gelu": "no INT8 kernel outside a convolution's group",
    "Einsum": "no INT8 kernel",
}

Edge = tuple[ir.Node, int]


@dataclass(frozen=True)
class Consumers:
    """Edges (node, input index) that want integers, in graph order, and the reasons why others do not."""

    edges: tuple[Edge, ...]
    misses: tuple[NearMiss, ...]


def group_of_node(groups: tuple[FusionGroup, ...]) -> dict[str, FusionGroup]:
    """Node name -> the group that holds it."""
    return {node: group for group in groups for node in group.nodes}


def carries(node: ir.Node | None) -> bool:
    """Whether integers pass through the node unchanged."""
    if node is None or not is_op(node, *_CARRIERS):
        return False
    if node.op_type == "MaxPool":
        return len(node.outputs) == 1  # the second output holds indices
    if node.op_type == "Pad":
        filler = node.inputs[2] if len(node.inputs) > 2 else None
        values = constant_array(filler)
        is_zero = filler is None or (values is not None and not values.any())
        return attribute(node, "mode", "constant") in ("reflect", "edge", "wrap") or is_zero
    return True


def carried_inputs(node: ir.Node) -> range:
    """Indices of the inputs whose elements a carrier hands on; the others are shapes, axes and the like."""
    return range(len(node.inputs)) if node.op_type == "Concat" else range(1)


def weight_axis(node: ir.Node) -> int | None:
    """The output-channel axis of a weighted node's constant; None: one scale for all of it."""
    weight = node.inputs[1]
    assert weight is not None and weight.shape is not None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        # Groups share the entries of axis 1, so a grouped weight has no axis of its own channels.
        return 1 if attribute(node, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return len(weight.shape) - 1 if len(weight.shape) > 1 else None


def find_consumers(model: ir.Model, groups: tuple[FusionGroup, ...], rules: QuantRules) -> Consumers:
    """Every edge of the main graph that `rules` would feed with integers, and a reason for each layer left out."""
    edges: list[Edge] = []
    misses: list[NearMiss] = []
    owner = group_of_node(groups)
    integer_groups: set[str] = set()
    for node in model.graph:
        found, reason = _wanted(node, rules)
        edges += [(node, index) for index in found]
        if found and is_op(node, *WEIGHTED) and str(node.name) in owner:
            integer_groups.add(owner[str(node.name)].id)
        if reason:
            misses.append(NearMiss(str(node.name), reason))
        misses += _inside(node)
    if rules.quantize_add:
        joined = [group for group in groups if group.id in integer_groups and len(group.nodes) > 1]
        edges += [edge for group in joined for edge in _addends(model, group, rules.quantize_sum)]
    order = {node: index for index, node in enumerate(model.graph)}
    return Consumers(tuple(sorted(edges, key=lambda edge: (order[edge[0]], edge[1]))), tuple(misses))


def _wanted(node: ir.Node, rules: QuantRules) -> tuple[tuple[int, ...], str]:
    """Input indices that want integers; or none, and why (empty: nobody would ask)."""
    if node.op_type in _STAYS_HIGH and is_op(node, node.op_type):
        return (), _STAYS_HIGH[node.op_type]
    if is_op(node, *_AVERAGES):
        return ((0,), "") if rules.quantize_average else ((), "average pools stay high by the rules of this engine")
    if not is_op(node, *WEIGHTED):
        return (), ""
    data, weight = node.inputs[0], node.inputs[1]
    if node.outputs[0].dtype != ir.DataType.FLOAT:
        return (), f"it computes in {node.outputs[0].dtype}, not float32"
    values = constant_array(weight)
    if values is not None and weight is not None and weight.is_initializer() and constant_array(data) is None:
        if not values.size or not _is_finite(values):
            return (), "its weight is empty or not finite"
        return (0,), ""
    if node.op_type == "MatMul":
        if constant_array(data) is not None:
            return (), "its constant stands on the left: no per-channel scale fits"
        if rules.quantize_matmul:
            return (0, 1), ""
        return (), "both operands are computed: a product of two activations stays high by the rules of this engine"
    return (), "its weight is computed at run time"


def _is_finite(values: object) -> bool:
    import numpy as np

    return bool(np.isfinite(values).all())  # type: ignore[call-overload]


def _inside(node: ir.Node) -> list[NearMiss]:
    """Layers in the bodies of If, Loop and Scan: never quantized."""
    bodies = [attr.as_graph() for attr in node.attributes.values() if attr.type == ir.AttributeType.GRAPH]
    inner = [n for body in bodies for n in ir.traversal.RecursiveGraphIterator(body) if is_op(n, *WEIGHTED)]
    return [NearMiss(str(n.name), f"it stands in a body of '{node.name}' ({node.op_type})") for n in inner]


def _addends(model: ir.Model, group: FusionGroup, with_own: bool) -> list[Edge]:
    """The operands of the addition in a group that a convolution heads: the outside one, or both."""
    members = set(group.nodes)
    nodes = [node for node in model.graph if node.name in members]
    made = {value for node in nodes for value in node.outputs}
    edges: list[Edge] = []
    for node in nodes:
        operands = [value for value in node.inputs if value is not None and constant_array(value) is None]
        if is_op(node, "Add", "Sum") and len(node.inputs) == len(operands) == 2:
            found = [index for index, value in enumerate(node.inputs) if with_own or value not in made]
            edges += [(node, index) for index in found]
    return edges


class IntegerFlow:
    """Answers which inputs arrive as integers in a graph with given points."""

    def __init__(self, model: ir.Model, points: tuple[QuantPoint, ...]) -> None:
        self._read = {edge for point in points for edge in point.readers}
        self._points: Mapping[str, QuantPoint] = {point.tensor: point for point in points}
        self.nodes = {str(node.name): node for node in model.graph}

    def is_integer(self, node: ir.Node, index: int) -> bool:
        """Whether this input arrives as integers: behind a pair, or through carriers from pairs."""
        if (str(node.name), index) in self._read:
            return True
        value = node.inputs[index]
        source = value.producer() if value is not None else None
        if source is None or not carries(source) or source.graph is not node.graph:
            return False
        return all(self.is_integer(source, i) for i in carried_inputs(source))
