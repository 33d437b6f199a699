"""Partitions the graph into FusionGroups: the nodes that an engine is expected to run as one kernel.

Every group has one tail: all results of the other members are read inside the group only. So no path can leave a group
and come back (it would have to leave from the tail, and nothing in the group follows the tail), and the groups
themselves form an acyclic graph whose order is the order of their tails.

In this order, each step taking nodes that are still free:

1. Conv, ConvTranspose, Gemm, MatMul, the last in graph order first (of two Convs that meet in an Add, the later one can
   carry it, since the other's result is ready by then). Each takes, along the results that have one reader:
   a zero Pad in front (Conv, ConvTranspose); constants per channel (bias, scale, BatchNormalization); one Add, Sum,
   Max or Min with a tensor of the same shape (Conv); one activation, written as one operator or as x * f(x); one
   MaxPool (Conv without the Add)
2. chains of element-wise nodes over floating-point tensors of one shape
3. chains of Reshape, Transpose, Squeeze, Unsqueeze, Flatten; Softmax with Log or TopK
4. every other node alone

These are the fusions that TensorRT documents (developer guide, "Layer fusion"). Limit: a group is an expectation. On
GPUs MaxPool was seen to join its Conv in INT8 only (TensorRT issue 2518); what an engine did is read from the engine.
Bodies of If, Loop and Scan are not partitioned: such a node is one group with all that it runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hwc.artifacts import FusionGroup, NearMiss
from hwc.graph.match import attribute, is_op
from hwc.graph.model import constant_array
from hwc.passes.base import PassContext, PassReport

_HEADS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ACTIVATIONS = (
    "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu",
    "Mish", "Softplus", "Softsign", "ThresholdedRelu", "Swish",
)
_SCALES = ("Add", "Sub", "Mul", "Div")
_POINTWISE = (
    *_ACTIVATIONS, *_SCALES, "Sum", "Max", "Min", "Pow", "Sqrt", "Exp", "Log", "Erf", "Neg", "Abs", "Reciprocal",
    "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Where", "Equal", "Greater", "Less", "And", "Or", "Not",
)
_SHUFFLES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
_GATE_LENGTH = 5  # x * f(x): the longest f in use is the GELU of exporters, x * (erf(x / sqrt 2) + 1) * 0.5
_FUSED_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.BOOL)


def form_fusion_groups(model: ir.Model, context: PassContext) -> PassReport:
    """Leaves the graph as it is; the groups are in the report, in execution order, and cover every node once."""
    order = {node: index for index, node in enumerate(model.graph)}
    taken: dict[ir.Node, list[ir.Node]] = {}
    misses: list[NearMiss] = []
    groups: list[list[ir.Node]] = []

    def take(members: list[ir.Node]) -> None:
        groups.append(members)
        taken.update((node, members) for node in members)

    for node in reversed(order):
        if is_op(node, *_HEADS) and node not in taken:
            take(_grow(node, order, taken, misses))
    for node in reversed(order):
        if node in taken:
            continue
        group = _group_after(node, order, taken)
        if group is None:
            take([node])
        else:
            group.append(node)
            taken[node] = group
    for group in groups:
        group.sort(key=order.__getitem__)
    groups.sort(key=lambda group: order[group[-1]])
    return PassReport(0, tuple(misses), groups=tuple(_describe(i, group) for i, group in enumerate(groups)))


def _describe(index: int, group: Sequence[ir.Node]) -> FusionGroup:
    """Inputs are the computed tensors that come in; constants belong to their nodes and are not listed."""
    inside = set(group)
    inputs: dict[str, None] = {}
    outputs: dict[str, None] = {}
    for node in group:
        reads = [value for value in node.inputs if value is not None]
        for attr in node.attributes.values():
            if attr.type == ir.AttributeType.GRAPH:
                reads += _captured(attr.as_graph())
            elif attr.type == ir.AttributeType.GRAPHS:
                reads += [value for graph in attr.as_graphs() for value in _captured(graph)]
        for value in reads:
            if value.producer() not in inside and (value.is_graph_input() or constant_array(value) is None):
                inputs[str(value.name)] = None
        for value in node.outputs:
            if value.is_graph_output() or any(use.node not in inside for use in value.uses()):
                outputs[str(value.name)] = None
    kind = "+".join(node.op_type for node in group)
    return FusionGroup(f"g{index}", kind, tuple(str(node.name) for node in group), tuple(inputs), tuple(outputs))


def _captured(graph: ir.Graph | ir.GraphView) -> list[ir.Value]:
    """What a body reads from the scopes around it."""
    nodes = list(ir.traversal.RecursiveGraphIterator(graph))
    made = {value for node in nodes for value in node.outputs} | set(graph.inputs) | set(graph.initializers.values())
    for node in nodes:
        for attr in node.attributes.values():
            bodies = [attr.as_graph()] if attr.type == ir.AttributeType.GRAPH else ()
            made.update(value for body in bodies for value in (*body.inputs, *body.initializers.values()))
    reads = [value for node in nodes for value in node.inputs] + list(graph.outputs)
    return [value for value in reads if value is not None and value not in made]


def _users(value: ir.Value) -> set[ir.Node]:
    return {use.node for use in value.uses()}


def _same_shape(a: ir.Value | None, b: ir.Value | None) -> bool:
    return a is not None and b is not None and a.shape is not None and b.shape is not None and a.shape == b.shape


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The operand beside `value` of a node with two."""
    if len(node.inputs) != 2 or list(node.inputs).count(value) != 1:
        return None
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _grow(
    head: ir.Node, order: dict[ir.Node, int], taken: dict[ir.Node, list[ir.Node]], misses: list[NearMiss]
) -> list[ir.Node]:
    group = [head]
    has_add = has_activation = False
    source = head.inputs[0].producer() if head.inputs[0] is not None else None
    if head.op_type in ("Conv", "ConvTranspose") and source is not None and source in order and source not in taken:
        zero = source.inputs[2] if len(source.inputs) > 2 else None
        filler = constant_array(zero)
        is_zero = zero is None or (filler is not None and not filler.any())
        only_reader = _users(source.outputs[0]) == {head} and not source.outputs[0].is_graph_output()
        if is_op(source, "Pad") and attribute(source, "mode", "constant") == "constant" and is_zero and only_reader:
            group.insert(0, source)
    while True:
        value = group[-1].outputs[0]
        gate = [] if has_activation or value.is_graph_output() else _gate(value, order, taken)
        if gate:
            group += gate
            has_activation = True
            continue
        users = _users(value)
        # Of several readers the first is named in the near miss; none of them is taken.
        free = sorted((n for n in users if n in order and n not in taken), key=order.__getitem__)
        if not free:
            return group
        follower = free[0]
        is_activation = is_op(follower, *_ACTIVATIONS) and _same_shape(value, follower.outputs[0])
        is_scale = not has_add and _is_scale(follower, value, head)
        is_add = not has_add and head.op_type == "Conv" and _is_add(follower, value)
        is_pool = head.op_type == "Conv" and not has_add and is_op(follower, "MaxPool") and len(follower.outputs) == 1
        if not (is_pool or (not has_activation and (is_activation or is_scale or is_add))):
            return group
        if len(users) > 1 or value.is_graph_output():
            readers = f"read by {len(users)} nodes" if len(users) > 1 else "a graph output"
            misses.append(NearMiss(str(follower.name), f"stays apart from '{head.name}': '{value.name}' is {readers}"))
            return group
        group.append(follower)
        has_add = has_add or (is_add and not is_scale)
        has_activation = has_activation or is_activation
        if is_pool:
            return group


def _is_scale(node: ir.Node, value: ir.Value, head: ir.Node) -> bool:
    """Whether the node multiplies or adds constants, one per channel or one for all."""
    if is_op(node, "BatchNormalization"):
        return node.inputs[0] is value and all(constant_array(v) is not None for v in node.inputs[1:])
    if not is_op(node, *_SCALES) or not _same_shape(value, node.outputs[0]) or value.shape is None:
        return False
    # 3 / x is no scale: the constant has to stand second where the order matters.
    if node.op_type in ("Sub", "Div") and node.inputs[0] is not value:
        return False
    array = constant_array(_other(node, value))
    if array is None:
        return False
    axis = 1 if head.op_type in ("Conv", "ConvTranspose") else len(value.shape) - 1
    aligned = (1,) * (len(value.shape) - array.ndim) + array.shape
    return array.size == 1 or (aligned[axis] == array.size and aligned[axis] == value.shape[axis])


def _is_add(node: ir.Node, value: ir.Value) -> bool:
    return is_op(node, "Add", "Sum", "Max", "Min") and _same_shape(_other(node, value), value)


def _gate(value: ir.Value, order: dict[ir.Node, int], taken: dict[ir.Node, list[ir.Node]]) -> list[ir.Node]:
    """The nodes of x * f(x), and a constant factor after it; empty if `value` is not read in that way."""
    users = sorted((node for node in _users(value) if node in order), key=order.__getitem__)
    if len(users) != 2 or len(users) != len(_users(value)):
        return []
    first, product = users
    if not is_op(product, "Mul") or not _same_shape(value, product.outputs[0]):
        return []
    chain = [first]
    while len(chain) <= _GATE_LENGTH:
        last = chain[-1]
        if last in taken or not is_op(last, *_POINTWISE) or not _same_shape(value, last.outputs[0]):
            return []
        computed = [v for v in last.inputs if v is not None and constant_array(v) is None]
        result = last.outputs[0]
        if len(computed) != 1 or result.is_graph_output() or len(_users(result)) != 1:
            return []
        (following,) = _users(result)
        if following is product:
            return [] if product in taken else [*chain, product, *_factor(product, order, taken)]
        chain.append(following)
    return []


def _factor(product: ir.Node, order: dict[ir.Node, int], taken: dict[ir.Node, list[ir.Node]]) -> list[ir.Node]:
    """The division by 6 that ends a hard swish, the 0.5 that ends a GELU."""
    value = product.outputs[0]
    users = _users(value)
    if len(users) != 1 or value.is_graph_output():
        return []
    (node,) = users
    if node in taken or node not in order or not is_op(node, "Mul", "Div") or not _is_scale(node, value, product):
        return []
    array = constant_array(_other(node, value))
    return [node] if array is not None and array.size == 1 else []


def _group_after(
    node: ir.Node, order: dict[ir.Node, int], taken: dict[ir.Node, list[ir.Node]]
) -> list[ir.Node] | None:
    """The group that reads all of the node's results and would take it in."""
    readers = {user for value in node.outputs for user in _users(value)}
    if not readers or any(value.is_graph_output() for value in node.outputs) or not readers <= taken.keys():
        return None
    group = taken[next(iter(readers))]
    # The first member taken is the tail, because the walk goes backwards.
    tail = group[0]
    if any(taken[reader] is not group for reader in readers):
        return None
    pairs = (_POINTWISE, _POINTWISE), (_SHUFFLES, _SHUFFLES), (("Softmax",), ("Log", "TopK"))
    if not any(is_op(node, *before) and all(is_op(m, *after) for m in group) for before, after in pairs):
        return None
    if is_op(node, *_POINTWISE):
        fits = node.outputs[0].dtype in _FUSED_TYPES and tail.outputs[0].dtype in _FUSED_TYPES
        return group if fits and _same_shape(node.outputs[0], tail.outputs[0]) else None
    return group
