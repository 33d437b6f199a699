"""Names the layer that breaks a model in a lower precision, or says that there is no single one.

`make(high)` gives a run with these fusion groups in the higher precision and all others in the lower, `measure(run)`
says whether it is good enough and how much it lost; so INT8, FP16 and any engine are searched alike. In this order:

1. Both ends: all groups low, all high. If the first is good nothing breaks; if the second is bad it is not precision.
2. The repair: the smallest prefix of the graph (in its order) that has to be high for the model to be good, by halving.
   If its last group alone, put back, repairs the model, that one is the answer to "whom to put back".
3. The cause: the smallest prefix that breaks the model when it is low and the rest is high; its last group is part of
   the cause. With that group low, the same again on what is before it, until the groups found break the model with
   nothing else low (QuickXplain's idea, Junker, AAAI 2004). One group: it breaks the model alone. Two: they do it
   together. More than `largest`: the noise of many adds up, and no small set is to blame.
4. If putting the cause back does not repair the model there is another cause: step 3 again with the first one high.

About log2 n trials for each group named. Limit: halving takes it that more groups in the lower precision are never
better. Where noises cancel it still ends at a place where one group makes the difference, and what is reported about
the groups named (alone, without) was measured, not inferred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwc.artifacts import FusionGroup
from hwc.errors import UsageError
from hwc.precision.guard import Run
from hwc.precision.trial_log import TrialLog

Make = Callable[[frozenset[str]], Run]
Measure = Callable[[Run], tuple[bool, float]]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Suspect:
    """One group under suspicion, with its evidence: drops in the unit of `measure`.

    `drop_alone`: only this group in the lower precision. `drop_without`: all but this group.
    """

    group: str
    kind: str
    layers: tuple[str, ...]
    drop_alone: float
    drop_without: float
    breaks_alone: bool
    repairs: bool


@dataclass(frozen=True)
class Breaking:
    """What breaks the model.

    Args:
        answer: "nothing" (it is good), "elsewhere" (bad even in the higher precision), "single" (one group), "together"
            (the groups of one cause, none of them alone), "several" (more than one cause) or "many" (no small set).
        causes: each a smallest set of groups that breaks the model while all others are high.
        repair: groups that, put back together, were seen to repair the model; empty if no small set was.
        suspects: every group that is named in `causes` or `repair`, in graph order.
        drop_low: with all groups in the lower precision. drop_high: with none.
        trials: how many sets were measured.
    """

    answer: str
    causes: tuple[tuple[str, ...], ...]
    repair: tuple[str, ...]
    suspects: tuple[Suspect, ...]
    drop_low: float
    drop_high: float
    trials: int

    def sentence(self) -> str:
        """The finding in words, by the names of the source layers."""
        named = {s.group: f"{s.group} ({s.kind}: {', '.join(s.layers[:3])}{', ...' if len(s.layers) > 3 else ''})"
                 for s in self.suspects}  # fmt: skip
        if self.answer == "nothing":
            return f"nothing breaks: the drop is {self.drop_low:.2f} with every group in the lower precision"
        if self.answer == "elsewhere":
            return f"not the precision: the drop is {self.drop_high:.2f} with every group in the higher one"
        back = " and ".join(named[group] for group in self.repair)
        repaired = f"putting back {back} repairs it" if back else "no small set of groups repairs it"
        if self.answer == "single":
            with_others = "" if self.causes else ", with the noise of many others"
            return f"{named[self.repair[0]]} breaks the model{with_others}; {repaired}"
        if self.answer == "many":
            return f"no single layer breaks the model: the noise of many adds up; {repaired}"
        causes = "; ".join(" and ".join(named[g] for g in c) + (" together" if len(c) > 1 else "") for c in self.causes)
        return f"no single layer: {causes}; {repaired}"


def find_breaking_layer(
    groups: Sequence[FusionGroup],
    make: Make,
    measure: Measure,
    *,
    layers: Mapping[str, tuple[str, ...]],
    largest: int = 3,
    most_causes: int = 4,
    log: TrialLog | None = None,
    progress: Progress | None = None,
) -> Breaking:
    """Searches among `groups`, in graph order.

    Args:
        groups: those that run in the lower precision; others never change and are not listed.
        make: ids of groups in the higher precision -> run.
        measure: run -> (good enough, drop).
        layers: group id -> nodes of the source file, from `source_layers`.
        largest: most groups in one cause before it is called "many".
        most_causes: most causes before it is called "many".
        log: finished trials; its key must name model, data, precision and limit.
        progress: called with (what, fraction); the fraction is of the expected number of trials.

    Raises:
        UsageError: no group.
    """
    if not groups:
        raise UsageError("no group runs in the lower precision, so none can break the model")
    search = _Search([group.id for group in groups], make, measure, log if log is not None else TrialLog(), progress)
    everything = frozenset(search.ids)
    is_good_low, drop_low = search.low(everything)
    is_good_high, drop_high = search.low(frozenset())
    if is_good_low or not is_good_high:
        answer = "nothing" if is_good_low else "elsewhere"
        return Breaking(answer, (), (), (), drop_low, drop_high, search.trials)
    repairer = search.find_repair()
    causes: list[tuple[str, ...]] = []
    is_small = True
    while is_small and len(causes) < most_causes:
        cause = search.find_cause(everything - {group for cause in causes for group in cause}, largest)
        is_small = cause is not None
        if cause is not None:
            causes.append(cause)
            put_back = frozenset(group for cause in causes for group in cause)
            if search.low(everything - put_back)[0]:
                break
    else:
        is_small = False
    repair = tuple(group for cause in causes for group in cause) if is_small else ()
    if causes and repairer is None:
        # What repairs the model alone is part of every cause; a prefix that spans two causes hides it.
        repairer = next((group for group in causes[0] if search.low(everything - {group})[0]), None)
    if repairer is not None and len(repair) != 1:
        repair = (repairer,)
    answer = _answer(causes, repair, is_small)
    named = {group for cause in causes for group in cause} | set(repair)
    suspects = tuple(
        _suspect(group, layers.get(group.id, group.nodes), search) for group in groups if group.id in named
    )
    return Breaking(answer, tuple(causes), repair, suspects, drop_low, drop_high, search.trials)


def _answer(causes: list[tuple[str, ...]], repair: tuple[str, ...], is_small: bool) -> str:
    # It breaks the model alone and repairs it alone; or it repairs what takes it and the noise of many to break.
    if len(repair) == 1 and (not is_small or causes == [repair]):
        return "single"
    if not is_small:
        return "many"
    return "together" if len(causes) == 1 else "several"


def _suspect(group: FusionGroup, layers: tuple[str, ...], search: _Search) -> Suspect:
    good_alone, drop_alone = search.low(frozenset({group.id}))
    good_without, drop_without = search.low(frozenset(search.ids) - {group.id})
    return Suspect(group.id, group.kind, layers, drop_alone, drop_without, not good_alone, good_without)


class _Search:
    def __init__(
        self, ids: list[str], make: Make, measure: Measure, log: TrialLog, progress: Progress | None
    ) -> None:
        self.ids, self.trials = ids, 0
        self._make, self._measure, self._log, self._progress = make, measure, log, progress
        self._seen: dict[frozenset[str], tuple[bool, float]] = {}

    def low(self, low: frozenset[str]) -> tuple[bool, float]:
        """(good enough, drop) with exactly these groups in the lower precision."""
        if low not in self._seen:
            if self._progress is not None:
                expected = 3 * len(self.ids).bit_length() + 4
                self._progress(f"{len(low)} of {len(self.ids)} groups low", min(0.99, self.trials / expected))

            def now() -> dict[str, Any]:
                good, drop = self._measure(self._make(frozenset(self.ids) - low))
                return {"good": bool(good), "drop": float(drop)}

            result = self._log.once(f"low {','.join(sorted(low))}", now)
            self.trials += 1
            self._seen[low] = result["good"], result["drop"]
        return self._seen[low]

    def find_repair(self) -> str | None:
        """The one group whose absence makes the model good; None if the search does not end at one."""
        size = _crossing(len(self.ids), lambda high: self.low(frozenset(self.ids[high:]))[0])
        group = self.ids[size - 1]
        return group if self.low(frozenset(self.ids) - {group})[0] else None

    def find_cause(self, among: frozenset[str], largest: int) -> tuple[str, ...] | None:
        """A smallest set of `among` that breaks the model alone, in graph order; None if it is over `largest`."""
        pool = [group for group in self.ids if group in among]
        found: frozenset[str] = frozenset()
        while not found or self.low(found)[0]:
            if len(found) == largest:
                return None
            # `found` and `pool` together break the model, here and after each step, so the pool is never empty.
            size = self._break_at(found, pool)
            found, pool = found | {pool[size - 1]}, pool[: size - 1]
        return tuple(group for group in self.ids if group in found)

    def _break_at(self, found: frozenset[str], pool: Sequence[str]) -> int:
        return _crossing(len(pool), lambda count: not self.low(found | frozenset(pool[:count]))[0])


def _crossing(count: int, holds: Callable[[int], bool]) -> int:
    """A number in 1..count at which `holds` begins, given that it fails at 0 and holds at `count`."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
