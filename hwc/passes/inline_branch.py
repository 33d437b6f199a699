"""Puts the taken branch of an `If` in its place.

The branch's nodes and initializers move into the graph around it, in order and under names that are new there; each
output of the `If` is then read from what the branch returned. What the other branch held is gone. A branch may return
a value of an outer scope or an initializer: where that has to name a graph output, an Identity carries the name.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.graph.model import Namer, make_node, mark_origin


def inline_branch(node: ir.Node, condition: bool, names: Namer) -> None:
    """Replaces an If by its then-branch (True) or else-branch (False)."""
    graph = node.graph
    assert graph is not None
    branch = node.attributes["then_branch" if condition else "else_branch"].as_graph()
    _discard(node.attributes["else_branch" if condition else "then_branch"].as_graph())
    inner = list(branch)
    results = list(branch.outputs)
    branch.outputs.clear()
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        value.name = names.fresh(name)
        graph.register_initializer(value)
    for step in inner:
        # The two branches of one If share names as a rule, and the graph around may use them as well.
        step.name = names.fresh(str(step.name or step.op_type))
        for value in step.outputs:
            if value.name:
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


def _discard(branch: ir.Graph) -> None:
    """Takes the branch apart: its nodes would otherwise still count as readers of what is outside."""
    branch.outputs.clear()
    for inner in list(branch.all_nodes()):
        for index in range(len(inner.inputs)):
            inner.replace_input_with(index, None)
    for inner in list(branch.all_nodes()):
        for attr in inner.attributes.values():
            if attr.type == ir.AttributeType.GRAPH:
                attr.as_graph().outputs.clear()
        assert inner.graph is not None
        inner.graph.remove(inner)
