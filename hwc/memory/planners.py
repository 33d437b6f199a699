"""The planner: the greedy family first, and the search where that does not reach what was asked.

    1. each lane is planned alone, since lanes never share a byte; the lanes are then stacked
    2. greedy plans in turn until one reaches the goal: the lower bound, or the capacity where one lane is given one
    3. else the search at the goal. Where it proves that there is no plan, the lower bound rises by one unit and the
       search goes on; where no capacity is given and its share of the time ends first, the rest goes to heights
       between the goal and the best plan, halving the distance.

What comes back is the best plan found and the best bound proved. A plan that does not fit the capacity is no error
here: `plan.fits`, `plan.is_impossible` and `plan.bound_bytes` say how it stands. hwc/memory/check.py judges.

Part of the device half: Python 3.8, numpy only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from hwc.artifacts_memory import Buffer, Lane, MemoryPlan
from hwc.errors import UsageError
from hwc.memory.greedy import greedy_plans
from hwc.memory.lifetimes import lanes_of, lower_bound


@dataclass
class _Best:
    """The state of one lane's planning: the best plan so far and the bound proved so far."""

    offsets: Tuple[int, ...]
    height: int
    bound: int
    method: str
    nodes: int = 0


def plan(
    buffers: Sequence[Buffer], capacity: Optional[int] = None, seconds: float = 10.0, *, may_compile: bool = True
) -> MemoryPlan:
    """Offsets for all buffers, as low as could be found.

    Args:
        capacity: bytes. A plan that keeps to it ends the work, even if a lower one may exist. None asks for the lowest.
        seconds: for the search, shared by the lanes, the loading of its compiled form apart; 0 is greedy alone.
        may_compile: whether the search may use its compiled form, whose first use takes seconds.

    Raises:
        UsageError: two buffers of one name, or a capacity below zero.
    """
    began = time.monotonic()
    buffers = tuple(buffers)
    if len({buffer.name for buffer in buffers}) < len(buffers):
        names = [buffer.name for buffer in buffers]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError("two buffers have one name", where=f"buffer '{twice}'")
    if capacity is not None and capacity < 0:
        raise UsageError("a capacity cannot be negative", got=f"{capacity} bytes")
    lane_names = lanes_of(buffers)
    offsets = [0] * len(buffers)
    lanes: List[Lane] = []
    methods: List[str] = []
    base = nodes = 0
    for name in lane_names:
        own = [i for i, buffer in enumerate(buffers) if buffer.lane == name]
        inside = [buffers[i] for i in own]
        goal = capacity if len(lane_names) == 1 else None
        best = _plan_lane(inside, goal, seconds / len(lane_names), may_compile)
        alignment = max(buffer.alignment for buffer in inside)
        base = -(-base // alignment) * alignment
        for i, offset in zip(own, best.offsets):
            offsets[i] = base + offset
        lanes.append(Lane(name, base, best.height, best.bound))
        methods.append(best.method)
        nodes += best.nodes
        base += best.height
    return MemoryPlan(
        buffers, tuple(offsets), base, sum(lane.bound_bytes for lane in lanes), tuple(lanes), capacity,
        "; ".join(dict.fromkeys(methods)), nodes, time.monotonic() - began,
    )  # fmt: skip


def _plan_lane(buffers: Sequence[Buffer], capacity: Optional[int], seconds: float, may_compile: bool) -> _Best:
    bound = lower_bound(buffers)
    goal = bound if capacity is None else max(bound, capacity)
    best = _Best((), 1 << 62, bound, "")
    for method, offsets, height in greedy_plans(buffers):
        if height < best.height:
            best = _Best(offsets, height, bound, method)
        if best.height <= goal:
            return best
    if seconds > 0 and (capacity is None or capacity >= bound):
        _search_below(buffers, best, goal, capacity is not None, seconds, may_compile)
    return best


def _search_below(
    buffers: Sequence[Buffer], best: _Best, goal: int, capacity_is_goal: bool, seconds: float, may_compile: bool
) -> None:
    """Lowers `best` towards the goal and raises its bound, until they meet or the time is over.

    A capacity that is the goal gets all the time: a plan between it and the best one would not fit either.
    """
    from hwc.memory.search import Search  # numpy is loaded only where a search is needed

    deadline = time.monotonic() + seconds
    real = [i for i, buffer in enumerate(buffers) if buffer.size_bytes]
    search = Search(
        [buffers[i].size_bytes for i in real], [buffers[i].start for i in real], [buffers[i].end for i in real],
        [buffers[i].alignment for i in real],
    )  # fmt: skip
    target, is_first, open_from = goal, True, goal
    while best.height > max(goal, best.bound) and time.monotonic() < deadline:
        left = deadline - time.monotonic()
        share = 1.0 if capacity_is_goal else 0.6 if is_first else 0.3
        found = search.run(target, time.monotonic() + max(share * left, 0.02), may_compile=may_compile)
        is_first = False
        deadline += found.loading_seconds
        best.nodes += found.nodes
        if found.offsets is not None:
            spread = [0] * len(buffers)
            for i, offset in zip(real, found.offsets):
                spread[i] = offset
            best.offsets = tuple(spread)
            best.height = max(offset + buffers[i].size_bytes for i, offset in zip(real, found.offsets))
            best.method = f"search, {found.engine}"
        elif found.is_proof:
            # Heights are multiples of the unit, so the next one that may exist is one unit up.
            best.bound = max(best.bound, min((target // search.unit + 1) * search.unit, best.height))
            if capacity_is_goal:
                return
            goal = max(goal, best.bound)
            open_from = max(open_from, best.bound)
        else:
            open_from = max(open_from, target + search.unit)
        if found.is_proof and open_from == best.bound:
            target = best.bound
        else:
            target = (open_from + best.height - search.unit) // 2 // search.unit * search.unit
            if target < open_from:
                return
