"""Fits a graph into a budget of bytes by the cheapest rewrites that do.

    1. as it is                             costs nothing
    2. another order of the nodes           costs nothing
    3. and cheap tensors computed again     costs their makers' time
    4. and spatial tiles                    costs halos, what is computed twice, slices and joins

The first of 1 and 2 that fits is taken; 3 and 4 are weighed by estimated time, and several of 4 are handed back, so
that a caller with a machine can measure them. A plan counts by the graph that it writes: the peak is computed again
from the finished graph, not taken from the planner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from hwc.errors import TargetError
from hwc.reduce.choose_tiles import choose_tiles
from hwc.reduce.live_bytes import peak_bytes
from hwc.reduce.order_nodes import reorder_model
from hwc.reduce.plan_tiles import Price, Tiler, TilePlan
from hwc.reduce.recompute_cheap import recompute_cheap
from hwc.reduce.write_tiles import write_tiles

Progress = Callable[[str, float], None]
_ROUNDS = 4


@dataclass(frozen=True)
class Lowered:
    """A graph of lower peak.

    Args:
        peak_bytes: most bytes of activations alive at once, in its own order.
        seconds: estimated; `seconds_before` is that of the graph as it came.
        steps: what was done, one sentence each; empty if it fitted as it was.
    """

    model: ir.Model
    peak_bytes: int
    seconds: float
    seconds_before: float
    peak_before: int
    steps: tuple[str, ...]


def lower_peak(
    model: ir.Model, budget: int, price: Price, *, progress: Progress = lambda what, fraction: None
) -> tuple[Lowered, ...]:
    """Graphs that fit, cheapest estimate first; at least one. `model` is left alone.

    Raises:
        UsageError: a shape is not static.
        TargetError: nothing found fits; says the least that does.
    """
    before = peak_bytes(model)
    start = sum(price.node_seconds(node) for node in model.graph)
    if before <= budget:
        return (Lowered(model, before, start, start, before, ()),)
    progress("ordering nodes", 0.0)
    steps: tuple[str, ...] = ()
    ordered = model.clone()
    if reorder_model(ordered):
        steps = (f"nodes put in another order: peak {before} to {peak_bytes(ordered)} bytes",)
    if peak_bytes(ordered) <= budget:
        return (Lowered(ordered, peak_bytes(ordered), start, start, before, steps),)
    progress("recomputing cheap tensors", 0.05)
    fitting: list[Lowered] = []
    again, names = recompute_cheap(ordered, price.node_seconds)
    lowest = min(peak_bytes(ordered), peak_bytes(again))
    if names and peak_bytes(again) <= budget:
        seconds = sum(price.node_seconds(node) for node in again.graph)
        told = f"{len(names)} cheap tensors computed again: {', '.join(names)}"
        fitting.append(Lowered(again, peak_bytes(again), seconds, start, before, (*steps, told)))
    tiled, least = _tile(ordered, budget, price, lambda what, fraction: progress(what, 0.1 + 0.9 * fraction))
    for plan, written in tiled:
        told = tuple(_describe(plan))
        fitting.append(Lowered(written, peak_bytes(written), plan.seconds, start, before, (*steps, *told)))
    if not fitting:
        lowest = min(lowest, least)
        raise TargetError(
            "no set of rewrites found fits the memory budget",
            expected=f"at most {_mib(budget)} of activations",
            got=f"at least {_mib(lowest)} ({lowest} bytes; {_mib(before)} without rewrites)",
            do=f"give --memory-budget {-(-lowest // 2**20)}MiB or more, a smaller input, or a narrower precision",
        )
    return tuple(sorted(fitting, key=lambda lowered: lowered.seconds))


def _tile(
    model: ir.Model, budget: int, price: Price, progress: Progress
) -> tuple[list[tuple[TilePlan, ir.Model]], int]:
    """(plans that fit with the graphs they give, the lowest peak of any graph written)."""
    tiler = Tiler(model, price)
    room, found, least_written = budget, [], None
    for _ in range(_ROUNDS):
        best, least = choose_tiles(tiler, room, progress=progress)
        if least_written is None:
            first_least, least_written = least, write_tiles(model, least)
        if best is None:
            if not found and peak_bytes(least_written) <= budget:
                found.append((first_least, least_written))
            break
        written = write_tiles(model, best)
        peak = peak_bytes(written)
        if peak <= budget:
            found.append((best, written))
            break
        # The planner left small things out (moments, crops of crops): ask for less by as much as it was wrong.
        room -= max(peak - budget, budget // 200)
    assert least_written is not None
    return found, peak_bytes(least_written)


def _describe(plan: TilePlan) -> list[str]:
    for_each = []
    for region, grid in plan.regions:
        tiles = "x".join(str(count) for count in grid)
        what = {"join": "made", "moments": "normalized", "mean": "averaged"}[region.kind]
        for_each.append(f"{region.source.name} is {what} in {tiles} tiles of {len(region.nodes)} nodes")
    return for_each


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
