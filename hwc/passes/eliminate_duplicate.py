"""Merges what is there twice.

1. Initializers with equal dtype, shape and bytes become one.
2. Nodes with the same operator, inputs, attributes and wanted outputs become one, in graph order, so that whole equal
   branches collapse in one run.

Limits: random operators and nodes with subgraphs are never merged, nor two nodes that both name graph outputs. Passes
that change a weight make a copy of it, so merged weights do not hinder them.
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.model import mark_origin, tensor_digest
from hwc.passes.base import PassContext, PassReport

_RANDOM = (
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout",
)  # fmt: skip
_SUBGRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def eliminate_duplicate(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the two cases."""
    count = _merge_initializers(model.graph)
    misses: list[NearMiss] = []
    for graph in model.graphs():
        count += _merge_nodes(graph, misses)
    return PassReport(count, tuple(misses))


def _merge_initializers(graph: ir.Graph) -> int:
    first: dict[str, ir.Value] = {}
    count = 0
    for name, value in list(graph.initializers.items()):
        if value.const_value is None or value.is_graph_input() or value.is_graph_output():
            continue
        kept = first.setdefault(tensor_digest(value.const_value), value)
        if kept is not value:
            value.replace_all_uses_with(kept)
            del graph.initializers[name]
            count += 1
    return count


def _merge_nodes(graph: ir.Graph, misses: list[NearMiss]) -> int:
    first: dict[Hashable, ir.Node] = {}
    count = 0
    for node in list(graph):
        key = _key(node)
        if key is None:
            continue
        kept = first.setdefault(key, node)
        if kept is node:
            continue
        if any(value.is_graph_output() for value in node.outputs):
            if any(value.is_graph_output() for value in kept.outputs):
                misses.append(NearMiss(str(node.name), f"it and its equal {kept.name} both name graph outputs"))
                continue
            _lend_names(kept, node)
        for ours, theirs in zip(node.outputs, kept.outputs):
            ours.replace_all_uses_with(theirs, replace_graph_outputs=True)
        mark_origin(kept, [kept, node])
        graph.remove(node, safe=True)
        count += 1
    return count


def _lend_names(kept: ir.Node, node: ir.Node) -> None:
    """The survivor's values take the names of graph outputs, which must not change."""
    for ours, theirs in zip(node.outputs, kept.outputs):
        if ours.is_graph_output():
            name, ours.name = ours.name, None
            theirs.name = name


def _key(node: ir.Node) -> Hashable | None:
    attributes: list[Hashable] = []
    for name, attr in sorted(node.attributes.items()):
        if attr.is_ref() or attr.type in _SUBGRAPHS:
            return None
        is_tensor = attr.type == ir.AttributeType.TENSOR
        attributes.append((name, str(attr.type), tensor_digest(attr.value) if is_tensor else repr(attr.value)))
    if node.op_type in _RANDOM:
        return None
    inputs = tuple(None if value is None else id(value) for value in node.inputs)
    wanted = tuple(bool(value.name) for value in node.outputs)
    return (node.domain, node.op_type, node.overload, inputs, tuple(attributes), wanted)
