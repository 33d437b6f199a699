"""The greedy family: buffers in one order, each put into a gap between those already there.

    order      size | size x duration | duration | start | end, ties by the others
    gap        first: the lowest that is large enough; best: the tightest, the lowest among equals

Each takes O(n * clashes) and reaches the lower bound on ordinary CNNs; on hard problems all of them are 17-41 % over
(Pisarchyk and Lee, arXiv 2001.03288, and TensorFlow Lite use "by size, best fit").

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from typing import Callable, Dict, Iterator, List, Sequence, Tuple

from hwc.artifacts_memory import Buffer

Key = Callable[[Buffer], Tuple[int, ...]]
ORDERS: Dict[str, Key] = {
    "size": lambda b: (-b.size_bytes, b.start, -b.end),
    "size x duration": lambda b: (-b.size_bytes * (b.end - b.start), -b.size_bytes, b.start),
    "duration": lambda b: (b.start - b.end, -b.size_bytes, b.start),
    "start": lambda b: (b.start, -b.size_bytes, -b.end),
    "end": lambda b: (-b.end, -b.size_bytes, b.start),
}


def greedy_plans(buffers: Sequence[Buffer]) -> Iterator[Tuple[str, Tuple[int, ...], int]]:
    """(name, offsets in bytes, height in bytes) of each member of the family, the usual best first. All one lane."""
    clashes = find_clashes(buffers)
    for order in ORDERS:
        for fit in ("best", "first"):
            offsets = place_greedily(buffers, clashes, ORDERS[order], takes_tightest=fit == "best")
            height = max((o + b.size_bytes for o, b in zip(offsets, buffers)), default=0)
            yield f"greedy by {order}, {fit} fit", offsets, height


def find_clashes(buffers: Sequence[Buffer]) -> List[List[int]]:
    """For each buffer, those alive at a common tick."""
    clashes: List[List[int]] = [[] for _ in buffers]
    alive: List[int] = []
    for i in sorted(range(len(buffers)), key=lambda i: buffers[i].start):
        alive = [j for j in alive if buffers[j].end > buffers[i].start]
        for j in alive:
            clashes[i].append(j)
            clashes[j].append(i)
        alive.append(i)
    return clashes


def place_greedily(
    buffers: Sequence[Buffer], clashes: Sequence[Sequence[int]], key: Key, *, takes_tightest: bool
) -> Tuple[int, ...]:
    """The offset of each buffer in bytes."""
    offsets = [-1] * len(buffers)
    for i in sorted(range(len(buffers)), key=lambda i: (key(buffers[i]), i)):
        size, alignment = buffers[i].size_bytes, buffers[i].alignment
        taken = sorted((offsets[j], offsets[j] + buffers[j].size_bytes) for j in clashes[i] if offsets[j] >= 0)
        top, best, tightest = 0, -1, 0
        for begin, end in taken:
            place = -(-top // alignment) * alignment
            gap = begin - place
            if gap >= size and (best < 0 or gap < tightest):
                best, tightest = place, gap
                if not takes_tightest:
                    break
            top = max(top, end)
        offsets[i] = best if best >= 0 else -(-top // alignment) * alignment
    return tuple(offsets)
