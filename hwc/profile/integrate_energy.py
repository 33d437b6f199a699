"""Energy in a window of time from samples of power or of an energy counter, and how far it can be off.

Power. With samples (t_i, p_i), the window [a, b] and both edges interpolated between their neighbours, the energy is
the trapezoid sum. Its error has three parts:

    sampling      between two samples nothing is seen. For samples at random moments, an interval of length h whose ends
                  differ by d adds h^2 d^2 / 2 to the variance (von Neumann's estimator of 1941, which a drift does not
                  spoil); stated is 1.96 times the root of the sum. If power is monotone between samples the error is at
                  most sum(h |d|) / 2, because a trapezoid misses a monotone curve by at most h |d| / 2.
    regularity    samples at fixed distances are not at random moments of an inference. From the phase in [0, 1) of each
                  sample within its inference: D = star discrepancy; by Koksma's inequality the mean is off by at most
                  V D, where V = 2 (highest - lowest) for one pulse an inference. For a meter that sets its own pace the
                  larger of this and the part above is stated. A pulse shorter than D of an inference may be missed.
    phase lock    if D > 1/4 and a Kolmogorov-Smirnov test finds the phases uneven (D sqrt(n) > 1.95, p < 0.001), the
                  samples say nothing of the rest of the inference: the uncertainty is infinite.
    quantisation  a rounded reading is off by at most half a step, and all may be off the same way: step / 2 * (b - a).
    edges         readings that are late by up to `delay` shift the window: delay * |power at the end - at the start|.

Counter. A reading at time t is the counter at some moment in [t - delay, t], and the counter never falls. So its value
at `a` lies between the last reading at or before `a` and the first at or after a + delay, and likewise at `b`; the
energy is the difference of the two estimates and each is off by at most what its bracket allows, plus one step.

Idle power is the same over a window before the load, cut into five blocks: their mean is the result and their scatter
its standard error (Student's t with four degrees of freedom, 95 %: 2.776), which a slow drift of the idle widens.

The parts that vary at random are added as squares, the bounds in full. Limits: the error of the sensor itself (shunt,
amplifier: a factor) is in none of them.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

import numpy as np

from hwc.errors import EngineError, InternalError

MIN_SAMPLES = 10
LARGEST_GAP = 0.25  # of the window: one hole this wide, and the trapezoid is a guess
IDLE_BLOCKS = 5
T_95 = 2.776  # Student's t, 95 % two-sided, IDLE_BLOCKS - 1 degrees of freedom
_Z_95 = 1.96
_UNEVEN = 1.95  # critical value of D * sqrt(n) for p = 0.001
_LOCKED = 0.25


@dataclass(frozen=True)
class Energy:
    """Energy of a window in joules; `sampling_j` is random (95 %), `quantisation_j` and `edge_j` are bounds."""

    energy_j: float
    duration_s: float
    samples: int
    rate_hz: float
    largest_gap_s: float
    sampling_j: float  # infinite if the samples are locked to the phase of the load
    quantisation_j: float
    edge_j: float
    is_phase_locked: bool = False

    @property
    def power_w(self) -> float:
        """Mean power over the window."""
        return self.energy_j / self.duration_s

    @property
    def uncertainty_j(self) -> float:
        return self.sampling_j + self.quantisation_j + self.edge_j


@dataclass(frozen=True)
class IdlePower:
    """Mean power without load, W; `uncertainty_w` is 95 % of its scatter plus the bounds."""

    power_w: float
    uncertainty_w: float
    random_w: float
    duration_s: float
    samples: int


def integrate_power(
    times_s: Sequence[float],
    power_w: Sequence[float],
    start_s: float,
    end_s: float,
    *,
    quantum_w: float = 0.0,
    delay_s: float = 0.0,
    phases: Sequence[float] = (),
    is_regular: bool = False,
    lowest_w: Optional[float] = None,
) -> Energy:
    """Energy between two moments from samples of power that reach over both.

    Args:
        quantum_w: step of the values, summed over rails.
        phases: where in its inference each sample of the window fell, 0 to 1; empty if not known.
        is_regular: the samples are at fixed distances, not at random moments.
        lowest_w: the idle power, which bounds what an inference may fall to between samples.

    Raises:
        EngineError: too few samples, a hole in them, or none before the start or after the end.
    """
    times, power = _checked(times_s, power_w, start_s, end_s)
    inside = (times > start_s) & (times < end_s)
    edges = np.interp([start_s, end_s], times, power)
    t = np.concatenate(([start_s], times[inside], [end_s]))
    p = np.concatenate((edges[:1], power[inside], edges[1:]))
    duration = end_s - start_s
    samples, gap = _require_samples(times, inside, start_s, end_s)
    steps, jumps = np.diff(t), np.diff(p)
    energy = float(np.sum(steps * (p[:-1] + p[1:]) / 2))
    sampling = _Z_95 * math.sqrt(float(np.sum(steps**2 * jumps**2) / 2))
    locked = False
    if len(phases) >= MIN_SAMPLES:
        discrepancy = star_discrepancy(phases)
        is_uneven = discrepancy * math.sqrt(len(phases)) > _UNEVEN
        locked = is_uneven and discrepancy > _LOCKED
        if is_regular or is_uneven:
            low = min(float(p.min()), lowest_w if lowest_w is not None else float(p.min()))
            sampling = max(sampling, duration * 2 * discrepancy * (float(p.max()) - low))
        if locked:
            sampling = math.inf
    return Energy(
        energy, duration, samples, samples / duration, gap, sampling, quantum_w / 2 * duration,
        delay_s * _edge_change(times, power, start_s, end_s, delay_s), locked,
    )  # fmt: skip


def difference_counter(
    times_s: Sequence[float],
    energy_j: Sequence[float],
    start_s: float,
    end_s: float,
    *,
    quantum_j: float = 0.0,
    delay_s: Optional[float] = None,
) -> Energy:
    """Energy between two moments from readings of a counter that never falls.

    Args:
        quantum_j: step of the counter, summed over rails.
        delay_s: how long a reading may lag; None takes the longest time that the counter stood still.

    Raises:
        EngineError: too few readings, a hole in them, none before the start or long enough after the end, or a counter
            that fell.
    """
    times, counter = _checked(times_s, energy_j, start_s, end_s)
    if np.any(np.diff(counter) < 0):
        raise EngineError(
            "the energy counter fell during the measurement", got=f"{np.diff(counter).min():.6g} J",
            expected="a counter that never falls", do="measure again; if it falls again, use another meter",
        )  # fmt: skip
    inside = (times > start_s) & (times < end_s)
    samples, gap = _require_samples(times, inside, start_s, end_s)
    delay = longest_standstill_s(times_s, energy_j) if delay_s is None else delay_s
    first, first_off = _counter_at(times, counter, start_s, delay)
    last, last_off = _counter_at(times, counter, end_s, delay)
    duration = end_s - start_s
    return Energy(last - first, duration, samples, samples / duration, gap, 0.0, 2 * quantum_j, first_off + last_off)


def idle_power(
    times_s: Sequence[float],
    values: Sequence[float],
    start_s: float,
    end_s: float,
    *,
    quantity: str,
    quantum: float = 0.0,
    delay_s: Optional[float] = None,
) -> IdlePower:
    """Mean power without load, from five blocks of the window; errors as in the two above."""
    bounds = np.linspace(start_s, end_s, IDLE_BLOCKS + 1)
    times = np.asarray(times_s, dtype=np.float64)
    samples = int(np.sum((times > start_s) & (times < end_s)))
    if samples < 2 * IDLE_BLOCKS:
        raise _too_few(samples, end_s - start_s, 2 * IDLE_BLOCKS)
    if quantity == "energy_j":
        whole = difference_counter(times_s, values, start_s, end_s, quantum_j=quantum, delay_s=delay_s)
        delay = longest_standstill_s(times_s, values) if delay_s is None else delay_s
        counter = np.asarray(values, dtype=np.float64)
        at = [_counter_at(times, counter, float(moment), delay)[0] for moment in bounds]
        powers = np.diff(at) / np.diff(bounds)
        bound_w = (whole.edge_j + whole.quantisation_j) / whole.duration_s
        mean = whole.power_w
    else:
        series = np.asarray(values, dtype=np.float64)
        powers = np.array([_mean_power(times, series, a, b) for a, b in zip(bounds[:-1], bounds[1:])])
        bound_w, mean = quantum / 2, float(np.mean(powers))
    random_w = T_95 * float(np.std(powers, ddof=1)) / math.sqrt(IDLE_BLOCKS)
    return IdlePower(mean, random_w + bound_w, random_w, end_s - start_s, samples)


def star_discrepancy(phases: Sequence[float]) -> float:
    """How unevenly numbers fill [0, 1): the largest gap between their distribution and the even one, 1/(2n) to 1."""
    x = np.sort(np.asarray(phases, dtype=np.float64) % 1.0)
    n = len(x)
    ranks = np.arange(1, n + 1)
    return float(max(np.max(ranks / n - x), np.max(x - (ranks - 1) / n)))


def estimate_step(values: Sequence[float], floor: float) -> Optional[float]:
    """The step of quantised readings: the median gap between neighbouring distinct values that are over `floor` apart.

    None if fewer than two gaps were seen. `floor` leaves out the smear that a changing supply voltage adds to a step.
    """
    gaps = np.diff(np.unique(np.asarray(values, dtype=np.float64)))
    gaps = gaps[gaps > floor]
    return float(np.median(gaps)) if len(gaps) >= 2 else None


def longest_standstill_s(times_s: Sequence[float], counter: Sequence[float]) -> float:
    """The longest time that a counter may have stood still: from the reading before one change to the next change."""
    times, values = np.asarray(times_s, dtype=np.float64), np.asarray(counter, dtype=np.float64)
    changed = np.flatnonzero(np.diff(values) > 0) + 1
    if len(changed) < 2:
        raise EngineError(
            "the energy counter does not count", got=f"{len(changed)} changes in {len(values)} readings",
            expected="a counter that grows while the device is on", do="use another meter, or measure for longer",
        )  # fmt: skip
    return float(np.max(times[changed[1:]] - times[changed[:-1] - 1]))


def _counter_at(times: np.ndarray, counter: np.ndarray, moment: float, delay: float) -> Tuple[float, float]:
    """The counter at that moment and how far it can be off, by the bracket of the docstring."""
    before = int(np.searchsorted(times, moment, side="right")) - 1
    after = int(np.searchsorted(times, moment + delay, side="left"))
    if before < 0 or after >= len(times):
        raise EngineError(
            "the recording does not reach far enough over the window",
            expected=f"readings from before {moment:.3f} s to after {moment + delay:.3f} s",
            got=f"readings from {times[0]:.3f} s to {times[-1]:.3f} s", do="measure again",
        )  # fmt: skip
    low, high = float(counter[before]), float(counter[after])
    # A reading lags by half the delay on average; the bracket holds whatever the true lag is.
    value = min(max(float(np.interp(moment + delay / 2, times, counter)), low), high)
    return value, max(value - low, high - value)


def _mean_power(times: np.ndarray, power: np.ndarray, start: float, end: float) -> float:
    inside = (times > start) & (times < end)
    edges = np.interp([start, end], times, power)
    t = np.concatenate(([start], times[inside], [end]))
    p = np.concatenate((edges[:1], power[inside], edges[1:]))
    return float(np.sum(np.diff(t) * (p[:-1] + p[1:]) / 2) / (end - start))


def _edge_change(times: np.ndarray, power: np.ndarray, start: float, end: float, delay: float) -> float:
    """How much power near the end can differ from power near the start, within `delay` of both edges."""
    near = [
        np.concatenate((power[np.abs(times - edge) <= delay], np.interp([edge], times, power))) for edge in (start, end)
    ]
    return float(max(near[1].max() - near[0].min(), near[0].max() - near[1].min()))


def _checked(
    times_s: Sequence[float], values: Sequence[float], start: float, end: float
) -> Tuple[np.ndarray, np.ndarray]:
    times, series = np.asarray(times_s, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if times.shape != series.shape or times.ndim != 1 or not end > start:
        raise InternalError("samples of power and their times do not fit", got=f"{times.shape}, {series.shape}")
    if len(times) == 0 or times[0] > start or times[-1] < end:
        got = f"samples from {times[0]:.3f} to {times[-1]:.3f} s" if len(times) else "no samples"
        raise EngineError(
            "the samples of power do not reach over the measured window", expected=f"{start:.3f} to {end:.3f} s",
            got=got, do="measure again; the meter may be too slow for so short a run",
        )  # fmt: skip
    if np.any(np.diff(times) <= 0) or not np.all(np.isfinite(series)):
        raise EngineError("the samples of power are not in order of time, or are no numbers", do="measure again")
    return times, series


def _require_samples(times: np.ndarray, inside: np.ndarray, start: float, end: float) -> Tuple[int, float]:
    samples = int(np.sum(inside))
    if samples < MIN_SAMPLES:
        raise _too_few(samples, end - start, MIN_SAMPLES)
    first, last = np.flatnonzero(inside)[[0, -1]]
    gap = float(np.max(np.diff(times[max(first - 1, 0) : last + 2])))
    if gap > LARGEST_GAP * (end - start):
        raise EngineError(
            "the meter gave no samples for a large part of the measured window", got=f"{gap:.3f} s without a sample",
            expected=f"at most {LARGEST_GAP * (end - start):.3f} s of {end - start:.3f} s",
            do="measure again on a machine that is less busy, or for longer (--duration)",
        )  # fmt: skip
    return samples, gap


def _too_few(samples: int, seconds: float, wanted: int) -> EngineError:
    return EngineError(
        "too few samples of power for an energy", got=f"{samples} in {seconds:.3f} s", expected=f"at least {wanted}",
        do="measure for longer (--duration), or use a faster meter",
    )  # fmt: skip
