"""Fits the constants of `hwc.cost.price_power` to published board power, one scope at a time.

Left out: the (network, board) pair where a board of the scope has other networks; where it has one network only, as
single rows, which says less and is marked so. The interval spans 10 % to 90 % of the left-out errors, which for the few
rows of a scope is nearly all of them.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fit_roofline import load_target, network_work, quantiles
from hwc.cost.kernel_work import split_work
from hwc.cost.machine import machine_of
from hwc.cost.price_kernels import make_table, price
from hwc.cost.price_power import fit_power, power_features

ROWS = Path(__file__).parent / "published" / "power.csv"


@dataclass(frozen=True)
class PowerRow:
    """One published board power while inferences of batch 1 ran one after another."""

    line: int
    network: str
    shape: tuple[int, ...]
    precision: str
    target: str
    gpu_mhz: float | None
    memory_mhz: float | None
    power_mode: str
    power_w: float
    scope: str
    source: str


def read_power_rows(path: Path = ROWS) -> list[PowerRow]:
    """The rows of the file."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [
            PowerRow(int(r["line"]), r["network"], tuple(int(d) for d in r["shape"].split("x")), r["precision"],
                     r["target"], float(r["gpu_mhz"]) if r["gpu_mhz"] else None,
                     float(r["memory_mhz"]) if r["memory_mhz"] else None, r["power_mode"], float(r["power_w"]),
                     r["scope"], r["source"])
            for r in csv.DictReader(lines)
        ]  # fmt: skip


def row_features(row: PowerRow, constants: dict[str, float]) -> tuple[float, float]:
    """The two features of the row, by the fitted latencies."""
    machine = machine_of(load_target(row.target), row.power_mode, gpu_mhz=row.gpu_mhz, memory_mhz=row.memory_mhz)
    kernels = split_work(network_work(row.network, row.shape), row.precision)
    return power_features(machine, price(make_table(kernels, machine, row.precision), constants))


def fit_scopes(rows: Sequence[PowerRow], constants: dict[str, float]) -> tuple[dict[str, Any], dict[int, float]]:
    """Per scope its constants, and the left-out prediction in watts of every row, by its line."""
    fitted: dict[str, Any] = {}
    predicted: dict[int, float] = {}
    for scope in sorted({row.scope for row in rows}):
        mine = [row for row in rows if row.scope == scope]
        features = np.array([row_features(row, constants) for row in mine])
        watts = np.array([row.power_w for row in mine])
        boards = [row.target for row in mine]
        networks = {board: len({r.network for r in mine if r.target == board}) for board in set(boards)}
        has_pairs = min(networks.values()) > 1
        labels = [f"{r.network}|{r.target}" if has_pairs else str(r.line) for r in mine]
        left = np.zeros(len(mine))
        for label in set(labels):
            kept = [i for i, other in enumerate(labels) if other != label]
            board, clock, load = fit_power([boards[i] for i in kept], features[kept], watts[kept])
            for i in (i for i, other in enumerate(labels) if other == label):
                left[i] = board[boards[i]] * np.exp(features[i] @ [clock, load])
                predicted[mine[i].line] = float(left[i])
        board, clock, load = fit_power(boards, features, watts)
        low, high = quantiles(np.log(watts / left))
        kind = "network and board left out" if has_pairs else "single rows left out: one network only"
        fitted[scope] = {
            "boards": board, "clock": clock, "load": load, "least_load": float(features[:, 1].min()),
            "low": min(low, 1.0), "high": max(high, 1.0), "basis": f"{len(mine)} rows, {kind}",
        }  # fmt: skip
    return fitted, predicted
