"""Moves integer tensors from one element type to another, in classes that must move together.

The values of one class are tied by the type variables of the nodes between them. A slot that cannot take the new type
is pinned: what a pinned node makes gets one Cast after it, what a pinned node reads gets one Cast before it, and a
pinned reader of a pinned maker keeps the old tensor, so no value is cast there and back. Constants belong to each of
their uses, so that one constant shared by two classes does not tie them. Cast nodes tie nothing: one that makes a value
of the class has its target edited, and goes when nothing is left for it to do.

Limit: main graph only; a body that reads a value from outside is a pinned reader. Whether the values fit is for the
caller to prove.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from hwc.graph.match import is_op
from hwc.graph.model import (
    Namer,
    add_initializer,
    bypass,
    can_bypass,
    constant_array,
    make_node,
    mark_origin,
    opset,
)
from hwc.graph.slots import slots_of


@dataclass(eq=False)
class TypeClass:
    """Values that change their element type together."""

    values: list[ir.Value] = field(default_factory=list)  # computed, graph inputs included
    constants: list[tuple[ir.Value, ir.Node, int]] = field(default_factory=list)  # one entry per use
    pinned_makers: set[ir.Value] = field(default_factory=set)
    pinned_uses: list[tuple[ir.Value, ir.Node, int]] = field(default_factory=list)
    readers: set[ir.Node] = field(default_factory=set)  # nodes that will read the new type; Casts of makers do not

    @property
    def cast_count(self) -> int:
        """How many Casts moving this class inserts."""
        read_back = {v for v, _, _ in self.pinned_uses} | {v for v in self.values if v.is_graph_output()}
        return len(self.pinned_makers) + len(read_back - self.pinned_makers)


def tied_classes(model: ir.Model, old: frozenset[ir.DataType], new: ir.DataType) -> list[TypeClass]:
    """The classes of all values of the main graph that have one of the `old` types, in graph order."""
    version = opset(model)
    parent: dict[object, object] = {}

    def find(key: object) -> object:
        parent.setdefault(key, key)
        while parent[key] is not key:
            key = parent[key]
        return key

    constants: dict[object, tuple[ir.Value, ir.Node, int]] = {}
    makers: set[ir.Value] = {v for v in model.graph.inputs if v.dtype in old}
    uses: list[tuple[ir.Value, ir.Node, int]] = []
    readers: list[tuple[object, ir.Node]] = []
    values: list[ir.Value] = list(makers)
    for node in model.graph:
        tied: dict[str, object] = {}
        bound = {slot.variable for slot in slots_of(node, version) if not slot.is_output}
        for slot in slots_of(node, version):
            value = slot.value
            if value.dtype not in old:
                continue
            if slot.is_output and constant_array(value) is not None:
                continue
            is_constant = not slot.is_output and constant_array(value) is not None
            key: object = (value, node, slot.position) if is_constant else value
            is_cast = is_op(node, "Cast")
            # Quantized types are part of what these compute, even where the schema lists the new one.
            is_pinned = new not in slot.allowed or is_op(node, "QuantizeLinear", "DequantizeLinear")
            # A type that no input gives comes from an attribute, which only Cast's is known here.
            is_pinned = is_pinned or (slot.is_output and slot.variable not in bound)
            if is_constant and (is_pinned and not is_cast):
                continue
            find(key)
            if is_constant:
                constants[key] = (value, node, slot.position)
            if slot.is_output:
                values.append(value)
                if is_pinned and not is_cast:
                    makers.add(value)
            elif is_pinned and not is_cast:
                uses.append((value, node, slot.position))
            elif not (is_cast and value in makers):
                readers.append((key, node))
            if slot.variable and not is_pinned and not is_cast:
                first = tied.setdefault(slot.variable, key)
                parent[find(key)] = find(first)
    classes: dict[object, TypeClass] = {}
    for value in values:
        one = classes.setdefault(find(value), TypeClass())
        one.values.append(value)
        if value in makers:
            one.pinned_makers.add(value)
        uses += [(value, use.node, use.idx) for use in value.uses() if use.node.graph is not model.graph]
    for key, use in constants.items():
        classes.setdefault(find(key), TypeClass()).constants.append(use)
    for use in uses:
        classes[find(use[0])].pinned_uses.append(use)
    for key, node in readers:
        classes[find(key)].readers.add(node)
    return list(classes.values())


def move_class(model: ir.Model, one: TypeClass, new: ir.DataType, namer: Namer) -> None:
    """Gives every value of the class the new type, in place, with the Casts that this needs."""
    graph = model.graph
    copies: dict[ir.Value, ir.Value] = {}
    for value, node, position in one.constants:
        if value not in copies:
            array = constant_array(value)
            assert array is not None
            name = namer.fresh(f"{value.name}_{new.name.lower()}")
            copies[value] = add_initializer(graph, name, array.astype(new.numpy()))
        node.replace_input_with(position, copies[value])
    for value in one.values:
        pinned = [(node, position) for v, node, position in one.pinned_uses if v is value]
        if value in one.pinned_makers:
            # A Cast reads the old tensor as well as the new one.
            movable = [u for u in value.uses() if (u.node, u.idx) not in pinned and not is_op(u.node, "Cast")]
            if movable:
                cast = _cast(graph, value, new, namer)
                for use in movable:
                    use.node.replace_input_with(use.idx, cast)
            continue
        old = value.dtype
        assert old is not None
        value.type = ir.TensorType(new)
        producer = value.producer()
        if is_op(producer, "Cast"):
            assert producer is not None
            producer.attributes["to"] = ir.AttrInt64("to", int(new))
        if not pinned and not value.is_graph_output():
            continue
        name = str(value.name)
        back = _cast(graph, value, old, namer)
        for node, position in pinned:
            node.replace_input_with(position, back)
        if value.is_graph_output():
            for index, output in enumerate(graph.outputs):
                if output is value:
                    graph.outputs[index] = back
            value.name = namer.fresh(f"{name}_{new.name.lower()}")
            back.name = name


def drop_idle_casts(model: ir.Model, dtype: ir.DataType) -> None:
    """Removes Casts to `dtype` of what has it already, in the main graph."""
    for node in list(model.graph):
        source = node.inputs[0] if is_op(node, "Cast") else None
        if source is not None and source.dtype == dtype == node.outputs[0].dtype and can_bypass(node, source):
            bypass(node, source)


def _cast(graph: ir.Graph, value: ir.Value, to: ir.DataType, namer: Namer) -> ir.Value:
    name = namer.fresh(f"{value.name}_as_{to.name.lower()}")
    cast = make_node("Cast", [value], name=name, outputs=[name], attributes={"to": int(to)}, dtype=to,
                     shapes=[value.shape])
    producer = value.producer()
    if producer is not None:
        mark_origin(cast, [producer])
        graph.insert_after(producer, cast)
    elif len(graph):
        mark_origin(cast, sorted({use.node for use in value.uses()}, key=lambda n: n.name or "")[:1])
        graph.insert_before(graph[0], cast)
    return cast.outputs[0]
