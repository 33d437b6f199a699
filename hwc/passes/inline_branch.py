"""Puts the taken branch of an `If` in its place.

The branch's nodes and initializers move into the graph around it, in order; names stay unless the graph has them; each
output of the `If` is then read from what the branch returned. What the other branch held is gone. A branch may return
a value of an outer scope or an initializer: where that has to name a graph output, an Identity carries the name.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from hwc.graph.model import Namer, make_node, mark_origin


def inline_branch(model: ir.Model, node: ir.Node, condition: bool, names: Namer) -> None:
    """Replaces an If by its then-branch (True) or else-branch (False)."""
    graph = node.graph
    assert graph is not None
    branch = node.attributes["then_branch" if condition else "else_branch"].as_graph()
    _discard(node.attributes["else_branch" if condition else "then_branch"].as_graph())
    inner = list(branch)
    results = list(branch.outputs)
    branch.outputs.clear()
    used = _count_names(model)
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        value.name = names.fresh(name) if used[name] > 1 else name
        graph.register_initializer(value)
    for step in inner:
        # The branches of one If share value names as a rule; node names are unique in the whole model.
        for value in step.outputs:
            if value.name and used[value.name] > 1:
                value.name = names.fresh(value.name)
        mark_origin(step, [step, node])
    branch.remove(inner)
    graph.insert_before(node, inner)
    for out, result in zip(list(node.outputs), results):
        taken = result
        if out.is_graph_output() and (result.producer() not in inner or result.is_graph_output()):
            carrier = make_node("Identity", [result], name=names.fresh(f"{node.name}_out"), outputs=["_"],
                                dtype=out.dtype, shapes=[out.shape], sources=[node])
            graph.insert_before(node, carrier)
            taken = carrier.outputs[0]
        is_output = out.is_graph_output()
        out.replace_all_uses_with(taken, replace_graph_outputs=True)
        if is_output:
            taken.name, out.name = out.name, None
    graph.remove(node, safe=True)


def _count_names(model: ir.Model) -> Counter[str]:
    """How often each value name occurs, over all scopes: an inlined name must not be shadowed by an inner one."""
    counts: Counter[str] = Counter()
    for graph in model.graphs():
        counts.update(str(value.name) for value in graph.inputs)
        counts.update(name for name, value in graph.initializers.items() if not value.is_graph_input())
        counts.update(str(value.name) for step in graph for value in step.outputs if value.name)
    return counts


def _discard(branch: ir.Graph) -> None:
    """Takes the branch apart: its nodes would otherwise still count as readers of what is outside."""
    branch.outputs.clear()
    branch.initializers.clear()
    for inner in list(branch.all_nodes()):
        for index in range(len(inner.inputs)):
            inner.replace_input_with(index, None)
    for inner in list(branch.all_nodes()):
        for attr in inner.attributes.values():
            if attr.type == ir.AttributeType.GRAPH:
                attr.as_graph().outputs.clear()
        assert inner.graph is not None
        inner.graph.remove(inner)
