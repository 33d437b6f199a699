"""Fits the constants of `hwc.cost.price_kernels` to published latencies, and says how well they hold on rows left out.

Every fit (`fit_logarithms`) starts at the prior, never at another fit's end, so a left-out row cannot leak through a
warm start.

Left out: all rows of a (network, board) pair at once; then, harder, of a board, of a network, of an architecture.

Interval: cross-conformal. The left-out log errors of all *other* pairs, their 10 % and 90 % quantiles, around the
prediction; coverage is counted the same way, so no row sets its own interval. Quantiles are of the order statistics
floor and ceil ((n + 1) q), as split-conformal prediction has them (Vovk 2015, cross-conformal predictors).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.fit_logarithms import fit_logarithms
from benchmarks.networks import build_network
from hwc import targets
from hwc.artifacts import Target
from hwc.cost.kernel_work import GATE_JOINS, Work, list_work, split_work
from hwc.cost.machine import Machine, machine_of
from hwc.cost.price_kernels import (
    PARAMETERS,
    KernelTable,
    from_log_vector,
    guesses,
    inference_seconds,
    join_tables,
    log_slopes,
    log_vector,
    make_table,
    merge_equal,
)
from hwc.passes.base import PassContext
from hwc.passes.form_fusion_groups import form_fusion_groups

ROWS = Path(__file__).parent / "published" / "latency.csv"
EXCLUDED = Path(__file__).parent / "published" / "excluded.csv"
COVERAGE = 0.8


@dataclass(frozen=True)
class Row:
    """One published latency. `line` is its line in the table that it was chosen from."""

    line: int
    network: str
    shape: tuple[int, ...]
    precision: str
    target: str
    gpu_mhz: float | None
    memory_mhz: float | None
    power_mode: str
    clocks: str
    client: str
    tensorrt: str
    latency_ms: float
    figure: str
    source: str
    note: str

    @property
    def pair(self) -> str:
        """What is left out together: the network (with whatever head and size) on the board."""
        return f"{self.model}|{self.target}"

    @property
    def model(self) -> str:
        """The network's name; the heads of FCN-ResNet-18 are one network."""
        return "fcn_resnet18" if self.network.startswith("fcn_resnet18") else self.network


def read_rows(path: Path = ROWS) -> list[Row]:
    """The rows of a file of published latencies.

    Raises:
        ValueError: a figure is not a positive number or a row names no source; says which line.
    """
    found = []
    with path.open(encoding="utf-8", newline="") as lines:
        for raw in csv.DictReader(lines):
            try:
                latency = float(raw["latency_ms"])
            except ValueError:
                latency = math.nan
            if not 0 < latency < math.inf or not raw["source"].strip():
                raise ValueError(f"{path.name}, line {raw['line']}: latency {raw['latency_ms']!r}, source "
                                 f"{raw['source']!r}")  # fmt: skip
            found.append(Row(
                int(raw["line"]), raw["network"], tuple(int(d) for d in raw["shape"].split("x")), raw["precision"],
                raw["target"], float(raw["gpu_mhz"]) if raw["gpu_mhz"] else None,
                float(raw["memory_mhz"]) if raw["memory_mhz"] else None, raw["power_mode"], raw["clocks"],
                raw["client"], raw["tensorrt"], latency, raw["figure"], raw["source"], raw["note"],
            ))  # fmt: skip
    return found


@cache
def load_target(name: str) -> Target:
    """`targets.load`, remembered: reading a target file takes longer than a fit."""
    return targets.load(name)


def row_machine(row: Row) -> Machine:
    """The board of the row at the clocks of the row."""
    return machine_of(load_target(row.target), row.power_mode, gpu_mhz=row.gpu_mhz, memory_mhz=row.memory_mhz)


def network_work(network: str, shape: tuple[int, ...]) -> tuple[Work, ...]:
    """The kernels of a network, from its graph and the fusion groups that are expected of an engine."""
    model = build_network(network, shape)
    context = PassContext(target=load_target("agx-orin"))  # groups do not depend on it
    return list_work(model, form_fusion_groups(model, context).groups)


@dataclass(frozen=True)
class Problem:
    """What a fit sees: one table per row, and the published seconds."""

    tables: tuple[KernelTable, ...]
    clients: tuple[str, ...]
    seconds: np.ndarray

    def of(self, indices: Sequence[int]) -> Problem:
        """The same with these rows only."""
        kept = [int(i) for i in indices]
        return Problem(tuple(self.tables[i] for i in kept), tuple(self.clients[i] for i in kept), self.seconds[kept])

    def joined(self) -> KernelTable:
        """All kernels in one table, rows numbered from 0."""
        return join_tables([_numbered(table, i) for i, table in enumerate(self.tables)])


def _numbered(table: KernelTable, row: int) -> KernelTable:
    return KernelTable(**{**table.__dict__, "row": np.full(len(table.row), row)})


def state_problem(rows: Sequence[Row], gate_joins: Sequence[str] = GATE_JOINS) -> Problem:
    """Graphs, groups and kernels of every row; `gate_joins` as for `split_work`."""
    works: dict[tuple[str, tuple[int, ...]], tuple[Work, ...]] = {}
    tables = []
    for row in rows:
        key = (row.network, row.shape)
        if key not in works:
            works[key] = network_work(*key)
        kernels = split_work(works[key], row.precision, gate_joins)
        tables.append(merge_equal(make_table(kernels, row_machine(row), row.precision)))
    return Problem(tuple(tables), tuple(r.client for r in rows), np.array([r.latency_ms / 1e3 for r in rows]))


def fit(problem: Problem, spreads: Mapping[str, float] | None = None) -> dict[str, float]:
    """The constants that fit best, from the prior on; deterministic.

    Args:
        spreads: parameter -> spread of its prior, instead of the one in PARAMETERS; near 0 it stays at its guess.
    """
    spread = np.array([(spreads or {}).get(p.name, p.spread) for p in PARAMETERS])
    table = problem.joined()

    def predict(theta: np.ndarray) -> np.ndarray:
        return np.log(inference_seconds(table, from_log_vector(theta), problem.clients))

    def slopes(theta: np.ndarray) -> np.ndarray:
        return log_slopes(table, from_log_vector(theta), problem.clients)

    return from_log_vector(fit_logarithms(predict, np.log(problem.seconds), log_vector(guesses()), spread, slopes))


def leave_out(problem: Problem, labels: Sequence[str], spreads: Mapping[str, float] | None = None) -> np.ndarray:
    """Seconds of every row as predicted by a fit without any row of its label; `spreads` as for `fit`."""
    predicted = np.zeros(len(problem.seconds))
    names = np.array(labels)
    for label in sorted(set(labels)):
        out = np.flatnonzero(names == label)
        constants = fit(problem.of(np.flatnonzero(names != label)), spreads)
        part = problem.of(out)
        predicted[out] = inference_seconds(part.joined(), constants, part.clients)
    return predicted


def quantiles(log_errors: np.ndarray) -> tuple[float, float]:
    """Factors on a prediction between which COVERAGE of the published values lie.

    Args:
        log_errors: log(published / predicted) of left-out rows.
    """
    ordered = np.sort(log_errors)
    n, tail = len(ordered), (1 - COVERAGE) / 2
    # The small number is against 0.1 * 100 = 9.999...
    low = max(math.floor((n + 1) * tail + 1e-9), 1) - 1
    high = min(math.ceil((n + 1) * (1 - tail) - 1e-9), n) - 1
    return math.exp(ordered[low]), math.exp(ordered[high])


def cross_intervals(seconds: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Factors (low, high) for every row, from the left-out errors of the rows of other labels; (rows, 2)."""
    errors, names = np.log(seconds / predicted), np.array(labels)
    return np.array([quantiles(errors[names != label]) for label in labels])
