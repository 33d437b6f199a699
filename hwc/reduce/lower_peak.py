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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir

from hwc.errors import TargetError
from hwc.reduce.choose_tiles import choose_tiles
from hwc.reduce.live_bytes import peak_bytes
from hwc.reduce.order_nodes import reorder_model
from hwc.reduce.plan_tiles import Price, TilePlan, Tiler
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
    model: ir.Model, budget: int, price: Price, *, others: Sequence[Price] = (),
    progress: Progress = lambda what, fraction: None,
) -> tuple[Lowered, ...]:  # fmt: skip
    """Graphs that fit, cheapest estimate first; at least one. `model` is left alone.

    Args:
        budget: bytes of activations.
        others: further prices to choose tiles by, for a caller that measures what comes back; `seconds` of what they
            choose are theirs.

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
        listed = f"{len(names)} cheap tensors computed again: {', '.join(names)}"
        fitting.append(Lowered(again, peak_bytes(again), seconds, start, before, (*steps, listed)))
    share = 0.9 / (1 + len(others))
    tiled: list[tuple[TilePlan, ir.Model]] = []
    least = before
    for index, each in enumerate((price, *others)):
        if index and not tiled:
            break
        found, low = _tile(ordered, budget, each, partial(_within, progress, 0.1 + share * index, share))
        tiled += [item for item in found if all(_grids(item[0]) != _grids(plan) for plan, _ in tiled)]
        least = min(least, low)
    for plan, written in tiled:
        told = tuple(_describe(plan))
        fitting.append(Lowered(written, peak_bytes(written), plan.seconds, start, before, (*steps, *told)))
    if not fitting:
        lowest = min(lowest, least)
        raise TargetError(
            "no set of rewrites found fits the memory budget",
            expected=f"at most {_mib(budget)} of activations",
            got=f"at least {_mib(lowest)} ({lowest} bytes; {_mib(before)} without rewrites)",
            do=f"give --memory-budget {lowest}B or more, a smaller input, or a narrower precision",
        )
    return tuple(sorted(fitting, key=lambda lowered: lowered.seconds))


def _tile(
    model: ir.Model, budget: int, price: Price, progress: Progress
) -> tuple[list[tuple[TilePlan, ir.Model]], int]:
    """(plans that fit with the graphs they give, the lowest peak of any graph written if none does)."""
    tiler, room, first = Tiler(model, price), budget, None
    for _ in range(_ROUNDS):
        best, least = choose_tiles(tiler, room, progress=progress)
        first = first or least
        if best is None:
            break
        written = write_tiles(model, best)
        peak = peak_bytes(written)
        if peak <= budget:
            return [(best, written)], peak
        # The planner left small things out (moments, crops of crops): ask for less by as much as it was wrong.
        room -= max(peak - budget, budget // 200)
    # The planner counts a little too much as well: the smallest plan may fit although its estimate does not.
    assert first is not None
    written = write_tiles(model, first)
    peak = peak_bytes(written)
    return [(first, written)] if peak <= budget else [], peak


def _within(progress: Progress, start: float, share: float, what: str, fraction: float) -> None:
    progress(what, start + share * fraction)


def _grids(plan: TilePlan) -> list[tuple[str | None, tuple[int, ...], int]]:
    return [(region.node.name, grid, len(region.nodes)) for region, grid in plan.regions]


def _describe(plan: TilePlan) -> list[str]:
    for_each = []
    for region, grid in plan.regions:
        tiles = "x".join(str(count) for count in grid)
        what = {"join": "made", "moments": "normalized", "mean": "averaged"}[region.kind]
        for_each.append(f"{region.source.name} is {what} in {tiles} tiles of {len(region.nodes)} nodes")
    return for_each


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
