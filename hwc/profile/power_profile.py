"""What a measurement of power leaves behind: every reading, the windows, the clocks, and figures computed from them.

`PowerProfile` stores no figure: power, energy and uncertainty are computed from the raw readings each time, so
that none can be stored without what it came from. Times are in seconds from the start of the measured window.

    energy_with_idle_mj = 1000 * energy of the window / inferences
    energy_mj           = 1000 * (energy of the window - idle power * length of the window) / inferences

The first is what the battery pays, the second what the inference adds to a device that is on anyway.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Tuple

import numpy as np

from hwc.errors import UsageError
from hwc.profile.clock_state import ClockState, Comparability, judge_clocks
from hwc.profile.integrate_energy import Energy, IdlePower, difference_counter, idle_power, integrate_power
from hwc.profile.meters import MeterInfo


@dataclass(frozen=True)
class PowerProfile:
    """Readings of one meter around one measurement.

    Args:
        times_s: of each reading, from the start of the measured window; negative before it.
        values: one per rail of the meter, in watts or joules, for each reading.
        window_s: length of the measured window.
        idle_start_s, idle_end_s: the window without load, before the measured one.
        inferences: done within the window (runs times batch).
        is_paced: the meter set the times of its readings itself, at fixed distances.
        phases: where in its run each reading inside the window fell, 0 to 1.
        clocks: states of clocks and temperatures: before, while and after measuring.
    """

    meter: MeterInfo
    times_s: Tuple[float, ...]
    values: Tuple[Tuple[float, ...], ...]
    window_s: float
    idle_start_s: float
    idle_end_s: float
    inferences: int
    is_paced: bool = False
    phases: Tuple[float, ...] = ()
    clocks: Tuple[ClockState, ...] = ()
    notes: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rails = {len(row) for row in self.values}
        if len(self.times_s) != len(self.values) or rails != {len(self.meter.rails)} or self.inferences < 1:
            raise UsageError(
                "a power profile needs one value per rail and reading, and at least one inference",
                got=f"{len(self.times_s)} times, rows of {sorted(rails)} values, {self.inferences} inferences",
                do="measure again",
            )

    @property
    def quantum(self) -> float:
        """The step of the sum over rails, W or J: the worst case, all rails off the same way."""
        return (self.meter.quantum or 0.0) * len(self.meter.rails)

    @property
    def idle(self) -> IdlePower:
        return idle_power(
            self.times_s, self._sums(), self.idle_start_s, self.idle_end_s, quantity=self.meter.quantity,
            quantum=self.quantum,
        )  # fmt: skip

    @property
    def energy(self) -> Energy:
        """Energy of the measured window, idle included."""
        if self.meter.quantity == "energy_j":
            return difference_counter(self.times_s, self._sums(), 0.0, self.window_s, quantum_j=self.quantum)
        return integrate_power(
            self.times_s, self._sums(), 0.0, self.window_s, quantum_w=self.quantum, delay_s=self.meter.delay_s,
            phases=self.phases, is_regular=self.is_paced, lowest_w=self.idle.power_w,
        )  # fmt: skip

    @property
    def power_w(self) -> float:
        """Mean power over the measured window."""
        return self.energy.power_w

    @property
    def energy_with_idle_mj(self) -> float:
        """Millijoules an inference, all that the rails carried."""
        return 1e3 * self.energy.energy_j / self.inferences

    @property
    def energy_mj(self) -> float:
        """Millijoules an inference above idle."""
        return 1e3 * (self.energy.energy_j - self.idle.power_w * self.window_s) / self.inferences

    @property
    def uncertainty_with_idle_mj(self) -> float:
        return 1e3 * self.energy.uncertainty_j / self.inferences

    @property
    def uncertainty_mj(self) -> float:
        """Of `energy_mj`: random parts as squares, bounds in full, those of the idle included."""
        energy, idle = self.energy, self.idle
        random_j = math.hypot(energy.sampling_j, idle.random_w * self.window_s)
        bounds_j = energy.quantisation_j + energy.edge_j + (idle.uncertainty_w - idle.random_w) * self.window_s
        return 1e3 * (random_j + bounds_j) / self.inferences

    @property
    def comparability(self) -> Comparability:
        """Whether this run may be compared with others, judged by the clocks and by when the readings fell."""
        verdict = judge_clocks(self.clocks)
        if self.energy.is_phase_locked:
            return Comparability(False, (*verdict.reasons, "the readings fall at the same point of each inference"))
        return verdict

    def _sums(self) -> Tuple[float, ...]:
        return tuple(float(total) for total in np.sum(np.asarray(self.values, dtype=np.float64), axis=1))
