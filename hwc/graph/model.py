"""The few verbs that every pass needs on an `onnx_ir` model: read a constant, make a node, replace, remove, digest.

`onnx_ir.Model` is the one noun of the host half; this file adds no class around it. Two conventions hold after
`name_everything` and stay true through every pass, because engines, tables and reports refer to nodes by name:

* every node and every value has a name that is unique in the model;
* a node made by a pass carries `hwc.origin`: the names of the source nodes that it stands for, joined by '|'. `origins`
  reads them, so that a kernel of a built engine can be traced to the operators of the user's own file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

ORIGIN = "hwc.origin"
_MAX_ORIGINS = 64  # a folded constant may stem from thousands of nodes; names beyond this are counted, not kept


def constant_array(value: ir.Value | None) -> np.ndarray | None:
    """The value's data if it is an initializer or made by a Constant node, else None. Never a graph input."""
    if value is None or value.is_graph_input():
        return None
    tensor = value.const_value
    if tensor is None:
        producer = value.producer()
        if producer is None or producer.op_type != "Constant" or producer.domain:
            return None
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None:
            return None
    return np.asarray(tensor.numpy())


def opset(model: ir.Model) -> int:
    """The version of the default ONNX domain."""
    version = model.opset_imports.get("", model.graph.opset_imports.get(""))
    return int(version) if version is not None else 1


def all_names(model: ir.Model) -> set[str]:
    """Names of all values and nodes, subgraphs included."""
    return _value_names(model) | {node.name for node in model.graph.all_nodes() if node.name}


def _value_names(model: ir.Model) -> set[Any]:
    names: set[Any] = set()
    for graph in model.graphs():
        names.update(graph.initializers)
        names.update(value.name for value in graph.inputs if value.name)
    for node in model.graph.all_nodes():
        names.update(value.name for value in node.outputs if value.name)
    return names


def name_everything(model: ir.Model) -> None:
    """Gives every node and value a unique name, keeping what is there; in place, and stable for equal models."""
    # Values may legally share a name with a node, as many exporters do; only like clashes with like. Names further down
    # are taken too: a made-up name must not push out one that the file gives to a later node.
    used_values = _value_names(model)
    used_nodes = {node.name for node in model.graph.all_nodes() if node.name}
    seen: set[str] = set()
    for index, node in enumerate(model.graph.all_nodes()):
        if not node.name or node.name in seen:
            node.name = _fresh(used_nodes, node.name or f"{node.op_type}_{index}")
        seen.add(node.name)
        for position, value in enumerate(node.outputs):
            # An empty output stands for "not wanted"; it gets a name only if something reads it.
            if not value.name and (value.uses() or value.is_graph_output()):
                value.name = _fresh(used_values, f"{node.name}_out{position}")


def _fresh(used: set[Any], base: str) -> str:
    name, count = base, 1
    while name in used:
        name, count = f"{base}_{count}", count + 1
    used.add(name)
    return name


class Namer:
    """Hands out names that are new to the model; made once per pass, since collecting names walks the graph."""

    def __init__(self, model: ir.Model) -> None:
        self._used: set[Any] = all_names(model)

    def fresh(self, base: str) -> str:
        """`base`, or `base_1`, `base_2`, ... whichever is free first; the name is then taken."""
        return _fresh(self._used, base)


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer holding `array`; `name` must be new to the graph."""
    array = np.asarray(array, order="C")  # ascontiguousarray would make a scalar one-dimensional
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def make_node(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    *,
    name: str,
    outputs: Sequence[str],
    attributes: Mapping[str, Any] | None = None,
    dtype: ir.DataType | None = None,
    shapes: Sequence[Sequence[int | str | None] | ir.Shape | None] = (),
    sources: Iterable[ir.Node] = (),
    domain: str = "",
) -> ir.Node:
    """A node that is not yet in a graph.

    Args:
        outputs: names of its output values, new to the model or taken over from a value that it replaces.
        dtype: of all outputs; None leaves it to shape inference.
        shapes: one per output, in order; None or missing leaves it to shape inference.
        sources: the nodes it stands for; their origins are handed on.
    """
    attrs = ir.convenience.convert_attributes(dict(attributes or {}))
    values = []
    for index, output in enumerate(outputs):
        shape = shapes[index] if index < len(shapes) else None
        values.append(
            ir.Value(
                name=output,
                type=ir.TensorType(dtype) if dtype is not None else None,
                shape=shape if isinstance(shape, ir.Shape) or shape is None else ir.Shape(shape),
            )
        )
    node = ir.Node(domain, op_type, inputs, attrs, outputs=values, name=name)
    mark_origin(node, sources)
    return node


def mark_origin(node: ir.Node, sources: Iterable[ir.Node]) -> None:
    """Records that `node` now also stands for `sources`."""
    names = list(origins(node)) if ORIGIN in node.metadata_props else []
    for source in sources:
        names.extend(origin for origin in origins(source) if origin not in names)
    if names:
        node.metadata_props[ORIGIN] = "|".join(names[:_MAX_ORIGINS])


def origins(node: ir.Node) -> tuple[str, ...]:
    """Names of the source nodes that this node stands for: itself, unless a pass made it."""
    marked = node.metadata_props.get(ORIGIN)
    return tuple(marked.split("|")) if marked else ((node.name,) if node.name else ())


def replace_nodes(old: Sequence[ir.Node], new: Sequence[ir.Node], values: Mapping[ir.Value, ir.Value]) -> None:
    """Puts `new` (in order) where the last of `old` stands, redirects uses of each key of `values`, removes `old`.

    A replacing value takes the replaced one's name, so the names of graph outputs survive. Nodes of `old` whose results
    are still read elsewhere must not be listed; `onnx_ir` refuses to remove them.
    """
    graph = old[-1].graph
    assert graph is not None
    for node in new:
        mark_origin(node, old)
    graph.insert_after(old[-1], list(new))
    for before, after in values.items():
        name = before.name
        before.replace_all_uses_with(after, replace_graph_outputs=True)
        if after.shape is None:
            after.shape = before.shape
        if after.type is None:
            after.type = before.type
        if after.producer() in new:
            before.name = None
            after.name = name
    graph.remove(list(old), safe=True)


def bypass(node: ir.Node, replacement: ir.Value) -> None:
    """Removes a one-output node and lets `replacement` take its place.

    If the node's output is a graph output, its name must survive: the replacement is renamed when a node of the same
    graph makes it, and the caller must not ask for this otherwise (ValueError).
    """
    value = node.outputs[0]
    if not can_bypass(node, replacement):
        raise ValueError(f"{node.name}: a graph output needs a node of its own")
    if value.is_graph_output():
        name = value.name
        value.replace_all_uses_with(replacement, replace_graph_outputs=True)
        value.name = None
        replacement.name = name
    else:
        value.replace_all_uses_with(replacement)
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def can_bypass(node: ir.Node, replacement: ir.Value) -> bool:
    """Whether `bypass` is allowed.

    A graph output must be made by a node of that graph: not by an input, an initializer, another output's node, nor,
    in the body of an If or a Loop, by a node outside the body.
    """
    if not node.outputs[0].is_graph_output():
        return True
    maker = replacement.producer()
    return maker is not None and maker.graph is node.graph and not replacement.is_graph_output()


def remove_dead(model: ir.Model) -> int:
    """Removes nodes whose outputs nobody reads, and initializers without a reader; returns how many nodes went."""
    removed = 0
    for node in reversed(list(model.graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            model.graph.remove(node, safe=True)
            removed += 1
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del model.graph.initializers[name]
    return removed


def tensor_digest(tensor: ir.TensorProtocol) -> str:
    """sha256 of dtype, shape and bytes, kept with the tensor: weights are shared by all clones of a model."""
    cached = tensor.meta.get("hwc.sha256") if hasattr(tensor, "meta") else None
    if isinstance(cached, str):
        return cached
    sha = hashlib.sha256(f"{tensor.dtype}{list(tensor.shape.numpy())}".encode())
    if tensor.dtype == ir.DataType.STRING:
        sha.update(repr(tensor.numpy().tolist()).encode())
    else:
        # Seen as bytes: the buffer protocol knows neither bfloat16 nor the 4- and 8-bit types.
        sha.update(np.ascontiguousarray(tensor.numpy()).view(np.uint8).data if tensor.size else b"")
    digest = sha.hexdigest()
    if hasattr(tensor, "meta"):
        tensor.meta["hwc.sha256"] = digest
    return digest
