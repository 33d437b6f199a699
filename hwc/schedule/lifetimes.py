"""Lifetimes of a graph's tensors: which bytes are alive from which step to which.

    tick       the position of a node, or of a fusion group, in the order of execution
    result     alive from the tick that makes it to the last that reads it, that one included; a graph output to the end
    input      alive from tick 0 to its last reader: it is copied into the pool before the run
    weights    are not in the pool, and nor is what a Constant node makes

A group is one kernel: what only its members read is never stored. With `quantized`, neither is the floating-point side
of a Q/DQ pair: a DequantizeLinear's result is its integer input, and a result that only a QuantizeLinear reads is made
as integers, as engines do that fuse them.

Storage is shared by the rules of hwc/schedule/storage.py. `reuse` is "none", "view", "in place" or "part", each with
those before it, or "best": the first of these with the lowest bound.

Limits: kernels' own workspace is not known here; bodies of If and Loop count as one step, and what they make inside
does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from hwc.artifacts import FusionGroup, TensorSpec
from hwc.artifacts_memory import Buffer
from hwc.errors import InternalError, UsageError
from hwc.memory.lifetimes import lower_bound
from hwc.schedule.storage import Storage, Tensor
from hwc.schedule.tensor_sizes import tensor_sizes

REUSE = ("none", "view", "in place", "part")


@dataclass(frozen=True)
class Lifetimes:
    """The buffers of a graph, and where in them each tensor lies: tensor name -> (buffer name, offset in bytes).

    `reuse` is the rule that was applied; `ticks` names the node or group at each tick.
    """

    buffers: tuple[Buffer, ...]
    places: Mapping[str, tuple[str, int]]
    reuse: str
    ticks: tuple[str, ...]


def lifetimes_of(
    model: ir.Model, order: Sequence[ir.Node] | None = None, sizes: str = "opt", *,
    inputs: Sequence[TensorSpec] = (), groups: Sequence[FusionGroup] = (), reuse: str = "best", quantized: bool = False,
    alignment: int = 1,
) -> tuple[Buffer, ...]:  # fmt: skip
    """The buffers of the graph. Arguments and errors as for `find_lifetimes`."""
    return find_lifetimes(model, order, sizes, inputs=inputs, groups=groups, reuse=reuse, quantized=quantized,
                          alignment=alignment).buffers  # fmt: skip


def find_lifetimes(
    model: ir.Model, order: Sequence[ir.Node] | None = None, sizes: str = "opt", *,
    inputs: Sequence[TensorSpec] = (), groups: Sequence[FusionGroup] = (), reuse: str = "best", quantized: bool = False,
    alignment: int = 1,
) -> Lifetimes:  # fmt: skip
    """The buffers of the graph, and the place of each tensor.

    Args:
        order: all nodes of the main graph, each after those it reads; None for the graph's own order.
        sizes: "min", "opt" or "max" of dynamic dimensions.
        inputs: specs of the inputs; needed only where a dimension is dynamic.
        groups: fusion groups that cover every node, in order of execution; not together with `order`.
        alignment: of every buffer, in bytes.

    Raises:
        UsageError: a size is not known, or `reuse` is none of the rules.
        InternalError: `order` or `groups` do not fit the graph.
    """
    if reuse not in (*REUSE, "best"):
        raise UsageError("no such rule of reuse", expected=", ".join((*REUSE, "best")), got=reuse)
    steps = _steps(model, order, groups)
    names = tuple(name for name, _ in steps)
    tick = {node: index for index, (_, nodes) in enumerate(steps) for node in nodes}
    known = tensor_sizes(model, inputs, sizes)
    stands_for = _integers(model) if quantized else {}
    tensors = _tensors(model, tick, known, stands_for, {v for group in groups for v in group.outputs}, bool(groups))
    best: Lifetimes | None = None
    for rule in REUSE if reuse == "best" else (reuse,):
        storage = Storage(list(tensors))
        rules = frozenset(REUSE[1:REUSE.index(rule) + 1])
        for index, (_, nodes) in enumerate(steps):
            if len(nodes) == 1:
                storage.apply(nodes[0], index, rules)
        made = _describe(storage, rule, names, alignment, stands_for)
        if best is None or lower_bound(made.buffers) < lower_bound(best.buffers):
            best = made
    assert best is not None
    return best


def _steps(
    model: ir.Model, order: Sequence[ir.Node] | None, groups: Sequence[FusionGroup]
) -> list[tuple[str, list[ir.Node]]]:
    """(name, nodes) of each tick."""
    own = list(model.graph)
    if groups:
        by_name = {node.name: node for node in own}
        steps = [(group.id, [by_name[name] for name in group.nodes if name in by_name]) for group in groups]
        if order is not None or sum(len(nodes) for _, nodes in steps) != len(own):
            raise InternalError("the groups do not cover the graph", expected=f"{len(own)} nodes, each once",
                                got=f"{sum(len(nodes) for _, nodes in steps)}")  # fmt: skip
    else:
        steps = [(str(node.name), [node]) for node in (own if order is None else order)]
    place = {node: index for index, (_, nodes) in enumerate(steps) for node in nodes}
    if len(place) != len(own) or any(node not in place for node in own):
        raise InternalError("the order does not hold every node once", expected=str(len(own)), got=str(len(place)))
    for node in own:
        for value in _reads(node):
            producer = value.producer()
            if producer is not None and place.get(producer, -1) > place[node]:
                raise InternalError("a node runs before what it reads is made", where=str(node.name),
                                    got=f"'{value.name}' comes later")  # fmt: skip
    return steps


def _reads(node: ir.Node) -> list[ir.Value]:
    """What the node reads, with what the bodies of an If or a Loop read from outside."""
    found = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        bodies = (
            [attribute.as_graph()] if attribute.type == ir.AttributeType.GRAPH
            else list(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else []
        )  # fmt: skip
        for body in bodies:
            found += [value for inner in body.all_nodes() for value in inner.inputs if value is not None]
            found += list(body.outputs)
    return found


def _integers(model: ir.Model) -> dict[str, str]:
    """Floating-point tensor -> the integer tensor that is stored instead."""
    stands_for: dict[str, str] = {}
    for node in reversed(list(model.graph)):
        source = node.inputs[0] if node.inputs else None
        if source is None or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if source.const_value is not None or node.outputs[0].is_graph_output() or source.is_graph_input():
            continue
        if node.op_type == "DequantizeLinear":
            stands_for[str(node.outputs[0].name)] = str(source.name)
        elif len(source.uses()) == 1 and not source.is_graph_output():
            stands_for[str(source.name)] = str(node.outputs[0].name)
    return stands_for


def _final(name: str, stands_for: Mapping[str, str]) -> str:
    while name in stands_for:
        name = stands_for[name]
    return name


def _tensors(
    model: ir.Model, tick: Mapping[ir.Node, int], sizes: Mapping[str, int], stands_for: Mapping[str, str],
    group_outputs: set[str], has_groups: bool,
) -> list[Tensor]:  # fmt: skip
    last = len(set(tick.values()))
    tensors: dict[str, Tensor] = {}
    for value in model.graph.inputs:
        if not value.is_initializer():
            name = str(value.name)
            tensors[name] = Tensor(name, sizes[name], 0, 1, is_input=True, is_output=value.is_graph_output())
    for node in sorted(tick, key=lambda node: tick[node]):
        if node.op_type == "Constant":
            continue
        for value in node.outputs:
            if not value.name or (has_groups and value.name not in group_outputs and not value.is_graph_output()):
                continue
            name = _final(value.name, stands_for)
            at = tick[node]
            known = tensors.setdefault(name, Tensor(name, sizes[name], at, at + 1))
            known.start, known.end = min(known.start, at), max(known.end, at + 1)
            known.is_output = known.is_output or value.is_graph_output()
    for node, at in tick.items():
        for value in _reads(node):
            read = tensors.get(_final(str(value.name), stands_for))
            if read is not None:
                read.end = max(read.end, at + 1)
    for tensor in tensors.values():
        if tensor.is_output:
            tensor.end = last
    return [tensor for tensor in tensors.values() if tensor.size]


def _describe(
    storage: Storage, rule: str, ticks: tuple[str, ...], alignment: int, stands_for: Mapping[str, str]
) -> Lifetimes:
    buffers: list[Buffer] = []
    places: dict[str, tuple[str, int]] = {}
    for root in storage.roots():
        whole = [tensor.name for tensor, _ in root.members if tensor.size == root.size]
        name = whole[0] if whole else root.members[0][0].name
        buffers.append(Buffer(name, root.size, root.start, root.end, "", alignment))
        for tensor, offset in root.members:
            places[tensor.name] = (name, offset)
    for name in stands_for:
        if _final(name, stands_for) in places:
            places[name] = places[_final(name, stands_for)]
    return Lifetimes(tuple(buffers), places, rule, ticks)
