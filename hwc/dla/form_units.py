"""What is planned as one: a heavy node with the element-wise nodes that ride on it.

A node joins the unit of its producer where it is an activation, a scale, a BatchNormalization or an addition, alone
reads what it reads, and may run on DLA exactly if the unit may. Both GPU and DLA fuse such chains, so a cut through one
is never worth its transfer, and their costs would be counted twice apart. Limit: of two producers that meet in an
addition, the later one takes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from hwc.graph.model import constant_array

_HEADS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_RIDERS = ("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu",
           "BatchNormalization", "Add", "Sub", "Mul", "Div", "Max", "Min")


@dataclass(frozen=True)
class Unit:
    """Nodes that run on one device, in graph order."""

    nodes: tuple[ir.Node, ...]
    is_legal: bool


def form_units(nodes: Sequence[ir.Node], is_legal: Mapping[str, bool]) -> tuple[Unit, ...]:
    """All nodes in units; a unit stands where its last node stands, which keeps the order topological.

    Args:
        nodes: in execution order.
        is_legal: node name -> whether it may run on DLA.
    """
    order = {node: index for index, node in enumerate(nodes)}
    members: dict[ir.Node, list[ir.Node]] = {}
    groups: list[list[ir.Node]] = []
    for node in nodes:
        group = _group_to_join(node, members, order, is_legal)
        if group is None:
            group = []
            groups.append(group)
        group.append(node)
        members[node] = group
    groups.sort(key=lambda group: order[group[-1]])
    return tuple(Unit(tuple(group), is_legal[str(group[0].name)]) for group in groups)


def _group_to_join(
    node: ir.Node, members: Mapping[ir.Node, list[ir.Node]], order: Mapping[ir.Node, int], is_legal: Mapping[str, bool]
) -> list[ir.Node] | None:
    if node.op_type not in _RIDERS:
        return None
    computed = [value for value in node.inputs if value is not None and constant_array(value) is None]
    makers = sorted(
        (maker for value in computed if (maker := value.producer()) is not None and maker in members),
        key=lambda maker: order[maker], reverse=True,
    )
    for maker in makers[:1]:  # the last one: an earlier result is ready by then
        group = members[maker]
        value = maker.outputs[0]
        alone = {use.node for use in value.uses()} == {node} and not value.is_graph_output()
        is_tail = group[-1] is maker and len(maker.outputs) == 1
        same = is_legal[str(node.name)] == is_legal[str(group[0].name)]
        if alone and is_tail and same and group[0].op_type in _HEADS:
            return group
    return None
