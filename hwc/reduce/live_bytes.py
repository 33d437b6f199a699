"""Bytes of activations alive at once when the nodes of a graph run one after the other.

A tensor lives from the node that makes it to the last node that reads it; a graph input from the first node on, a
graph output to the last node. At a node, its inputs and its outputs are all alive. Weights are not counted. Reshape,
Squeeze, Unsqueeze, Flatten and Identity hand on the bytes of their input, so a view and its source are one buffer that
lives as long as either. So do element-wise functions of one tensor that nobody else reads (Relu, Clip, a batch
normalisation): engines fuse them into the node before, or write them in place. Sums of two tensors and joins are not
written in place here, although an engine may.

    peak = max over nodes t of   sum of size(b) over buffers b with  born(b) <= t <= dies(b)

This is a lower bound for any placement of the buffers, and a placement of that size is nearly always found. Limit:
static shapes; a value read inside a body (If, Loop) counts as read by the last node.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from hwc.cost.count_flops import POINTWISE_OPS
from hwc.errors import UsageError

VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
_IN_PLACE = POINTWISE_OPS | {"BatchNormalization"}


@dataclass(frozen=True)
class Flow:
    """A graph as the planner of an order sees it: nodes 0..n-1 and buffers 0..m-1.

    Args:
        sizes: bytes per buffer.
        makes: buffers born at each node.
        reads: buffers each node reads, each once.
        born_first: graph inputs: alive before the first node.
        kept: graph outputs: alive after the last node.
        after: for each node, the nodes that must run before it.
    """

    sizes: tuple[int, ...]
    makes: tuple[tuple[int, ...], ...]
    reads: tuple[tuple[int, ...], ...]
    born_first: frozenset[int]
    kept: frozenset[int]
    after: tuple[frozenset[int], ...]


def size_of(value: ir.Value) -> int:
    """Bytes of the value.

    Raises:
        UsageError: its type or a dimension is not known.
    """
    dims = [dim for dim in value.shape or () if isinstance(dim, int)]
    if value.shape is None or value.dtype is None or len(dims) != len(value.shape):
        raise UsageError(
            "memory is planned for fixed shapes only", where=str(value.name), got=str(value.shape),
            do="give every dimension a size with --input-shapes",
        )  # fmt: skip
    return math.ceil(math.prod(dims) * value.dtype.itemsize)


def root_of(value: ir.Value) -> ir.Value:
    """The value whose bytes this one shows: itself, unless its maker `shares_input`."""
    producer = value.producer()
    while producer is not None and shares_input(producer):
        source = producer.inputs[0]
        assert source is not None
        value, producer = source, source.producer()
    return value


def shares_input(node: ir.Node) -> bool:
    """Whether the node's result lies where its first input lay: a view, or a function computed in place."""
    if node.domain or not node.inputs or node.inputs[0] is None:
        return False
    if node.op_type in VIEWS:
        return True
    value = node.inputs[0]
    if node.op_type not in _IN_PLACE or value.producer() is None or is_weight(value) or value.is_graph_output():
        return False
    if len(value.uses()) != 1 or value.dtype != node.outputs[0].dtype or value.shape != node.outputs[0].shape:
        return False
    return value.shape is not None and not any(
        other is not None and not is_weight(other) for other in node.inputs[1:]
    )


def is_weight(value: ir.Value) -> bool:
    """Whether the value is constant, and so no activation."""
    producer = value.producer()
    is_constant = producer is not None and producer.op_type in ("Constant", "ConstantOfShape")
    return is_constant or (value.is_initializer() and not value.is_graph_input())


def flow_of(model: ir.Model) -> Flow:
    """The graph of the model, nodes in graph order.

    Raises:
        UsageError: a shape is not static.
    """
    nodes = list(model.graph)
    place = {node: index for index, node in enumerate(nodes)}
    ids: dict[ir.Value, int] = {}
    sizes: list[int] = []

    def buffer(value: ir.Value | None) -> int | None:
        if value is None or not value.name or is_weight(root := root_of(value)):
            return None
        if root not in ids:
            ids[root] = len(sizes)
            sizes.append(size_of(root))
        return ids[root]

    def known(values: Sequence[ir.Value | None]) -> tuple[int, ...]:
        found = (buffer(value) for value in values)
        return tuple(dict.fromkeys(item for item in found if item is not None))

    born_first = frozenset(known(model.graph.inputs))
    makes, reads, after = [], [], []
    inside: dict[ir.Node, list[ir.Value]] = {}
    for node in model.graph.all_nodes():
        if node not in place:
            for value in node.inputs:
                if value is not None and value.producer() in place:
                    inside.setdefault(nodes[-1], []).append(value)
    for node in nodes:
        read = known([*node.inputs, *inside.get(node, ())])
        reads.append(read)
        makes.append(tuple(b for b in known(node.outputs) if b not in read and b not in born_first))
        makers = (value.producer() for value in node.inputs if value is not None)
        bodies = (value.producer() for value in inside.get(node, ()))
        after.append(frozenset(place[maker] for maker in (*makers, *bodies) if maker in place and maker is not node))
    return Flow(tuple(sizes), tuple(makes), tuple(reads), born_first, frozenset(known(model.graph.outputs)),
                tuple(after))  # fmt: skip


def bytes_along(flow: Flow, order: Sequence[int] | None = None) -> list[int]:
    """Bytes alive at each node, in the order in which they run (graph order if none is given)."""
    order = range(len(flow.reads)) if order is None else order
    readers = [0] * len(flow.sizes)
    for read in flow.reads:
        for b in read:
            readers[b] += 1
    alive = sum(flow.sizes[b] for b in flow.born_first)
    along = []
    unread = [b for b in flow.born_first if not readers[b] and b not in flow.kept]
    for node in order:
        alive += sum(flow.sizes[b] for b in flow.makes[node])
        along.append(alive)
        dead = [b for b in flow.makes[node] if not readers[b] and b not in flow.kept] + unread
        unread = []
        for b in flow.reads[node]:
            readers[b] -= 1
            if not readers[b] and b not in flow.kept:
                dead.append(b)
        alive -= sum(flow.sizes[b] for b in dead)
    return along


def peak_bytes(model: ir.Model) -> int:
    """Most bytes alive at once in graph order; 0 for a graph without nodes.

    Raises:
        UsageError: a shape is not static.
    """
    return max(bytes_along(flow_of(model)), default=0)
