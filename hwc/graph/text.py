"""The canonical print of a graph: equal graphs give equal text, and a diff of two texts reads as a change of the graph.

One line a node, in graph order, which is what engines see:

    %conv1 = Conv(%x, @w, @b) {kernel_shape=[3, 3], strides=[2, 2]}  # conv1: float32[1,16,112,112]

`%` marks a computed value, `@` an initializer. Initializers are listed with a digest of their data, so `digest_model`,
the sha256 of this text, covers weights too. Metadata and doc strings are left out: they change nothing that runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import onnx_ir as ir

from hwc.graph.model import tensor_digest


def print_model(model: ir.Model, *, weights: bool = True) -> str:
    """The whole model as text; `weights=False` leaves the digests out, for golden files that pin structure only."""
    lines = [f"opset {domain or 'ai.onnx'} {version}" for domain, version in sorted(model.opset_imports.items())]
    lines += _print_graph(model.graph, "", weights)
    for function in sorted(model.functions.values(), key=lambda f: str(f.identifier())):
        taken, given = (", ".join(_ref(value) for value in side) for side in (function.inputs, function.outputs))
        lines.append(f"function {function.identifier()} ({taken}) => ({given})")
        lines += [line for node in function for line in _print_node(node, "  ", weights)]
    return "\n".join(lines) + "\n"


def digest_model(model: ir.Model) -> str:
    """sha256 of the canonical text, weights included."""
    return hashlib.sha256(print_model(model).encode()).hexdigest()


def type_text(value: ir.Value) -> str:
    """'float32[1,16,112,112]', with '?' for what is not known."""
    kind = value.dtype.numpy().name if value.dtype is not None and value.dtype != ir.DataType.STRING else "?"
    if value.dtype == ir.DataType.STRING:
        kind = "string"
    if value.shape is None:
        return f"{kind}[...]"
    return f"{kind}[{','.join('?' if str(dim) == 'None' else str(dim) for dim in value.shape)}]"


def _print_graph(graph: ir.Graph | ir.GraphView, indent: str, weights: bool) -> Iterator[str]:
    for value in graph.inputs:
        yield f"{indent}input %{value.name}: {type_text(value)}"
    for name, value in sorted(graph.initializers.items()):
        tensor = value.const_value
        data = f" {tensor_digest(tensor)[:16]}" if weights and tensor is not None else ""
        yield f"{indent}weight @{name}: {type_text(value)}{data}"
    for node in graph:
        yield from _print_node(node, indent, weights)
    for value in graph.outputs:
        yield f"{indent}output {_ref(value)}: {type_text(value)}"


def _print_node(node: ir.Node, indent: str, weights: bool) -> Iterator[str]:
    outputs = ", ".join(_ref(value) if value.name else "_" for value in node.outputs)
    inputs = ", ".join("_" if value is None else _ref(value) for value in node.inputs)
    plain, graphs = [], []
    for name, attr in sorted(node.attributes.items()):
        if attr.is_ref():
            plain.append(f"{name}=&{attr.ref_attr_name}")
        elif attr.type == ir.AttributeType.GRAPH:
            graphs.append((name, attr.as_graph()))
        elif attr.type == ir.AttributeType.GRAPHS:
            graphs.extend((f"{name}[{i}]", graph) for i, graph in enumerate(attr.as_graphs()))
        elif attr.type == ir.AttributeType.TENSOR:
            tensor = attr.as_tensor()
            data = f" {tensor_digest(tensor)[:16]}" if weights else ""
            plain.append(f"{name}=<{tensor.dtype}{list(tensor.shape.numpy())}{data}>")
        else:
            value = list(attr.value) if isinstance(attr.value, (tuple, list)) else attr.value
            plain.append(f"{name}={value!r}")
    domain = f"{node.domain}::" if node.domain else ""
    attributes = f" {{{', '.join(plain)}}}" if plain else ""
    types = ", ".join(type_text(value) for value in node.outputs)
    yield f"{indent}{outputs} = {domain}{node.op_type}({inputs}){attributes}  # {node.name}: {types}"
    for name, graph in graphs:
        yield f"{indent}  {name}:"
        yield from _print_graph(graph, indent + "    ", weights)


def _ref(value: ir.Value) -> str:
    return f"@{value.name}" if value.is_initializer() else f"%{value.name}"
