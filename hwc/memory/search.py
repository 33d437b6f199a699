"""A placement at a given capacity, or the proof that there is none: the driver of search_kernel.py.

One run of the kernel depends much on the order in which it tries buffers, and no order is good for all problems. So
runs are short and many: each round takes the orders below in turn, with a budget of nodes that grows by GROWTH from
round to round. From the second round on, keys are shaken by a factor of 0.5 to 1.5 (seeded, so that equal problems
give equal plans). Parts that failed stay known from run to run. A run that ends by itself is the answer for good.

    area       size times duration, largest first
    duration   longest first
    size       largest first
    weight     duration times the square root of size, largest first
    end        latest end first

Small problems are interpreted: to load the compiled kernel takes longer than they do. Once INTERPRETED_WORK is spent,
or at once where it would not pay for placing every buffer one time, the compiled kernel takes over if numba is there.

Part of the device half: Python 3.8, numpy only.
"""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from dataclasses import dataclass
from functools import reduce
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from hwc.memory import compiled, search_kernel
from hwc.memory.search_kernel import BUDGET, FOUND, IMPOSSIBLE, NODES, OUT_OF_BUDGET, SPILLED
from hwc.memory.search_state import Problem, Work
from hwc.memory.sections import find_runs, find_sections, list_members

FIRST_BUDGET, GROWTH = 1000, 1.3
INTERPRETED_WORK = 500_000  # nodes times members of all sections: some half a second of interpreting
_TABLE_SLOTS = 1 << 18
_STACK_BYTES_PER_BUFFER = 16 << 10


@dataclass(frozen=True)
class Found:
    """The end of a search. `offsets` is None unless a plan was found; `is_proof` means that there is none.

    `loading_seconds` went into loading or making the compiled kernel; the deadline was moved by as much.
    """

    offsets: Optional[Tuple[int, ...]]
    is_proof: bool
    nodes: int
    engine: str  # "interpreted" or "compiled"
    loading_seconds: float = 0.0


class Search:
    """One problem, asked about any number of capacities. All buffers are of one lane and have at least one byte."""

    def __init__(
        self, sizes: Sequence[int], starts: Sequence[int], ends: Sequence[int], alignments: Sequence[int]
    ) -> None:
        # Only multiples of the unit can be an offset that matters, and small numbers keep the keys and bounds exact.
        self.unit = reduce(math.gcd, [*sizes, *(a for a in alignments if a > 1)], 0)
        self.sizes = [size // self.unit for size in sizes]
        self.alignments = [max(1, alignment // self.unit) for alignment in alignments]
        ticks = find_sections(starts, ends)
        self.first, self.last = find_runs(starts, ends, ticks)
        self.members = list_members(self.first, self.last, len(ticks))
        self.durations = [end - start for start, end in zip(starts, ends)]
        self._trail = 16 * (len(sizes) + 2 * len(ticks)) + 1024

    def run(self, capacity: int, deadline: float, *, may_compile: bool = True) -> Found:
        """Searches until found, proved or `deadline` (of time.monotonic).

        Args:
            capacity: bytes.
            may_compile: whether the compiled kernel may be used.
        """
        return _on_deep_stack(lambda: self._run(capacity // self.unit, deadline, may_compile), len(self.sizes))

    def _run(self, capacity: int, deadline: float, may_compile: bool) -> Found:
        shaker = random.Random(0)
        kernel, engine = search_kernel, "interpreted"
        problem, work = self._arrays(as_lists=True)
        nodes, slow, turn = 0, 0.0, 0
        budget = max(FIRST_BUDGET, 2 * len(self.sizes))  # a run without a wrong turn has a node for each buffer
        orders, loading = self._orders(), 0.0
        while True:
            left = deadline + loading - time.monotonic()
            if left <= 0:
                return Found(None, False, nodes, engine, loading)
            allowed = budget
            if engine == "interpreted" and may_compile and compiled.can_compile():
                allowed = min(budget, INTERPRETED_WORK // len(problem.items) - nodes)
                if allowed < len(self.sizes):
                    began = time.monotonic()
                    kernel, engine = compiled.load_compiled(), "compiled"
                    problem, work = self._arrays(as_lists=False)
                    self._once(kernel, problem, work, capacity, _rank(orders[0], None), 0)  # compiles, and no more
                    loading, turn, slow = time.monotonic() - began, 0, 0.0
                    continue
            # A run cannot be interrupted, so its budget is what the slowest run so far says can be done in time.
            if slow > 0:
                allowed = max(1, min(allowed, int(left / slow)))
            rank = _rank(orders[turn % len(orders)], shaker if turn >= len(orders) else None)
            began = time.monotonic()
            result = self._once(kernel, problem, work, capacity, rank, allowed)
            if result == OUT_OF_BUDGET and work.counters[SPILLED]:
                self._trail *= 4
                problem, work = self._arrays(as_lists=engine == "interpreted")
            done = int(work.counters[NODES])
            nodes += done
            if done > 100:
                slow = max(slow, (time.monotonic() - began) / done)
            if result == FOUND:
                return Found(tuple(int(low) * self.unit for low in work.low), False, nodes, engine, loading)
            if result == IMPOSSIBLE:
                return Found(None, True, nodes, engine, loading)
            turn += 1
            if turn % len(orders) == 0:
                budget = int(budget * GROWTH)

    def _once(self, kernel: Any, problem: Problem, work: Work, capacity: int, rank: Any, budget: int) -> int:
        """One run of the kernel from the empty state."""
        for s, inside in enumerate(self.members):
            work.floor[s] = 0
            work.alive[s] = len(inside)
            work.load[s] = sum(self.sizes[i] for i in inside)
        for i in range(len(self.sizes)):
            work.low[i] = work.is_placed[i] = 0
        for slot in range(len(work.counters)):
            work.counters[slot] = 0
        work.counters[BUDGET] = budget
        sections = len(self.members)
        order = rank if isinstance(work.low, list) else np.array(rank, np.int64)
        if not kernel.propagate(0, sections, capacity, problem, work):
            return IMPOSSIBLE
        return int(kernel.solve(0, sections, capacity, order, problem, work))

    def _arrays(self, *, as_lists: bool) -> Tuple[Problem, Work]:
        def shaped(values: Sequence[int]) -> Any:
            return list(values) if as_lists else np.array(values, np.int64)

        count, sections = len(self.sizes), len(self.members)
        start = [0]
        for inside in self.members:
            start.append(start[-1] + len(inside))
        salts = random.Random(1)
        keys = [shaped([salts.randrange(1 << 31) for _ in range(count)]) for _ in range(3)]
        problem = Problem(
            shaped(self.sizes), shaped(self.alignments), shaped(self.first), shaped(self.last), shaped(start),
            shaped([i for inside in self.members for i in inside]), *keys,
        )  # fmt: skip
        slots = _TABLE_SLOTS if not as_lists else _TABLE_SLOTS >> 4
        work = Work(
            shaped([0] * 5), shaped([0] * self._trail), shaped([0] * self._trail), shaped([0] * count),
            shaped([0] * sections), shaped([0] * sections), shaped([0] * sections), shaped([0] * count),
            shaped([0] * count), shaped([0] * count), *(shaped([-1] * slots) for _ in range(3)),
        )  # fmt: skip
        return problem, work

    def _orders(self) -> List[List[float]]:
        pairs = list(zip(self.sizes, self.durations))
        return [
            [-float(size) * duration for size, duration in pairs],
            [-float(duration) for _, duration in pairs],
            [-float(size) for size, _ in pairs],
            [-float(duration) * math.sqrt(size) for size, duration in pairs],
            [-float(last) - 1 for last in self.last],
        ]


def _rank(keys: Sequence[float], shaker: Optional[random.Random]) -> List[int]:
    """The place of each buffer when sorted by its key; small is tried first."""
    if shaker is not None:
        keys = [key * shaker.uniform(0.5, 1.5) for key in keys]
    rank = [0] * len(keys)
    for place, i in enumerate(sorted(range(len(keys)), key=lambda i: (keys[i], i))):
        rank[i] = place
    return rank


def _on_deep_stack(function: Any, buffers: int) -> Any:
    """Calls the function on a thread whose stack is deep enough to recurse once for each buffer."""
    box: List[Any] = []

    def call() -> None:
        try:
            box.append((function(), None))
        except BaseException as error:  # handed to the caller below
            box.append((None, error))

    limit, stack = sys.getrecursionlimit(), threading.stack_size()
    try:
        sys.setrecursionlimit(max(limit, 8 * buffers + 1000))
        threading.stack_size((32 << 20) + buffers * _STACK_BYTES_PER_BUFFER)
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
    finally:
        threading.stack_size(stack)
    thread.join()
    sys.setrecursionlimit(limit)
    value, error = box[0]
    if error is not None:
        raise error
    return value
