"""How much is alive when, and the least that any plan needs.

    live(t) = sum of sizes of the buffers with start <= t < end
    bound   = max over t of live(t), for each lane; lanes add up because they never share a byte

A size counts as it is: rounding up to an alignment can cost more, so the bound stays a bound. It is reached by most
networks and by few hard problems; a search that fails within its budget of work may prove a higher one.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Sequence, Tuple

from hwc.artifacts_memory import Buffer


def lanes_of(buffers: Iterable[Buffer]) -> Tuple[str, ...]:
    """Names of the lanes, sorted."""
    return tuple(sorted({buffer.lane for buffer in buffers}))


def live_bytes(buffers: Sequence[Buffer]) -> Tuple[Tuple[int, int], ...]:
    """(tick, bytes alive from that tick on) at each tick where the sum changes; lanes are taken on one clock."""
    change: Dict[int, int] = {}
    for buffer in buffers:
        change[buffer.start] = change.get(buffer.start, 0) + buffer.size_bytes
        change[buffer.end] = change.get(buffer.end, 0) - buffer.size_bytes
    steps: List[Tuple[int, int]] = []
    alive = 0
    for tick in sorted(change):
        alive += change[tick]
        steps.append((tick, alive))
    return tuple(steps)


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Bytes that no plan undercuts: the most alive at once, added up over lanes; 0 without buffers."""
    total = 0
    for lane in lanes_of(buffers):
        own = [buffer for buffer in buffers if buffer.lane == lane]
        total += max(alive for _, alive in live_bytes(own))
    return total


def peak_tick(buffers: Sequence[Buffer]) -> int:
    """The first tick at which most bytes are alive, over all lanes on one clock.

    Raises:
        ValueError: there are no buffers.
    """
    return max(live_bytes(buffers), key=lambda step: (step[1], -step[0]))[0]
