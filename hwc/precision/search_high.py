"""The fewest groups put back to the higher precision that meet the requirement: few trials, and none to spare.

1. Nothing put back; if that passes, done.
2. The most harmful 1, 2, 4, 8, ... groups, in the order of their sensitivity, until a set passes.
3. Halving between the last that failed and the first that passed.
4. Leaving out: chunks of half the set, of a quarter, ..., then single groups, until every single group that is left is
   needed (delta debugging, Zeller and Hildebrandt, IEEE TSE 28:2, 2002). So the result is minimal under removal of any
   one group, whatever the order was worth; a smaller set of other groups is not ruled out, since only trying all would.

Each trial switches Q/DQ in the graph, so it holds under strong typing. For n groups of which k are needed it takes
about 2 log2 n trials up to step 3, and in step 4 from k log2 of the prefix to k^2. A trial is kept in the log, so that
an interrupted search goes on, and no set is tried twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hwc.errors import UsageError
from hwc.precision.trial_log import TrialLog

Evaluate = Callable[[frozenset[str]], tuple[bool, float]]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Trial:
    """One set of groups that was put back; `drop` is in the unit of the caller's requirement, points as a rule."""

    high: tuple[str, ...]
    passed: bool
    drop: float
    stage: str
    seconds: float


@dataclass(frozen=True)
class HighSearch:
    """The answer and how it was found.

    Args:
        high: groups put back, most harmful first; None if not even all of them meet the requirement.
        drop: of that set, or of the best that was tried.
        costs: (group, microseconds that putting it back adds) for each of `high`; empty if no cost was given.
        cost_source: "measured" or "estimate".
        trials: all of them, in order; those from an earlier, interrupted run included.
    """

    high: tuple[str, ...] | None
    drop: float
    costs: tuple[tuple[str, float], ...]
    cost_source: str
    trials: tuple[Trial, ...]

    @property
    def cost_us(self) -> float | None:
        """What all of `high` adds to the latency, in microseconds; None if no cost was given."""
        return sum(cost for _, cost in self.costs) if self.cost_source and self.high is not None else None


def search_high(
    order: Sequence[str],
    evaluate: Evaluate,
    *,
    fixed: frozenset[str] = frozenset(),
    cost: Callable[[str], float] | None = None,
    cost_source: str = "",
    log: TrialLog | None = None,
    progress: Progress | None = None,
) -> HighSearch:
    """Searches a smallest set.

    Args:
        order: groups that may be put back, most harmful first.
        evaluate: set of groups in the higher precision -> (requirement met, drop).
        fixed: groups that stay high in any case; in every set that is tried, not in the answer.
        cost: group -> microseconds that it takes longer in the higher precision.
        cost_source: "measured" (layer times read from an engine) or "estimate" (roofline); needed with `cost`.
        log: finished trials; its key must name model, data, limit and metric.
        progress: called with (what, fraction); the fraction is of the expected number of trials.

    Raises:
        UsageError: a group twice in `order`, or a cost without its source.
    """
    if len(set(order)) != len(order) or (cost is not None and cost_source not in ("measured", "estimate")):
        raise UsageError(
            "a search needs each group once, and a cost that says whether it is 'measured' or an 'estimate'",
            got=f"{len(order)} groups, {len(set(order))} different; cost source '{cost_source}'",
        )
    trials = _Trials(order, evaluate, fixed, log if log is not None else TrialLog(), progress)
    size = _first_prefix(order, trials)
    if size is None:
        best = min(trial.drop for trial in trials.done)
        return HighSearch(None, best, (), cost_source, tuple(trials.done))
    kept = _leave_out(list(order[:size]), trials)
    costs = tuple((group, float(cost(group))) for group in kept) if cost is not None else ()
    return HighSearch(tuple(kept), trials.run(kept, "result").drop, costs, cost_source, tuple(trials.done))


class _Trials:
    def __init__(
        self, order: Sequence[str], evaluate: Evaluate, fixed: frozenset[str], log: TrialLog, progress: Progress | None
    ) -> None:
        self.done: list[Trial] = []
        self._rank = {group: index for index, group in enumerate(order)}
        self._evaluate, self._fixed, self._log, self._progress = evaluate, fixed, log, progress
        self._seen: dict[frozenset[str], Trial] = {}

    def run(self, groups: Sequence[str], stage: str) -> Trial:
        """The trial of that set, made now, kept by the log, or seen before."""
        chosen = frozenset(groups)
        if chosen not in self._seen:
            high = tuple(sorted(chosen, key=self._rank.__getitem__))
            if self._progress is not None:
                expected = 2 * len(self._rank).bit_length() + 2
                self._progress(f"{stage}: {len(high)} groups put back", min(0.99, len(self.done) / expected))

            def now() -> dict[str, Any]:
                start = time.perf_counter()
                passed, drop = self._evaluate(self._fixed | chosen)
                return {"passed": bool(passed), "drop": float(drop), "seconds": time.perf_counter() - start}

            result = self._log.once(f"high {','.join(sorted(self._fixed | chosen))}", now)
            self._seen[chosen] = Trial(high, result["passed"], result["drop"], stage, result["seconds"])
            self.done.append(self._seen[chosen])
        return self._seen[chosen]


def _first_prefix(order: Sequence[str], trials: _Trials) -> int | None:
    """A length whose prefix passes while the prefix one shorter fails; None if all together fail."""
    if trials.run((), "nothing put back").passed:
        return 0
    failing, size = 0, 1
    while not trials.run(order[:size], "doubling").passed:
        if size >= len(order):
            return None
        failing, size = size, min(2 * size, len(order))
    while size - failing > 1:
        middle = (failing + size) // 2
        failing, size = (failing, middle) if trials.run(order[:middle], "halving").passed else (middle, size)
    return size


def _leave_out(kept: list[str], trials: _Trials) -> list[str]:
    """Removes what is not needed; afterwards the set without any one of its groups has been seen to fail."""
    chunk = max(1, len(kept) // 2)
    while kept:
        is_smaller = False
        # The least harmful first: they are the likeliest to be along for the ride.
        for start in range((len(kept) - 1) // chunk * chunk, -1, -chunk):
            rest = kept[:start] + kept[start + chunk :]
            if len(rest) < len(kept) and trials.run(rest, "leaving out").passed:
                kept, is_smaller = rest, True
        if chunk == 1 and not is_smaller:
            break
        chunk = max(1, chunk // 2)
    return kept
