"""The judge of a memory plan. It shares no code with the planners, and knows nothing of how a plan was made.

The rule: at no tick do two live buffers share a byte; buffers of two lanes never do. It is checked by one sweep over
the ticks that keeps the live buffers in order of address, where a clash must be with a neighbour. The rest is
arithmetic: each offset aligned and not negative, each buffer inside its lane's part, no two parts overlapping, the
height exactly the last byte used, and a lower bound between what is alive and the height.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Dict, List, Sequence, Tuple

from hwc.artifacts_memory import Buffer, MemoryPlan
from hwc.errors import InternalError


def check_plan(plan: MemoryPlan) -> None:
    """Accepts a right plan in silence.

    Raises:
        InternalError: the plan is wrong; names the first fault found.
    """
    fault = fault_of_plan(plan)
    if fault:
        raise InternalError(
            "the memory plan is wrong", where=plan.method, got=fault, do="report this with the list of buffers"
        )


def fault_of_plan(plan: MemoryPlan) -> str:
    """What is wrong with the plan, in one sentence; empty if nothing is."""
    fault = fault_of_offsets(plan.buffers, plan.offsets)
    if fault:
        return fault
    top = max((offset + b.size_bytes for b, offset in zip(plan.buffers, plan.offsets)), default=0)
    if plan.height_bytes != top:
        return f"the height is said to be {plan.height_bytes} bytes, but the last byte used is {top}"
    parts = {lane.name: lane for lane in plan.lanes}
    if len(parts) < len(plan.lanes):
        return "two parts of the pool belong to one lane"
    last_end, last_name = 0, ""
    for lane in sorted(plan.lanes, key=lambda lane: (lane.base_bytes, lane.base_bytes + lane.height_bytes)):
        if lane.base_bytes < last_end:
            return f"the part of lane '{lane.name}' begins inside that of lane '{last_name}'"
        last_end, last_name = lane.base_bytes + lane.height_bytes, lane.name
        if lane.bound_bytes > lane.height_bytes:
            return f"lane '{lane.name}' has {lane.height_bytes} bytes, less than its bound of {lane.bound_bytes}"
    if last_end != plan.height_bytes:
        return f"the parts end at {last_end} bytes, the pool at {plan.height_bytes}"
    for buffer, offset in zip(plan.buffers, plan.offsets):
        part = parts.get(buffer.lane)
        if part is None:
            return f"buffer '{buffer.name}' is of lane '{buffer.lane}', which has no part of the pool"
        if not part.base_bytes <= offset <= part.base_bytes + part.height_bytes - buffer.size_bytes:
            return f"buffer '{buffer.name}' leaves the part of lane '{buffer.lane}'"
    if plan.bound_bytes != sum(lane.bound_bytes for lane in plan.lanes):
        return "the lower bound is not the sum of the lanes' bounds"
    for lane in plan.lanes:
        most = _most_alive([buffer for buffer in plan.buffers if buffer.lane == lane.name])
        if lane.bound_bytes < most:
            return f"lane '{lane.name}' claims a bound of {lane.bound_bytes} bytes, but {most} are alive at once"
    return ""


def fault_of_offsets(buffers: Sequence[Buffer], offsets: Sequence[int]) -> str:
    """The first fault of bare offsets, in one sentence; empty if there is none. Lanes have no parts here."""
    if len(buffers) != len(offsets):
        return f"{len(buffers)} buffers but {len(offsets)} offsets"
    for buffer, offset in zip(buffers, offsets):
        if offset < 0 or offset % buffer.alignment:
            return f"buffer '{buffer.name}' is at {offset}, not a multiple of {buffer.alignment} from 0 up"
    fault = _first_clash(buffers, offsets)
    if fault:
        return fault
    ranges: Dict[str, List[int]] = {}
    for buffer, offset in zip(buffers, offsets):
        if buffer.size_bytes:
            known = ranges.setdefault(buffer.lane, [offset, offset + buffer.size_bytes])
            known[0] = min(known[0], offset)
            known[1] = max(known[1], offset + buffer.size_bytes)
    # Spans of lanes must not meet: stricter than bytes, but it is how a pool is handed out.
    ordered = sorted((begin, end, name) for name, (begin, end) in ranges.items())
    for (_, end, name), (begin, _, other) in zip(ordered, ordered[1:]):
        if begin < end:
            return f"lanes '{name}' and '{other}' share bytes"
    return ""


def _first_clash(buffers: Sequence[Buffer], offsets: Sequence[int]) -> str:
    # At one tick, ends come before starts: a buffer may take the place of one that just died.
    events = sorted(
        (tick, kind, i)
        for i, buffer in enumerate(buffers)
        if buffer.size_bytes
        for tick, kind in ((buffer.end, 0), (buffer.start, 1))
    )
    alive: List[Tuple[int, int]] = []
    for tick, kind, i in events:
        item = (offsets[i], i)
        at = bisect_left(alive, item)
        if kind == 0:
            del alive[at]
            continue
        for offset, j in alive[max(at - 1, 0):at + 1]:
            if offset < offsets[i] + buffers[i].size_bytes and offsets[i] < offset + buffers[j].size_bytes:
                return (
                    f"at tick {tick}, '{buffers[i].name}' [{offsets[i]}, {offsets[i] + buffers[i].size_bytes}) and "
                    f"'{buffers[j].name}' [{offset}, {offset + buffers[j].size_bytes}) share bytes"
                )
        alive.insert(at, item)
    return ""


def _most_alive(buffers: Sequence[Buffer]) -> int:
    """The most bytes alive at the start of any buffer, counted one by one."""
    return max(
        (sum(b.size_bytes for b in buffers if b.start <= tick < b.end) for tick in {b.start for b in buffers}),
        default=0,
    )
