"""The order of the nodes that keeps the fewest bytes alive at once.

Which buffers are alive depends only on the set S of nodes that have run, so an order is a path through such sets, and
its peak is the largest step on it. Four things make the search short:

1. a node that is comparable to every other one cuts the order: what runs before it is forced, and the parts before and
   after it are independent (series-parallel graphs fall apart into their branches' bundles);
2. a ready node that does not raise the peak so far and leaves no more alive than before may run at once: wherever a
   best order has it later, moving it to the front only lowers what is alive in between;
3. otherwise best first by the peak so far (Dijkstra with max in place of +), which is exact, after SERENITY
   (Ahn et al., MLSys 2020, arXiv 2003.02369);
4. the work is capped; a part that asks for more is ordered by a beam search, which is not exact, or stays as it is.

The result is never worse than the order given. Limit: engines may run nodes in an order of their own, so what is
lowered for certain is the peak of the order as it is written.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import onnx_ir as ir

from hwc.reduce.live_bytes import Flow, bytes_along, flow_of

_BEAM = 24
_BEAM_WORK = 8_000_000  # looks at a node; a part that asks for more keeps its order


class _Path(NamedTuple):
    """The nodes that have run, last first: paths of one search share their beginnings."""

    before: _Path | None
    last: int


def order_nodes(flow: Flow, *, limit: int = 2_000_000) -> list[int]:
    """Node numbers in an order of low peak: the lowest where no part asks for more than `limit` looks at a node."""
    given = list(range(len(flow.reads)))
    found: list[int] = []
    for part in _parts(flow):
        found += _Part(flow, found, part).order(limit)
    return found if max(bytes_along(flow, found), default=0) < max(bytes_along(flow), default=0) else given


def reorder_model(model: ir.Model, *, limit: int = 2_000_000) -> bool:
    """Puts the nodes of the graph into a better order, in place; False if the one given is kept.

    Raises:
        UsageError: a shape is not static.
    """
    nodes = list(model.graph)
    order = order_nodes(flow_of(model), limit=limit)
    if order == list(range(len(nodes))):
        return False
    model.graph.remove(nodes)
    model.graph.extend([nodes[index] for index in order])
    return True


def _parts(flow: Flow) -> list[list[int]]:
    """The nodes cut behind every node that is comparable to all others; parts in order."""
    n = len(flow.reads)
    above, below = [0] * n, [0] * n
    for node in range(n):
        for maker in flow.after[node]:
            above[node] |= above[maker] | 1 << maker
    for node in reversed(range(n)):
        for maker in flow.after[node]:
            below[maker] |= below[node] | 1 << node
    parts: list[list[int]] = []
    taken = 0
    for node in range(n):
        if (above[node] | below[node] | 1 << node).bit_count() == n:
            mine = (above[node] | 1 << node) & ~taken
            parts.append([i for i in range(n) if mine >> i & 1])
            taken |= mine
    rest = [i for i in range(n) if not taken >> i & 1]
    return [*parts, rest] if rest else parts


class _Part:
    """One part: its own nodes, renumbered, after the nodes of the parts before it have run."""

    def __init__(self, flow: Flow, before: Sequence[int], nodes: list[int]) -> None:
        self.nodes = nodes
        mine = {node: index for index, node in enumerate(nodes)}
        done = set(before)
        self.needs = [sum(1 << mine[maker] for maker in flow.after[node] if maker in mine) for node in nodes]
        self.born = [sum(flow.sizes[b] for b in flow.makes[node]) for node in nodes]
        users: dict[int, int] = {}
        later: set[int] = set()
        for node, read in enumerate(flow.reads):
            for b in read:
                if node in mine:
                    users[b] = users.get(b, 0) | 1 << mine[node]
                elif node not in done:
                    later.add(b)
        for index, node in enumerate(nodes):  # what nobody reads dies where it was made
            for b in flow.makes[node]:
                users.setdefault(b, 1 << index)
        ends = [(mask, flow.sizes[b]) for b, mask in users.items() if b not in later and b not in flow.kept]
        self.ends_at: list[list[tuple[int, int]]] = [[] for _ in nodes]
        for mask, size in ends:
            for index in range(len(nodes)):
                if mask >> index & 1:
                    self.ends_at[index].append((mask, size))

    def order(self, limit: int) -> list[int]:
        """The part's nodes, by their numbers in the flow."""
        found = self._best(limit // max(len(self.nodes), 1))
        if found is None and _BEAM * len(self.nodes) ** 2 <= _BEAM_WORK:
            found = self._beam()
        return [self.nodes[index] for index in found] if found is not None else self.nodes

    def _run(self, done: int, index: int) -> tuple[int, int]:
        """(bytes more alive while it runs, bytes more alive after it)."""
        after = done | 1 << index
        freed = sum(size for mask, size in self.ends_at[index] if mask & ~after == 0)
        return self.born[index], self.born[index] - freed

    def _ready(self, done: int) -> list[int]:
        return [i for i, needs in enumerate(self.needs) if not done >> i & 1 and needs & ~done == 0]

    def _forced(self, done: int, alive: int, peak: int) -> int | None:
        """A node that may run at once."""
        for index in self._ready(done):
            more, left = self._run(done, index)
            if left <= 0 and alive + more <= peak:
                return index
        return None

    def _best(self, limit: int) -> list[int] | None:
        everything = (1 << len(self.nodes)) - 1
        tie = count()
        heap: list[tuple[int, int, int, int, _Path | None]] = [(0, 0, 0, 0, None)]
        seen: set[int] = set()
        # Bytes alive are counted from those at the start of the part; deepest first among equal peaks.
        while heap:
            peak, _, done, alive, path = heapq.heappop(heap)
            if done in seen:
                continue
            seen.add(done)
            if len(seen) > limit:
                return None
            if done == everything:
                return _unwind(path)
            forced = self._forced(done, alive, peak)
            for index in self._ready(done) if forced is None else [forced]:
                more, left = self._run(done, index)
                after = done | 1 << index
                if after not in seen:
                    step = (max(peak, alive + more), -after.bit_count() * 10**9 + next(tie), after, alive + left)
                    heapq.heappush(heap, (*step, _Path(path, index)))
        raise AssertionError("a graph has an order")

    def _beam(self) -> list[int]:
        states: list[tuple[int, int, int, _Path | None]] = [(0, 0, 0, None)]
        for _ in self.nodes:
            grown: dict[int, tuple[int, int, int, _Path | None]] = {}
            for peak, alive, done, path in states:
                forced = self._forced(done, alive, peak)
                for index in self._ready(done) if forced is None else [forced]:
                    more, left = self._run(done, index)
                    after = done | 1 << index
                    made = (max(peak, alive + more), alive + left, after, _Path(path, index))
                    if after not in grown or made[:2] < grown[after][:2]:
                        grown[after] = made
            states = sorted(grown.values(), key=lambda state: state[:2])[:_BEAM]
        return _unwind(states[0][3])


def _unwind(path: _Path | None) -> list[int]:
    found: list[int] = []
    while path is not None:
        found.append(path.last)
        path = path.before
    return found[::-1]
