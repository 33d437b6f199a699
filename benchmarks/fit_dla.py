"""Fits the four constants of `hwc.cost.price_dla` to published figures of Orin's DLA, left out network by network.

The figures are images per second of both cores, each on its own images, so one core takes cores * batch / throughput
seconds for its batch. All are of one board in INT8, so a network is what can be left out; the interval spans the worst
left-out errors, since three networks have no quantiles.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.fit_logarithms import fit_logarithms
from benchmarks.fit_roofline import load_target, network_work
from hwc.cost.kernel_work import Work, split_work
from hwc.cost.machine import machine_of
from hwc.cost.price_dla import DLA_PARAMETERS, dla_core_ops, price_dla

ROWS = Path(__file__).parent / "published" / "dla.csv"


@dataclass(frozen=True)
class DlaRow:
    """One published figure of a DLA: milliseconds that one core takes for its batch."""

    line: int
    network: str
    shape: tuple[int, ...]
    batch: int
    precision: str
    target: str
    power_mode: str
    latency_ms: float
    figure: str
    source: str


def read_dla_rows(path: Path = ROWS) -> list[DlaRow]:
    """The rows of the file."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [
            DlaRow(int(r["line"]), r["network"], tuple(int(d) for d in r["shape"].split("x")), int(r["batch"]),
                   r["precision"], r["target"], r["power_mode"], float(r["latency_ms"]), r["figure"], r["source"])
            for r in csv.DictReader(lines)
        ]  # fmt: skip


def predict_dla(rows: Sequence[DlaRow], works: dict[str, tuple[Work, ...]], constants: dict[str, float]) -> np.ndarray:
    """Seconds of every row; `works` by network."""
    found = []
    for row in rows:
        target = load_target(row.target)
        machine = machine_of(target, row.power_mode)
        core = dla_core_ops(target, machine, row.precision)
        kernels = split_work(works[row.network], row.precision)
        seconds = price_dla(kernels, core, machine.bytes_per_s, constants, batch=row.batch)
        found.append(seconds.sum() + constants["start_us"] * 1e-6)
    return np.array(found)


def fit_dla(rows: Sequence[DlaRow], works: dict[str, tuple[Work, ...]]) -> dict[str, float]:
    """The constants that fit best."""
    prior = np.log([p.guess for p in DLA_PARAMETERS])
    spread = np.array([p.spread for p in DLA_PARAMETERS])

    def named(theta: np.ndarray) -> dict[str, float]:
        return {p.name: float(v) for p, v in zip(DLA_PARAMETERS, np.exp(theta))}

    def predict(theta: np.ndarray) -> np.ndarray:
        return np.log(predict_dla(rows, works, named(theta)))

    wanted = np.log([row.latency_ms / 1e3 for row in rows])
    return named(fit_logarithms(predict, wanted, prior, spread))


def dla_works(rows: Sequence[DlaRow]) -> dict[str, tuple[Work, ...]]:
    """The kernels of each network; every network has one shape in the file."""
    return {row.network: network_work(row.network, row.shape) for row in rows}


def leave_networks_out(rows: Sequence[DlaRow], works: dict[str, tuple[Work, ...]]) -> np.ndarray:
    """Seconds of every row as predicted without its network."""
    predicted = np.zeros(len(rows))
    for network in sorted({row.network for row in rows}):
        out = [i for i, row in enumerate(rows) if row.network == network]
        constants = fit_dla([row for row in rows if row.network != network], works)
        predicted[out] = predict_dla([rows[i] for i in out], works, constants)
    return predicted
