"""The cheapest set of virtual values whose plan fits a budget, and the least budget that any set fits.

First one threshold: all values of at least that many bytes are virtual, for every size that occurs. Around the peak
the large tensors must go and the small ones are worth storing, so the best threshold is close to the best set. From
the cheapest that fits, single values are then stored again, or made virtual, as long as the estimate falls and the
plan still fits: a local search, deterministic, of at most `tries` plans. Nothing says that the set is optimal.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from hwc.reduce.live_bytes import size_of
from hwc.reduce.plan_tiles import TilePlan, Tiler

Progress = Callable[[str, float], None]


def choose_tiles(
    tiler: Tiler, budget: int, *, tries: int = 240, progress: Progress = lambda what, fraction: None
) -> tuple[TilePlan | None, TilePlan]:
    """(the cheapest plan found within `budget` bytes or None, the plan of the lowest peak found)."""
    sizes = {value: size_of(value) for value in tiler.optional}
    least = tiler.plan((), 0)
    best = least if least.fits or least.peak_bytes <= budget else None
    chosen: frozenset[ir.Value] = frozenset()
    thresholds = sorted(set(sizes.values()), reverse=True)
    for index, threshold in enumerate(thresholds):
        progress("tiles", 0.5 * index / len(thresholds))
        virtual = frozenset(value for value, size in sizes.items() if size >= threshold)
        smallest = tiler.plan(virtual, 0)
        if smallest.peak_bytes < least.peak_bytes:
            least = smallest
        elif smallest.peak_bytes > 2 * least.peak_bytes:
            break  # ever more is computed again, and the halo outweighs what is saved
        plan = tiler.plan(virtual, budget) if smallest.peak_bytes <= budget else None
        if plan is not None and plan.fits and (best is None or plan.seconds < best.seconds):
            best, chosen = plan, virtual
    if best is None:
        return None, least
    # Small ones first: storing them again costs the least memory. Values far from the choice are never worth a try.
    order = sorted(sizes, key=lambda value: sizes[value])
    left, improved = tries, True
    while improved and left > 0:
        improved = False
        for value in order:
            if left <= 0:
                break
            left -= 1
            progress("tiles", 0.5 + 0.5 * (1 - left / tries))
            other = chosen ^ {value}
            plan = tiler.plan(other, budget)
            # Of equal plans the one with fewer virtual values is taken: a region of one tile may change nothing.
            is_simpler = value in chosen and plan.seconds <= best.seconds * (1 + 1e-9)
            if plan.fits and (is_simpler or plan.seconds < best.seconds * (1 - 1e-9)):
                best, chosen, improved = plan, other, True
    return best, least
