"""The cheapest split of a graph's units into two sides, exactly, as a minimum cut found by maximum flow.

Source side = GPU, sink side = DLA. Each unit u has an edge source -> u of its DLA cost (cut when u is on DLA) and
u -> sink of its GPU cost. For a tensor with producer p and readers r, costs are paid once however many readers are on
the other side, so each direction gets a node of its own:

    p -> a (to_dla), a -> r (infinite) for each reader     r on DLA pulls a there, then p on the GPU pays to_dla
    r -> b (infinite) for each reader, b -> p (to_gpu)     r on the GPU pulls b there, then p on DLA pays to_gpu

Every such term is submodular, so the minimum cut is the optimum (Kolmogorov, Zabih, PAMI 26(2), 2004). Flow by
Dinic's algorithm, in whole numbers. Among several optimal cuts the one with the fewest units on DLA is returned: only
what still reaches the sink when the flow is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from hwc.dla.cut_problem import OUTSIDE, CutProblem, Labels


class _Network:
    def __init__(self) -> None:
        self.heads: list[list[int]] = []
        self.to: list[int] = []
        self.room: list[int] = []

    def node(self) -> int:
        self.heads.append([])
        return len(self.heads) - 1

    def edge(self, a: int, b: int, capacity: int) -> None:
        for start, end, room in ((a, b, capacity), (b, a, 0)):
            self.heads[start].append(len(self.to))
            self.to.append(end)
            self.room.append(room)

    def saturate(self, source: int, sink: int) -> None:
        """Sends the maximum flow; what is left in `room` is the residual network."""
        while True:
            level = self._levels(source, sink)
            if level[sink] < 0:
                return
            upto = [0] * len(self.heads)
            while self._push(source, sink, level, upto):
                pass

    def _levels(self, source: int, sink: int) -> list[int]:
        level = [-1] * len(self.heads)
        level[source] = 0
        queue = deque([source])
        while queue:
            at = queue.popleft()
            for edge in self.heads[at]:
                if self.room[edge] > 0 and level[self.to[edge]] < 0:
                    level[self.to[edge]] = level[at] + 1
                    queue.append(self.to[edge])
        return level

    def _push(self, source: int, sink: int, level: list[int], upto: list[int]) -> bool:
        """One augmenting path of the level graph, without recursion: graphs are deeper than Python's stack."""
        path: list[int] = []
        at = source
        while at != sink:
            edges = self.heads[at]
            while upto[at] < len(edges):
                edge = edges[upto[at]]
                if self.room[edge] > 0 and level[self.to[edge]] == level[at] + 1:
                    break
                upto[at] += 1
            if upto[at] == len(edges):
                if not path:
                    return False
                level[at] = -1
                at = self.to[path.pop() ^ 1]
                continue
            path.append(edges[upto[at]])
            at = self.to[path[-1]]
        flow = min(self.room[edge] for edge in path)
        for edge in path:
            self.room[edge] -= flow
            self.room[edge ^ 1] += flow
        return True

    def reaches(self, sink: int) -> set[int]:
        """Nodes from which residual edges lead to the sink."""
        seen, queue = {sink}, deque([sink])
        while queue:
            at = queue.popleft()
            for edge in self.heads[at]:
                before = self.to[edge]
                if before not in seen and self.room[edge ^ 1] > 0:
                    seen.add(before)
                    queue.append(before)
        return seen


def find_min_cut(problem: CutProblem, *, fixed_on_gpu: Sequence[int] = (), entry_penalty: int = 0) -> Labels:
    """The labels of least cost; ties go to the GPU.

    Args:
        fixed_on_gpu: units that may not go to DLA, beside those without a cost there.
        entry_penalty: added to the price of each tensor's way to DLA, to get fewer parts.
    """
    pinned = set(fixed_on_gpu)
    infinite = 1 + sum(problem.gpu) + sum(cost or 0 for cost in problem.dla) + sum(
        t.to_dla + t.to_gpu + entry_penalty for t in problem.transfers
    )
    network = _Network()
    units = [network.node() for _ in range(problem.size)]
    source, sink = network.node(), network.node()
    for unit in units:
        price = None if unit in pinned else problem.dla[unit]
        network.edge(source, unit, infinite if price is None else price)
        network.edge(unit, sink, problem.gpu[unit])
    for transfer in problem.transfers:
        producer = source if transfer.producer == OUTSIDE else units[transfer.producer]
        readers = [units[reader] for reader in transfer.readers]
        if readers:
            inward = network.node()
            network.edge(producer, inward, transfer.to_dla + entry_penalty)
            for reader in readers:
                network.edge(inward, reader, infinite)
        if producer == source:
            continue
        outward = network.node()
        network.edge(outward, producer, transfer.to_gpu)
        for reader in [*readers, *([source] if transfer.goes_out else [])]:
            network.edge(reader, outward, infinite)
    network.saturate(source, sink)
    on_dla = network.reaches(sink)
    return tuple(unit in on_dla for unit in units)
