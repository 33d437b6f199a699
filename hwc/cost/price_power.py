"""Board power while inferences run one after another, per scope of measurement; scopes are never mixed.

    watts = board * (GPU clock and SMs against the maximum)^clock * (share of time that computes)^load

`board` is one number per board and scope, `clock` and `load` are shared by the boards of a scope. A scope says what the
meter saw: the whole board behind its power supply at the wall, the rail VDD_IN, or the sum of the rails that tegrastats
names. A watt of one is no watt of another, so an estimate names its scope, and a board without a row in a scope gets
none there. Idle power alone was seen to differ by 2.5 times between releases of one board (MLPerf logs), which no model
of a network can know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwc.cost.machine import Machine
from hwc.cost.price_kernels import KernelSeconds

CLOCK_GUESS, CLOCK_SPREAD = 1.0, 0.3
LOAD_GUESS, LOAD_SPREAD = 0.2, 0.1


@dataclass(frozen=True)
class PowerEstimate:
    """Watts of the board in one scope. `low` and `high` hold four in five left-out rows; `basis` says how."""

    scope: str
    watts: float
    low: float
    high: float
    basis: str


def compute_share(kernels: KernelSeconds) -> float:
    """How much of the time the arithmetic units are busy, 0 to 1."""
    return float(min(kernels.compute.sum() / kernels.total.sum(), 1.0)) if len(kernels.total) else 1.0


def power_features(machine: Machine, kernels: KernelSeconds) -> tuple[float, float]:
    """log of clock share and of compute share, the two powers of the formula."""
    return float(np.log(machine.gpu_share)), float(np.log(max(compute_share(kernels), 1e-3)))


def estimate_power(
    power: Mapping[str, Mapping[str, Any]], machine: Machine, kernels: KernelSeconds
) -> tuple[PowerEstimate, ...]:
    """One estimate for each scope in which the board has rows; empty where it has none."""
    found = []
    clock, load = power_features(machine, kernels)
    for scope, fitted in sorted(power.items()):
        if machine.target not in fitted["boards"]:
            continue
        # A network lighter than any of the rows draws what the lightest drew: idle power is no power of the load.
        held = max(load, fitted["least_load"])
        watts = fitted["boards"][machine.target] * np.exp(fitted["clock"] * clock + fitted["load"] * held)
        found.append(PowerEstimate(scope, float(watts), float(watts * fitted["low"]), float(watts * fitted["high"]),
                                   fitted["basis"]))  # fmt: skip
    return tuple(found)


def fit_power(
    boards: Sequence[str], features: np.ndarray, watts: np.ndarray
) -> tuple[dict[str, float], float, float]:
    """Ridge regression of log watts: board -> watts at full clock and load, and the two exponents.

    Args:
        features: (rows, 2), as `power_features` makes them.
        watts: (rows,).
    """
    names = sorted(set(boards))
    design = np.concatenate([np.array([[b == n for n in names] for b in boards], float), features], axis=1)
    guess = np.array([*[0.0] * len(names), CLOCK_GUESS, LOAD_GUESS])
    sigma = 0.15
    weight = np.diag([*[1e-6] * len(names), (sigma / CLOCK_SPREAD) ** 2, (sigma / LOAD_SPREAD) ** 2])
    target = np.log(watts) - design @ guess
    solved = guess + np.linalg.solve(design.T @ design + weight, design.T @ target)
    board_watts = {name: float(np.exp(value)) for name, value in zip(names, solved)}
    return board_watts, float(solved[-2]), float(solved[-1])
