"""Time cut into sections: the maximal sets of buffers that are alive together.

A set of live buffers is maximal where a start is followed by an end; any other moment sees a subset of such a set, and
a plan that is right in the maximal ones is right everywhere. A buffer then lives in a run of sections, and two buffers
clash if and only if their runs meet.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import List, Sequence, Tuple


def find_sections(starts: Sequence[int], ends: Sequence[int]) -> List[int]:
    """One tick inside each maximal set, ascending."""
    ordered_starts, ordered_ends = sorted(set(starts)), sorted(set(ends))
    ticks = []
    for k, tick in enumerate(ordered_starts):
        next_end = ordered_ends[bisect_right(ordered_ends, tick)]
        if k + 1 == len(ordered_starts) or next_end <= ordered_starts[k + 1]:
            ticks.append(tick)
    return ticks


def find_runs(starts: Sequence[int], ends: Sequence[int], ticks: Sequence[int]) -> Tuple[List[int], List[int]]:
    """First and last section, both included, of each buffer."""
    first = [bisect_left(ticks, start) for start in starts]
    last = [bisect_left(ticks, end) - 1 for end in ends]
    return first, last


def list_members(first: Sequence[int], last: Sequence[int], sections: int) -> List[List[int]]:
    """The buffers of each section."""
    members: List[List[int]] = [[] for _ in range(sections)]
    for i, (begin, end) in enumerate(zip(first, last)):
        for s in range(begin, end + 1):
            members[s].append(i)
    return members
