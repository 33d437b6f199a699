"""Finds where activations become integers: the tensors that get a Q/DQ pair, and who reads them behind it.

1. `find_consumers` names the inputs that want integers.
2. From each such input the walk goes up through carriers (reshapes, MaxPool, Concat, ...) as long as everything that
   reads a carrier's result wants integers too; the pair is put on the first tensor that is not carried. So a MaxPool
   that stands alone pools integers, and the inputs of a Concat are quantized instead of its output.
3. A pair never stands inside a FusionGroup: a walk that would end between two members stops one carrier earlier.
   Conv, ReLU and MaxPool thus stay together and the pool's output carries the pair, unless `rules.split_pool`.
4. All tensors that meet in one Concat share a scale (union-find); sharers are uint8 only if each is never negative.

A group in `high` reads floats: its readers are dropped from the points, and a point without readers is dropped. The
tensors that remain are a subset of those found with `high` empty, so no new statistics are ever needed.
Sources: TensorRT developer guide, "Q/DQ layer-placement recommendations"; carriers as in its Q/DQ propagation.
"""

from __future__ import annotations

import dataclasses

import onnx_ir as ir

from hwc.artifacts import FusionGroup, NearMiss
from hwc.graph.match import is_op
from hwc.graph.model import constant_array
from hwc.precision.find_nonnegative import find_nonnegative
from hwc.precision.integer_flow import Edge, carried_inputs, carries, find_consumers, group_of_node
from hwc.precision.plan import QuantPoint, QuantRules


def find_points(
    model: ir.Model, groups: tuple[FusionGroup, ...], rules: QuantRules, high: frozenset[str] = frozenset()
) -> tuple[tuple[QuantPoint, ...], tuple[NearMiss, ...]]:
    """The points in graph order, and a reason for every layer that could have been quantized and is not.

    Args:
        model: an FP32 graph with names and shapes; left as it is.
        groups: a partition of its nodes, from `form_fusion_groups`.
        high: ids of groups that read floats.
    """
    finder = _Finder(model, groups, rules)
    points, misses = finder.points(), finder.consumers.misses
    kept = drop_high(model, points, groups, high)
    put_back = tuple(NearMiss(group.id, f"{group.kind} was put back to the higher precision")
                     for group in groups if group.id in high)  # fmt: skip
    return kept, misses + put_back


def drop_high(
    model: ir.Model, points: tuple[QuantPoint, ...], groups: tuple[FusionGroup, ...], high: frozenset[str]
) -> tuple[QuantPoint, ...]:
    """The points without the readers that belong to a group in `high`, and without points that nobody reads.

    A carrier goes on reading integers as long as one group behind it does.
    """
    if not high:
        return points
    owner = group_of_node(groups)
    nodes = {str(node.name): node for node in model.graph}
    known: dict[ir.Node, frozenset[str]] = {}
    kept = []
    for point in points:
        remaining = tuple(group for group in point.groups if group not in high)
        readers = tuple(edge for edge in point.readers if _groups_behind(nodes[edge[0]], owner, known) - high)
        if readers and remaining:
            kept.append(dataclasses.replace(point, readers=readers, groups=remaining))
    return tuple(kept)


def _groups_behind(
    node: ir.Node, owner: dict[str, FusionGroup], known: dict[ir.Node, frozenset[str]]
) -> frozenset[str]:
    """Ids of the groups that compute with what this node reads: its own, or those behind a carrier."""
    if node not in known:
        own = owner.get(str(node.name))
        if not carries(node) or (own is not None and _is_inner(node, own)):
            known[node] = frozenset([own.id if own is not None else str(node.name)])
        else:
            users = {use.node for value in node.outputs for use in value.uses()}
            known[node] = frozenset().union(*(_groups_behind(user, owner, known) for user in users))
    return known[node]


def _is_inner(node: ir.Node, group: FusionGroup) -> bool:
    """Whether a computing member of the group reads the carrier (a Pad in front of its Conv)."""
    return any(str(use.node.name) in group.nodes and not carries(use.node) for v in node.outputs for use in v.uses())


class _Finder:
    def __init__(self, model: ir.Model, groups: tuple[FusionGroup, ...], rules: QuantRules) -> None:
        self.model = model
        self.rules = rules
        self.owner = group_of_node(groups)
        self.consumers = find_consumers(model, groups, rules)
        self.wanting = {(node, index) for node, index in self.consumers.edges}
        self._carried: dict[ir.Node, bool] = {}
        self._wanted: dict[ir.Value, bool] = {}
        self._parent: dict[str, str] = {}

    def points(self) -> tuple[QuantPoint, ...]:
        readers: dict[ir.Value, dict[tuple[str, int], None]] = {}
        groups: dict[ir.Value, dict[str, None]] = {}
        for node, index in self.consumers.edges:
            group = self.owner.get(str(node.name))
            for value, edge in self._sources(node, index):
                readers.setdefault(value, {})[(str(edge[0].name), edge[1])] = None
                groups.setdefault(value, {})[group.id if group is not None else str(node.name)] = None
        place = {value: index for index, value in enumerate(self.model.graph.inputs)}
        start = len(place)
        place.update((v, start + i) for i, node in enumerate(self.model.graph) for v in node.outputs)
        ordered = sorted(readers, key=place.__getitem__)
        first: dict[str, str] = {}
        for value in ordered:
            first.setdefault(self._root(str(value.name)), str(value.name))
        share = {value: first[self._root(str(value.name))] for value in ordered}
        positive = find_nonnegative(self.model)
        signed = {share[value] for value in ordered if value.name not in positive}
        return tuple(
            QuantPoint(str(v.name), tuple(readers[v]), share[v], share[v] not in signed, tuple(groups[v]))
            for v in ordered
        )

    def _sources(self, node: ir.Node, index: int) -> list[tuple[ir.Value, Edge]]:
        """Where the pairs for one wanting edge stand; joins the scales of what meets in a Concat."""
        value = node.inputs[index]
        assert value is not None
        source = value.producer()
        if source is None or not self._is_carried(source):
            return [(value, (node, index))]
        found = [place for i in carried_inputs(source) for place in self._sources(source, i)]
        for other, _ in found[1:]:
            self._join(str(found[0][0].name), str(other.name))
        return found

    def _is_carried(self, node: ir.Node) -> bool:
        """Whether the pair may stand in front of this carrier instead of behind it."""
        if node not in self._carried:
            self._carried[node] = False  # a graph has no cycles; this only marks the visit
            self._carried[node] = (
                carries(node)
                and node.graph is self.model.graph
                and all(self._may_stand_before(node, i) for i in carried_inputs(node))
                and all(self._all_want(value) for value in node.outputs)
            )
        return self._carried[node]

    def _may_stand_before(self, node: ir.Node, index: int) -> bool:
        value = node.inputs[index]
        if value is None or constant_array(value) is not None or value.dtype != ir.DataType.FLOAT:
            return False
        source = value.producer()
        if source is None:
            return True
        own, before = self.owner.get(str(node.name)), self.owner.get(str(source.name))
        is_inside = own is not None and before is not None and own.id == before.id
        return self._is_carried(source) or not is_inside or (self.rules.split_pool and is_op(node, "MaxPool"))

    def _all_want(self, value: ir.Value) -> bool:
        if value not in self._wanted:  # kept, because nested Concats would ask again and again
            self._wanted[value] = not value.is_graph_output() and all(self._wants(u.node, u.idx) for u in value.uses())
        return self._wanted[value]

    def _wants(self, node: ir.Node, index: int) -> bool:
        if (node, index) in self.wanting:
            return True
        if node.graph is not self.model.graph or not carries(node) or index not in carried_inputs(node):
            return False
        return all(self._all_want(value) for value in node.outputs)

    def _root(self, name: str) -> str:
        while self._parent.get(name, name) != name:
            name = self._parent[name]
        return name

    def _join(self, a: str, b: str) -> None:
        self._parent[self._root(b)] = self._root(a)
