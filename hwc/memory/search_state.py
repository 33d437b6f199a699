"""What the search reads and writes: tuples of one-dimensional sequences, numpy arrays when compiled and lists when not.

Compiled code needs arrays; the interpreter reads lists some five times faster. Both index alike, and nothing here is
two-dimensional, so the one kernel (search_kernel.py) runs on either.

Part of the device half: Python 3.8, numpy only.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Problem(NamedTuple):
    """Never changes during a search. Sizes and heights are in units (bytes over their greatest common divisor).

    Buffer i lives in sections first[i]..last[i], both included; those of section s are items[start[s]:start[s+1]].
    `salts_*` are random numbers, one per buffer, of the keys of failed parts.
    """

    size: Any
    align: Any
    first: Any
    last: Any
    start: Any
    items: Any
    salts_a: Any
    salts_b: Any
    salts_c: Any


class Work(NamedTuple):
    """Changes during a search.

    Args:
        counters: lengths of the two stacks, nodes seen, most nodes allowed, whether the trail was too short.
        trail_index, trail_value: old values of floors (index below the number of sections) and of `low`.
        placed: buffers in the order placed.
        floor, alive, load: per section: its height, and number and total size of the buffers not yet placed.
        low, is_placed: per buffer: the lowest offset it may have (its offset once placed).
        queue: scratch, one per buffer.
        failed_a, failed_b, failed_c: keys of parts that failed, a table with one entry per slot.
    """

    counters: Any
    trail_index: Any
    trail_value: Any
    placed: Any
    floor: Any
    alive: Any
    load: Any
    low: Any
    is_placed: Any
    queue: Any
    failed_a: Any
    failed_b: Any
    failed_c: Any
