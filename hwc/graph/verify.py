"""What a legal graph is, checked before and after every pass.

Rules, each named in its message:
1. names: every node has one, no two nodes share one, no two values of one scope share one;
2. order: a node reads only what an earlier node, an input, an initializer or an outer scope made;
3. schema: the operator exists in the model's opset with these attributes and this many inputs and outputs;
4. outputs: every graph output is made in its own graph: a body of an If may not return a value from outside;
5. links: a value's users and a node's inputs agree (a pass that bypassed `onnx_ir`'s setters would break this).

Types and shapes are rule 6, and they are `shapes.infer_shapes`: it runs onnx's strict inference, which refuses a
contradiction. Operators of other domains pass rule 3: whether an engine has them is the engine's to say.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx_ir as ir

from hwc.errors import InternalError
from hwc.graph.model import opset


def verify_model(model: ir.Model, stage: str) -> None:
    """Raises at the first rule that is broken.

    Args:
        stage: what was just done, for the message ("before fold_batchnorm").

    Raises:
        InternalError: the graph is not legal; names rule, node and value.
    """
    version = opset(model)
    node_names: set[str] = set()
    _verify_graph(model.graph, frozenset(), version, stage, node_names)


def _verify_graph(
    graph: ir.Graph, outer: frozenset[ir.Value], version: int, stage: str, node_names: set[str]
) -> None:
    known: set[ir.Value] = set(outer)
    own: set[ir.Value] = set()
    names: set[str] = set()

    def define(value: ir.Value, where: str) -> None:
        if value.name in names:
            raise _illegal(stage, "names", f"two values are called '{value.name}'", where)
        if value.name:
            names.add(value.name)
        known.add(value)
        own.add(value)

    for value in graph.inputs:
        define(value, "graph inputs")
    for name, value in graph.initializers.items():
        if value.name != name:
            raise _illegal(stage, "names", f"initializer '{name}' calls itself '{value.name}'", "initializers")
        if not value.is_graph_input():
            define(value, "initializers")
        if value.const_value is None:
            raise _illegal(stage, "outputs", f"initializer '{name}' has no data", "initializers")
    for node in graph:
        where = f"{node.op_type} '{node.name}'"
        if not node.name:
            raise _illegal(stage, "names", "a node has no name", where)
        if node.name in node_names:
            raise _illegal(stage, "names", f"two nodes are called '{node.name}'", where)
        node_names.add(node.name)
        for index, read in enumerate(node.inputs):
            if read is None:
                continue
            if read not in known:
                raise _illegal(stage, "order", f"input {index} '{read.name}' is read before anything makes it", where)
            if (node, index) not in read.uses():
                raise _illegal(stage, "links", f"'{read.name}' does not list this node among its users", where)
        _verify_schema(node, version, stage, where)
        for attr in node.attributes.values():
            if attr.is_ref():
                continue
            if attr.type == ir.AttributeType.GRAPH:
                _verify_graph(attr.as_graph(), frozenset(known), version, stage, node_names)
            elif attr.type == ir.AttributeType.GRAPHS:
                for subgraph in attr.as_graphs():
                    _verify_graph(subgraph, frozenset(known), version, stage, node_names)
        for value in node.outputs:
            if value.name:
                define(value, where)
            else:
                known.add(value)
    for value in graph.outputs:
        if value not in own:
            raise _illegal(stage, "outputs", f"nothing makes graph output '{value.name}'", "graph outputs")


@cache
def _schema(op_type: str, version: int) -> Any:
    import onnx.defs

    try:
        return onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None


def _verify_schema(node: ir.Node, version: int, stage: str, where: str) -> None:
    if node.domain not in ("", "ai.onnx"):
        return
    schema = _schema(node.op_type, version)
    if schema is None:
        raise _illegal(stage, "schema", f"opset {version} has no operator '{node.op_type}'", where)
    # Trailing empty outputs count as absent; inputs may be None in the middle.
    if not schema.min_input <= len(node.inputs) <= schema.max_input:
        expected = f"{schema.min_input} to {schema.max_input} inputs"
        raise _illegal(stage, "schema", f"wants {expected}, has {len(node.inputs)}", where)
    for index, formal in enumerate(schema.inputs[: len(node.inputs)]):
        if node.inputs[index] is None and formal.option.name == "Single":
            raise _illegal(stage, "schema", f"input {index} ({formal.name}) is required and empty", where)
    if not schema.min_output <= len(node.outputs) <= schema.max_output:
        expected = f"{schema.min_output} to {schema.max_output} outputs"
        raise _illegal(stage, "schema", f"wants {expected}, has {len(node.outputs)}", where)
    for name in node.attributes:
        if name not in schema.attributes:
            raise _illegal(stage, "schema", f"has no attribute '{name}' in opset {version}", where)
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in node.attributes:
            raise _illegal(stage, "schema", f"lacks its attribute '{name}'", where)


def _illegal(stage: str, rule: str, what: str, where: str) -> InternalError:
    return InternalError(
        f"the graph is not legal {stage}: {what}",
        where=where,
        expected=f"rule '{rule}' of hwc.graph.verify",
        do="please report this with the model; `--passes=-NAME` leaves the pass out meanwhile",
    )
