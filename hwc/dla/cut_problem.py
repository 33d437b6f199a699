"""The cut between GPU and DLA as numbers alone, so that a solver needs no graph and a test can try every cut.

    cost(x) = sum of gpu[u] over units on the GPU + sum of dla[u] over units on DLA
            + to_dla[t] once for each tensor t that is made on the GPU, or comes in, and is read on DLA
            + to_gpu[t] once for each tensor t that is made on DLA and is read on the GPU, or goes out

Units are numbered in a topological order. Costs are whole numbers (picoseconds), so that sums and cuts are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OUTSIDE = -1
NEVER = None  # a unit that may not run on DLA has no cost there


@dataclass(frozen=True)
class Transfer:
    """One tensor and what it costs to cross. `producer` is a unit, or OUTSIDE for what comes into the network."""

    name: str
    producer: int
    readers: tuple[int, ...]
    goes_out: bool
    to_dla: int
    to_gpu: int


@dataclass(frozen=True)
class CutProblem:
    """`gpu` and `dla` hold the cost of each unit; `batch` its batch size, which one loadable has to share."""

    gpu: tuple[int, ...]
    dla: tuple[int | None, ...]
    transfers: tuple[Transfer, ...]
    batch: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return len(self.gpu)

    def batch_at(self, unit: int) -> int:
        return self.batch[unit] if self.batch else 1

    def edges(self) -> list[tuple[int, int]]:
        """Pairs of units, the first of which makes what the second reads."""
        return [(t.producer, reader) for t in self.transfers if t.producer != OUTSIDE for reader in t.readers]


Labels = tuple[bool, ...]  # True: on DLA


def crossings(problem: CutProblem, labels: Sequence[bool]) -> tuple[list[Transfer], list[Transfer]]:
    """The tensors that go to DLA, and those that come back; one may do both only by way of two producers."""
    inward, outward = [], []
    for transfer in problem.transfers:
        made_on_dla = transfer.producer != OUTSIDE and labels[transfer.producer]
        read = {labels[reader] for reader in transfer.readers} | ({False} if transfer.goes_out else set())
        if not made_on_dla and True in read:
            inward.append(transfer)
        if made_on_dla and False in read:
            outward.append(transfer)
    return inward, outward


def cost_of(problem: CutProblem, labels: Sequence[bool]) -> int:
    """The cost of a cut by the formula above; a unit on DLA that may not be there raises ValueError."""
    total = 0
    for unit, on_dla in enumerate(labels):
        price = problem.dla[unit] if on_dla else problem.gpu[unit]
        if price is None:
            raise ValueError(f"unit {unit} may not run on DLA")
        total += price
    inward, outward = crossings(problem, labels)
    return total + sum(t.to_dla for t in inward) + sum(t.to_gpu for t in outward)
