"""Groups the units on DLA into loadables, so that no loadable waits for its own output.

A loadable is compiled as one piece and runs as one piece. So if a path led out of it, through the GPU or another
loadable, and back in, neither could start first. Two steps:

1. Level of a unit = the most changes of device or batch size on any path from the inputs to it. Units on DLA that are
   joined by an edge and have one level and one batch size form a part. A path out of a part and back in changes twice,
   so it ends at a higher level: parts of one level never form a cycle, and the groups of units are ordered.
2. Levels may cut more than they must (a branch that has nothing to do with a unit can raise the level of its reader),
   so parts that share an edge are merged, in order, wherever no other way leads from the one to the other.

Limit: this is how few parts can be told from the graph. TensorRT may join fewer.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwc.dla.cut_problem import CutProblem
from hwc.errors import InternalError


def find_loadables(problem: CutProblem, labels: Sequence[bool]) -> tuple[tuple[int, ...], ...]:
    """The units of each loadable, ascending; loadables in the order of their first units."""
    edges = problem.edges()
    level = _levels(problem, labels, edges)
    part = list(range(problem.size))
    for a, b in edges:
        if labels[a] and labels[b] and level[a] == level[b] and problem.batch_at(a) == problem.batch_at(b):
            _join(part, a, b)
    changed = True
    while changed:
        changed = False
        for a, b in edges:
            is_apart = labels[a] and labels[b] and part[a] != part[b] and problem.batch_at(a) == problem.batch_at(b)
            if is_apart and not _has_detour(part, edges, part[a], part[b]):
                _join(part, a, b)
                changed = True
    groups: dict[int, list[int]] = {}
    for unit in range(problem.size):
        if labels[unit]:
            groups.setdefault(part[unit], []).append(unit)
    loadables = tuple(tuple(group) for group in groups.values())
    check_order(problem, loadables)
    return loadables


def check_order(problem: CutProblem, loadables: Sequence[Sequence[int]]) -> None:
    """Raises InternalError if loadables and the other units cannot be put in an order, or share a unit.

    By counting predecessors (Kahn), not by the levels above: this judges `find_loadables`.
    """
    owner = {}
    for index, units in enumerate(loadables):
        for unit in units:
            if unit in owner:
                raise InternalError("two DLA loadables share a unit", got=str(unit))
            owner[unit] = ("loadable", index)
    blocks = [owner.get(unit, ("unit", unit)) for unit in range(problem.size)]
    after: dict[tuple[str, int], set[tuple[str, int]]] = {block: set() for block in blocks}
    for a, b in problem.edges():
        if blocks[a] != blocks[b]:
            after[blocks[a]].add(blocks[b])
    waits = dict.fromkeys(after, 0)
    for readers in after.values():
        for reader in readers:
            waits[reader] += 1
    ready = [block for block, count in waits.items() if count == 0]
    done = 0
    while ready:
        done += 1
        for reader in after[ready.pop()]:
            waits[reader] -= 1
            if waits[reader] == 0:
                ready.append(reader)
    if done != len(after):
        stuck = sorted(index for (kind, index), count in waits.items() if count and kind == "loadable")
        raise InternalError(
            "a DLA loadable waits for its own output", where=f"loadables {stuck}", expected="an order to run in"
        )


def _levels(problem: CutProblem, labels: Sequence[bool], edges: list[tuple[int, int]]) -> list[int]:
    level = [0] * problem.size
    # Units are numbered in a topological order, so one walk over edges sorted by their end settles all.
    for a, b in sorted(edges, key=lambda edge: edge[1]):
        is_change = labels[a] != labels[b] or problem.batch_at(a) != problem.batch_at(b)
        level[b] = max(level[b], level[a] + is_change)
    return level


def _join(part: list[int], a: int, b: int) -> None:
    old, new = part[b], part[a]
    for unit, own in enumerate(part):
        if own == old:
            part[unit] = new


def _has_detour(part: list[int], edges: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether a path of blocks leads from `start` to `end`, or back, by way of another block."""
    after: dict[int, set[int]] = {}
    for a, b in edges:
        if part[a] != part[b]:
            after.setdefault(part[a], set()).add(part[b])
    for first, last in ((start, end), (end, start)):
        seen = set(after.get(first, ())) - {last}
        queue = list(seen)
        while queue:
            for following in after.get(queue.pop(), ()):
                if following == last:
                    return True
                if following not in seen:
                    seen.add(following)
                    queue.append(following)
    return False
