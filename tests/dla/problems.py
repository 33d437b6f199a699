"""Small random cut problems, and the best cut of one by trying all."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from hwc.dla.cut_problem import OUTSIDE, CutProblem, Labels, Transfer, cost_of
from hwc.dla.partition import find_loadables

COSTS = st.integers(min_value=0, max_value=20)


@st.composite
def problems(draw, most: int = 7, *, chain: bool = False, batches: bool = False) -> CutProblem:
    size = draw(st.integers(min_value=1, max_value=most))
    gpu = tuple(draw(COSTS) for _ in range(size))
    dla = tuple(draw(st.one_of(st.none(), COSTS)) for _ in range(size))
    transfers = [_transfer(draw, "x", OUTSIDE, (0,) if chain else _readers(draw, OUTSIDE, size))]
    for unit in range(size):
        readers = ((unit + 1,) if unit + 1 < size else ()) if chain else _readers(draw, unit, size)
        goes_out = not readers or draw(st.booleans())
        transfers.append(_transfer(draw, f"t{unit}", unit, readers, goes_out))
    batch = tuple(draw(st.integers(1, 2)) for _ in range(size)) if batches else ()
    return CutProblem(gpu, dla, tuple(transfers), batch)


def _readers(draw, producer: int, size: int) -> tuple[int, ...]:
    later = list(range(producer + 1, size))
    return tuple(sorted(draw(st.sets(st.sampled_from(later), max_size=3)))) if later else ()


def _transfer(draw, name: str, producer: int, readers: tuple[int, ...], goes_out: bool = False) -> Transfer:
    return Transfer(name, producer, readers, goes_out, draw(COSTS), draw(COSTS))


def all_labels(problem: CutProblem) -> list[Labels]:
    choices = [(False,) if cost is None else (False, True) for cost in problem.dla]
    return list(itertools.product(*choices))


def best_cost(problem: CutProblem, limit: int | None = None) -> int:
    """The least cost of all cuts, of those with at most `limit` loadables if that is given."""
    return min(
        cost_of(problem, labels)
        for labels in all_labels(problem)
        if limit is None or len(find_loadables(problem, labels)) <= limit
    )
