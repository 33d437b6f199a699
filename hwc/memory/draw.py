"""A plan as text: time goes down, addresses go across, one letter for each buffer.

Each row is a stretch of ticks in which nothing starts or ends; where there are more of them than rows, a row stands for
several and shows the one with most bytes alive. Each column is an equal share of the pool and shows the buffer that has
most of it, '.' where most of it is free. Letters go by size, the largest first, and repeat after 62 buffers: the list
under the drawing names the largest.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import string
from typing import Dict, List, Sequence, Tuple

from hwc.artifacts_memory import MemoryPlan
from hwc.memory.lifetimes import live_bytes

LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits


def format_bytes(size: int) -> str:
    """As "6.891 MiB"; below 10 KiB in bytes."""
    if size < 10 << 10:
        return f"{size} B"
    if size < 1 << 20:
        return f"{size / 2**10:.3f} KiB"
    return f"{size / 2**20:.3f} MiB" if size < 1 << 30 else f"{size / 2**30:.3f} GiB"


def draw_plan(plan: MemoryPlan, *, columns: int = 80, rows: int = 40, names: int = 12) -> Tuple[str, ...]:
    """The lines of the drawing and of the list under it.

    Args:
        columns, rows: most characters across and most rows of time.
        names: most buffers in the list.
    """
    if not plan.height_bytes:
        return ("nothing is stored",)
    by_size = sorted(range(len(plan.buffers)), key=lambda i: (-plan.buffers[i].size_bytes, plan.buffers[i].start, i))
    letters = {i: LETTERS[place % len(LETTERS)] for place, i in enumerate(by_size)}
    live = dict(live_bytes(plan.buffers))
    most = max(live.values())
    columns = min(columns, plan.height_bytes)
    lines = [f"{'tick':>12}  0{format_bytes(plan.height_bytes):>{max(columns - 1, 1)}}"]
    for begin, end, tick in _rows(plan, live, rows):
        label = f"{begin}" if end == begin + 1 else f"{begin}-{end - 1}"
        mark = " <- most" if live[tick] == most else ""
        lines.append(f"{label:>12} |{_row(plan, letters, tick, columns)}| {format_bytes(live[tick])}{mark}")
    for i in by_size[:names]:
        buffer = plan.buffers[i]
        lane = f" lane {buffer.lane}" if buffer.lane else ""
        lines.append(
            f"{letters[i]:>12}  {format_bytes(buffer.size_bytes):>12} at {plan.offsets[i]:<12} ticks "
            f"{buffer.start}-{buffer.end - 1}{lane}  {buffer.name}"
        )
    if len(by_size) > names:
        lines.append(f"{'...':>12}  {len(by_size) - names} smaller ones")
    return tuple(lines)


def _rows(plan: MemoryPlan, live: Dict[int, int], rows: int) -> List[Tuple[int, int, int]]:
    """(first tick, tick after the last, tick to show) of each row."""
    ticks = sorted(live)
    stretches = list(zip(ticks, ticks[1:]))
    share = -(-len(stretches) // rows)
    found = []
    for at in range(0, len(stretches), share):
        inside = stretches[at:at + share]
        shown = max(inside, key=lambda stretch: (live[stretch[0]], -stretch[0]))[0]
        found.append((inside[0][0], inside[-1][1], shown))
    return found


def _row(plan: MemoryPlan, letters: Dict[int, str], tick: int, columns: int) -> str:
    alive = [i for i, b in enumerate(plan.buffers) if b.start <= tick < b.end and b.size_bytes]
    spans = [(plan.offsets[i], plan.offsets[i] + plan.buffers[i].size_bytes, letters[i]) for i in alive]
    return "".join(_cell(spans, plan.height_bytes, column, columns) for column in range(columns))


def _cell(spans: Sequence[Tuple[int, int, str]], height: int, column: int, columns: int) -> str:
    # Bounds times `columns`, so that they stay whole numbers.
    begin, end = column * height, (column + 1) * height
    best, letter, used = 0, ".", 0
    for low, high, name in spans:
        part = min(high * columns, end) - max(low * columns, begin)
        if part > 0:
            used += part
            if part > best:
                best, letter = part, name
    return letter if best >= height - used else "."
