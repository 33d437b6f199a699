"""Chooses which units run on DLA: the least cost, with no more loadables than a core holds.

* A chain (each unit reads only the one before it) is solved exactly, limit included, by dynamic programming over
  (unit, device, loadables so far): a loadable is then a run of units on DLA.
* Any other graph: the minimum cut is the optimum without the limit. Where it has too many loadables, two ways to fewer
  are tried and the cheaper result is taken: giving the loadable that costs least to the GPU, again and again; and
  raising the price of the way to DLA until the cut has few enough parts. Neither is proved to be the best.

Ties go to the GPU. Everything on the GPU is always possible, so the result never costs more than that.
"""

from __future__ import annotations

from hwc.dla.cut_problem import OUTSIDE, CutProblem, Labels, cost_of
from hwc.dla.min_cut import find_min_cut
from hwc.dla.partition import find_loadables

_PENALTY_STEPS = 24  # of the search for a price; each halves an interval


def choose_cut(problem: CutProblem, limit: int) -> Labels:
    """The labels; see the module docstring for what is exact.

    Args:
        limit: loadables at once on one core; 0 leaves everything on the GPU.
    """
    if limit <= 0 or not problem.size:
        return (False,) * problem.size
    if is_chain(problem):
        return solve_chain(problem, limit)
    labels = find_min_cut(problem)
    if len(find_loadables(problem, labels)) <= limit:
        return labels
    candidates = [_drop_least(problem, labels, limit), _raise_price(problem, limit), (False,) * problem.size]
    return min(candidates, key=lambda cut: (cost_of(problem, cut), sum(cut)))


def is_chain(problem: CutProblem) -> bool:
    """Whether unit i reads a tensor of unit i - 1 and of no other unit, one tensor at each place."""
    if problem.batch and len(set(problem.batch)) > 1:
        return False  # runs on DLA would have to be split where the batch changes
    joined = [0] * problem.size
    for transfer in problem.transfers:
        if transfer.producer == OUTSIDE:
            if any(reader != 0 for reader in transfer.readers):
                return False
        elif transfer.readers:
            if transfer.readers != (transfer.producer + 1,):
                return False
            joined[transfer.producer + 1] += 1
    return all(count >= 1 for count in joined[1:])


def solve_chain(problem: CutProblem, limit: int) -> Labels:
    """The optimum of a chain: best[device][k] = least cost up to here with k loadables begun."""
    size = problem.size
    enter = [0] * (size + 1)  # from the GPU or outside into unit i on DLA
    leave = [0] * (size + 1)  # from unit i - 1 on DLA to unit i on the GPU
    out = [0] * size  # results of a unit on DLA that leave the network
    for t in problem.transfers:
        if t.producer == OUTSIDE:
            enter[0] += t.to_dla if t.readers else 0
            continue
        if t.readers:
            enter[t.producer + 1] += t.to_dla
        if t.goes_out:
            out[t.producer] += t.to_gpu  # paid once, whoever else reads it
        elif t.readers:
            leave[t.producer + 1] += t.to_gpu
    best: dict[tuple[bool, int], tuple[int, Labels]] = {(False, 0): (0, ())}  # value: cost, labels so far
    for unit in range(size):
        following: dict[tuple[bool, int], tuple[int, Labels]] = {}
        on_dla = problem.dla[unit]
        for (device, begun), (cost, labels) in best.items():
            options = [(False, begun, problem.gpu[unit] + (leave[unit] if device else 0))]
            if on_dla is not None and (device or begun < limit):
                price = on_dla + out[unit] + (0 if device else enter[unit])
                options.append((True, begun + (not device), price))
            for to, count, price in options:
                old = following.get((to, count))
                if old is None or cost + price < old[0]:
                    following[to, count] = (cost + price, (*labels, to))
        best = following
    return min(best.items(), key=lambda item: (item[1][0], item[0]))[1][1]


def _drop_least(problem: CutProblem, labels: Labels, limit: int) -> Labels:
    """Moves to the GPU, one after the other, the loadable whose move costs least, and cuts anew with it pinned."""
    pinned: set[int] = set()
    while True:
        loadables = find_loadables(problem, labels)
        if len(loadables) <= limit:
            return labels
        moved = [tuple(on and unit not in set(part) for unit, on in enumerate(labels)) for part in loadables]
        costs = [cost_of(problem, cut) for cut in moved]
        pinned |= set(loadables[costs.index(min(costs))])
        labels = find_min_cut(problem, fixed_on_gpu=sorted(pinned))


def _raise_price(problem: CutProblem, limit: int) -> Labels:
    """The cut under the lowest extra price for the way to DLA, found by halving, that has few enough parts."""
    low, high = 0, 1 + sum(problem.gpu)  # at `high` no part can pay for its way
    found: Labels = (False,) * problem.size
    for _ in range(_PENALTY_STEPS):
        middle = (low + high) // 2
        labels = find_min_cut(problem, entry_penalty=middle)
        if len(find_loadables(problem, labels)) <= limit:
            found, high = labels, middle
        else:
            low = middle
        if high - low <= 1:
            break
    return found
