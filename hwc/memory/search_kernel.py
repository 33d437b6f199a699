"""The inner loop of the search: plain loops over sequences, which numba compiles and Python runs as they are.

A state is a skyline. Sections are the maximal sets of buffers alive together, in order of time; floor[s] is the height
below which nothing more can be put in section s. A buffer cannot sit lower than low = max(floor over its sections).

    bound      in each section, put the unplaced buffers in order of `low`, each at max(top so far, low): one machine
               with release dates, whose end no plan of the section undercuts. More than the capacity: fail.
    floors     a section whose unplaced buffers all have low > floor gets floor = min(low): that space is lost.
    split      where no unplaced buffer crosses from a section to the next, the two sides are problems of their own.
    branch     in a valley of the skyline (both neighbours higher) take the section with the fewest choices. Somebody
               sits on its floor: one branch for each buffer that can. Or nobody does: then the lowest one there stands
               on a buffer that is not in the section, which gives its next possible height; what lies under is lost.
    failures   the same unplaced buffers over the same floors fail again; keys of failed parts are kept.

"Nobody" is tried after every "somebody" failed, so no two branches hold the same plan. The search is complete: any plan
can be pushed down until each buffer stands on the ground or on another, and what is placed never moves. So a search
that ends within its budget proves that there is no plan (up to a clash of 93-bit keys).

Canonical plans, inference on sections and splitting are ideas of M. D. Moffitt, "MiniMalloc", ASPLOS 2023,
doi 10.1145/3623278.3624752, written anew; branching on a section and keeping failures are not from there.

Part of the device half: Python 3.8, numpy only. Every function here gets compiled: sequences, numbers, no objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FOUND, IMPOSSIBLE, OUT_OF_BUDGET = 1, 0, -1
TRAIL, PLACED, NODES, BUDGET, SPILLED = 0, 1, 2, 3, 4  # slots of Work.counters
_FAR = 1 << 60
# Primes below 2^31, so that a product of two residues fits 64 bits with and without unbounded integers.
_A, _B, _C = 2147483647, 2147483629, 2147483587


def unwind(trail_mark: int, placed_mark: int, p: Any, w: Any) -> None:
    """Takes back every change made since the two marks."""
    sections = len(w.floor)
    for k in range(w.counters[TRAIL] - 1, trail_mark - 1, -1):
        index = w.trail_index[k]
        if index < sections:
            w.floor[index] = w.trail_value[k]
        else:
            w.low[index - sections] = w.trail_value[k]
    w.counters[TRAIL] = trail_mark
    for k in range(w.counters[PLACED] - 1, placed_mark - 1, -1):
        i = w.placed[k]
        w.is_placed[i] = 0
        for s in range(p.first[i], p.last[i] + 1):
            w.alive[s] += 1
            w.load[s] += p.size[i]
    w.counters[PLACED] = placed_mark


def raise_floor(s: int, height: int, w: Any) -> None:
    """Sets floor[s] and remembers what it was."""
    k = w.counters[TRAIL]
    w.trail_index[k] = s
    w.trail_value[k] = w.floor[s]
    w.counters[TRAIL] = k + 1
    w.floor[s] = height


def raise_low(i: int, height: int, w: Any) -> None:
    """Sets low[i] and remembers what it was."""
    k = w.counters[TRAIL]
    w.trail_index[k] = len(w.floor) + i
    w.trail_value[k] = w.low[i]
    w.counters[TRAIL] = k + 1
    w.low[i] = height


def place(i: int, p: Any, w: Any) -> None:
    """Puts buffer i at low[i]; it becomes the floor of its sections."""
    w.is_placed[i] = 1
    w.placed[w.counters[PLACED]] = i
    w.counters[PLACED] += 1
    for s in range(p.first[i], p.last[i] + 1):
        w.alive[s] -= 1
        w.load[s] -= p.size[i]
        raise_floor(s, w.low[i] + p.size[i], w)


def propagate(begin: int, end: int, capacity: int, p: Any, w: Any) -> bool:
    """Carries new floors of sections begin..end-1 to the buffers there; False if some section then overflows."""
    left, right = begin, end
    for s in range(begin, end):
        for k in range(p.start[s], p.start[s + 1]):
            i = p.items[k]
            if w.is_placed[i] or (p.first[i] != s and s != begin):
                continue  # placed, or seen in an earlier section
            height = w.low[i]
            for t in range(max(p.first[i], begin), min(p.last[i] + 1, end)):
                height = max(height, w.floor[t])
            height = (height + p.align[i] - 1) // p.align[i] * p.align[i]
            if height > w.low[i]:
                raise_low(i, height, w)
                left = min(left, p.first[i])
                right = max(right, p.last[i] + 1)
    # A generator cannot be compiled.
    for s in range(left, right):  # noqa: SIM110
        if w.alive[s] and end_of_section(s, p, w) > capacity:
            return False
    return True


def end_of_section(s: int, p: Any, w: Any) -> int:
    """The bound of section s, which must hold an unplaced buffer; raises its floor to where the lowest can sit."""
    count = 0
    for k in range(p.start[s], p.start[s + 1]):
        i = p.items[k]
        if w.is_placed[i]:
            continue
        at = count
        while at > 0 and w.low[w.queue[at - 1]] > w.low[i]:
            w.queue[at] = w.queue[at - 1]
            at -= 1
        w.queue[at] = i
        count += 1
    if w.low[w.queue[0]] > w.floor[s]:
        raise_floor(s, w.low[w.queue[0]], w)
    top = 0
    for k in range(count):
        i = w.queue[k]
        top = max(top, w.low[i]) + p.size[i]
    return top


def choose_section(begin: int, end: int, capacity: int, p: Any, w: Any) -> int:
    """The section with the fewest choices among those in a valley; among equals the one with least space to lose."""
    best, best_cost, best_slack = -1, _FAR, _FAR
    s = begin
    while s < end:
        stop = s + 1
        while stop < end and w.floor[stop] == w.floor[s]:
            stop += 1
        if (s == begin or w.floor[s - 1] > w.floor[s]) and (stop == end or w.floor[stop] > w.floor[s]):
            for t in range(s, stop):
                slack = capacity - w.floor[t] - w.load[t]
                cost = 1 if slack > 0 else 0
                for k in range(p.start[t], p.start[t + 1]):
                    i = p.items[k]
                    if not w.is_placed[i] and w.low[i] == w.floor[t]:
                        cost += 1
                if cost < best_cost or (cost == best_cost and slack < best_slack):
                    best, best_cost, best_slack = t, cost, slack
        s = stop
    return best


def find_choices(s: int, p: Any, w: Any, rank: Any, choices: Any) -> int:
    """Fills `choices` with the buffers that can sit on the floor of section s, by rank; returns how many.

    Of equal buffers (sections, size, alignment) one is enough.
    """
    count = 0
    for k in range(p.start[s], p.start[s + 1]):
        i = p.items[k]
        if w.is_placed[i] or w.low[i] != w.floor[s]:
            continue
        is_twin = False
        for m in range(count):
            j = choices[m]
            if p.first[j] == p.first[i] and p.last[j] == p.last[i] and p.size[j] == p.size[i]:
                is_twin = is_twin or p.align[j] == p.align[i]
        if is_twin:
            continue
        at = count
        while at > 0 and rank[choices[at - 1]] > rank[i]:
            choices[at] = choices[at - 1]
            at -= 1
        choices[at] = i
        count += 1
    return count


def height_if_nobody(s: int, p: Any, w: Any) -> int:
    """The lowest height in section s once nobody sits on its floor."""
    answer = _FAR
    for k in range(p.start[s], p.start[s + 1]):
        c = p.items[k]
        if w.is_placed[c]:
            continue
        if w.low[c] > w.floor[s]:
            answer = min(answer, w.low[c])
            continue
        for t in range(p.first[c], p.last[c] + 1):
            for m in range(p.start[t], p.start[t + 1]):
                d = p.items[m]
                if not w.is_placed[d] and (p.last[d] < s or p.first[d] > s):
                    answer = min(answer, w.low[d] + p.size[d])
    return answer


def find_parts(begin: int, end: int, p: Any, w: Any, bounds: Any) -> int:
    """Fills `bounds` with begin, end of each run of sections that unplaced buffers join; returns how many."""
    parts = 0
    s = begin
    while s < end:
        if not w.alive[s]:
            s += 1
            continue
        reach, t = s, s
        while t <= reach:
            for k in range(p.start[t], p.start[t + 1]):
                i = p.items[k]
                if not w.is_placed[i]:
                    reach = max(reach, p.last[i])
            t += 1
        bounds[2 * parts] = s
        bounds[2 * parts + 1] = reach + 1
        parts += 1
        s = reach + 1
    return parts


def write_key(begin: int, end: int, p: Any, w: Any, key: Any) -> None:
    """Three residues that stand for the part: its sections, their floors, and who is unplaced there."""
    a, b, c = begin + 1, begin + 3, begin + 7
    for s in range(begin, end):
        a = (a * 1000003 + w.floor[s] % _A) % _A
        b = (b * 998244353 + w.floor[s] % _B) % _B
        c = (c * 19260817 + w.floor[s] % _C) % _C
        for k in range(p.start[s], p.start[s + 1]):
            i = p.items[k]
            if not w.is_placed[i] and p.first[i] == s:
                a = (a + p.salts_a[i]) % _A
                b = (b + p.salts_b[i]) % _B
                c = (c + p.salts_c[i]) % _C
    key[0], key[1], key[2] = a, b, c


def solve(begin: int, end: int, capacity: int, rank: Any, p: Any, w: Any) -> int:
    """Places every unplaced buffer of sections begin..end-1, or leaves all as it was.

    Returns:
    """
    trail_mark, placed_mark = w.counters[TRAIL], w.counters[PLACED]
    bounds = np.empty(2 * (end - begin), np.int64)
    parts = find_parts(begin, end, p, w, bounds)
    if parts != 1:
        for k in range(parts):
            result = solve(bounds[2 * k], bounds[2 * k + 1], capacity, rank, p, w)
            if result != FOUND:
                unwind(trail_mark, placed_mark, p, w)
                return result
        return FOUND
    begin, end = bounds[0], bounds[1]
    w.counters[NODES] += 1
    if w.counters[NODES] > w.counters[BUDGET]:
        return OUT_OF_BUDGET
    key = np.empty(3, np.int64)
    write_key(begin, end, p, w, key)
    slot = (key[0] * 31 + key[1]) % len(w.failed_a)
    if w.failed_a[slot] == key[0] and w.failed_b[slot] == key[1] and w.failed_c[slot] == key[2]:
        return IMPOSSIBLE
    while True:
        # No step adds more than this; compiled code does not check that an index is inside.
        if len(w.trail_index) - w.counters[TRAIL] < len(w.low) + 2 * len(w.floor):
            w.counters[SPILLED] = 1
            unwind(trail_mark, placed_mark, p, w)
            return OUT_OF_BUDGET
        s = choose_section(begin, end, capacity, p, w)
        choices = np.empty(p.start[s + 1] - p.start[s], np.int64)
        inner_trail, inner_placed = w.counters[TRAIL], w.counters[PLACED]
        for k in range(find_choices(s, p, w, rank, choices)):
            i = choices[k]
            place(i, p, w)
            if propagate(p.first[i], p.last[i] + 1, capacity, p, w):
                result = solve(begin, end, capacity, rank, p, w)
                if result == FOUND:
                    return FOUND
                if result == OUT_OF_BUDGET:
                    unwind(trail_mark, placed_mark, p, w)
                    return OUT_OF_BUDGET
            unwind(inner_trail, inner_placed, p, w)
        height = height_if_nobody(s, p, w)
        is_possible = height + w.load[s] <= capacity
        if is_possible:
            raise_floor(s, height, w)
            is_possible = propagate(s, s + 1, capacity, p, w)
        if not is_possible:
            unwind(trail_mark, placed_mark, p, w)
            w.failed_a[slot], w.failed_b[slot], w.failed_c[slot] = key[0], key[1], key[2]
            return IMPOSSIBLE
