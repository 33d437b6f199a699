"""Measures latency so that the number can be trusted, and compared.

Warm-up runs until the latency is stationary: samples are cut into windows, and the last three windows' medians must lie
within `tolerance` of each other. If they never do within the time allowed, the profile says so instead of pretending.
All samples are kept, warm-up too.

`measure_pair` answers "is A faster than B" on a machine whose speed drifts: A and B run in turn in short blocks
(A B B A), each pair of neighbouring blocks gives one ratio of medians, and the answer is the median ratio with a 95 %
bootstrap interval over the pairs. Drift slower than a block cancels; a ratio of two separate runs would keep it.

Limit: wall-clock latency of `Session.run` in this process, with its copies in and out. Source for the interval: Efron
and Tibshirani, An Introduction to the Bootstrap (1993), percentile method.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Tuple

import numpy as np

from hwc.artifacts import Profile
from hwc.engines.base import Progress, Session, no_progress
from hwc.errors import UsageError

_BOOTSTRAP_ROUNDS = 2000


@dataclass(frozen=True)
class MeasureOptions:
    """How long to measure. Times in seconds; `min_runs` wins over `duration_s` for slow models."""

    warmup_s: float = 0.5
    max_warmup_s: float = 10.0
    duration_s: float = 3.0
    min_runs: int = 10
    window: int = 10
    tolerance: float = 0.05
    batch: int = 1

    def __post_init__(self) -> None:
        times_fit = self.duration_s > 0 and self.warmup_s >= 0 and self.max_warmup_s > 0
        counts_fit = self.min_runs >= 1 and self.window >= 1 and self.batch >= 1
        if not times_fit or not counts_fit or not 0 < self.tolerance < 1:
            raise UsageError(
                "a measurement needs a positive duration, longest warm-up, number of runs, window and batch, and a "
                "tolerance between 0 and 1",
                got=repr(self),
            )


@dataclass(frozen=True)
class PairedRatio:
    """Latency of A over latency of B: below 1, A is faster. `low` and `high` bound 95 % of bootstrap medians."""

    ratio: float
    low: float
    high: float
    pairs: Tuple[float, ...]

    @property
    def is_decided(self) -> bool:
        """Whether the interval leaves 1 out."""
        return self.high < 1.0 or self.low > 1.0


def measure(
    session: Session,
    feeds: Mapping[str, np.ndarray],
    options: MeasureOptions,
    *,
    name: str,
    progress: Progress = no_progress,
) -> Profile:
    """Latency of one engine.

    Returns:
        A profile whose `is_stationary` is False if warm-up ran out of time first.
    """
    before = read_load()
    warmup, stationary = _warm_up(lambda: session.run(feeds), options, progress)
    samples: List[int] = []
    start = time.perf_counter()
    while True:
        samples.append(_time_one(session, feeds))
        elapsed = time.perf_counter() - start
        progress("measuring", min(elapsed / options.duration_s, 1.0))
        if elapsed >= options.duration_s and len(samples) >= options.min_runs:
            break
    machine = {**machine_state(), "load_before": before, "load_after": read_load()}
    return Profile(
        engine=name,
        latency_ns=tuple(samples),
        warmup_ns=tuple(warmup),
        is_stationary=stationary,
        batch=options.batch,
        machine=tuple(sorted(machine.items())),
        layers=session.layers(),
    )


def measure_pair(
    a: Session,
    b: Session,
    feeds_a: Mapping[str, np.ndarray],
    feeds_b: Mapping[str, np.ndarray],
    options: MeasureOptions,
    *,
    names: Tuple[str, str],
    progress: Progress = no_progress,
) -> Tuple[Profile, Profile, PairedRatio]:
    """Two engines, interleaved; both profiles and the paired ratio of A to B."""
    before = read_load()
    warm_a, still_a = _warm_up(lambda: a.run(feeds_a), options, progress)
    warm_b, still_b = _warm_up(lambda: b.run(feeds_b), options, progress)
    times_a: List[int] = []
    times_b: List[int] = []
    ratios: List[float] = []
    block = max(1, min(options.window, int(0.25e9 / max(1, int(np.median(warm_a + warm_b))))))
    start = time.perf_counter()
    while True:
        flip = len(ratios) % 2 == 1  # A B B A: neither engine always runs on a cache warmed by the other
        order = ((b, feeds_b), (a, feeds_a)) if flip else ((a, feeds_a), (b, feeds_b))
        first, second = ([_time_one(s, f) for _ in range(block)] for s, f in order)
        mine, other = (second, first) if flip else (first, second)
        times_a += mine
        times_b += other
        ratios.append(float(np.median(mine)) / float(np.median(other)))
        elapsed = time.perf_counter() - start
        progress("measuring in turn", min(elapsed / (2 * options.duration_s), 1.0))
        if elapsed >= 2 * options.duration_s and len(ratios) >= 6:
            break
    machine = tuple(sorted({**machine_state(), "load_before": before, "load_after": read_load()}.items()))
    profiles = tuple(
        Profile(n, tuple(times), tuple(warm), still, options.batch, machine, s.layers())
        for n, times, warm, still, s in (
            (names[0], times_a, warm_a, still_a, a),
            (names[1], times_b, warm_b, still_b, b),
        )
    )
    return profiles[0], profiles[1], paired_ratio(ratios)


def paired_ratio(ratios: List[float]) -> PairedRatio:
    """Median of the ratios with its 95 % bootstrap interval; the seed is fixed so that a report can be reproduced."""
    values = np.asarray(ratios, dtype=np.float64)
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (_BOOTSTRAP_ROUNDS, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return PairedRatio(float(np.median(values)), float(low), float(high), tuple(float(r) for r in values))


def is_stationary(samples: List[int], window: int, tolerance: float) -> bool:
    """Whether the last three windows' medians lie within `tolerance` of the middle one."""
    if len(samples) < 3 * window:
        return False
    medians = [float(np.median(samples[len(samples) - (k + 1) * window : len(samples) - k * window])) for k in range(3)]
    return max(medians) - min(medians) <= tolerance * sorted(medians)[1]


def _warm_up(run: Callable[[], object], options: MeasureOptions, progress: Progress) -> Tuple[List[int], bool]:
    samples: List[int] = []
    start = time.perf_counter()
    while True:
        before = time.perf_counter_ns()
        run()
        samples.append(time.perf_counter_ns() - before)
        elapsed = time.perf_counter() - start
        progress("warming up", min(elapsed / options.max_warmup_s, 1.0))
        # Slow models cannot fill windows of ten in the time allowed: their windows shrink to what fits.
        window = max(1, min(options.window, int(options.max_warmup_s / 4 / max(elapsed / len(samples), 1e-9))))
        if elapsed >= options.warmup_s and is_stationary(samples, window, options.tolerance):
            return samples, True
        if elapsed >= options.max_warmup_s:
            return samples, False


def _time_one(session: Session, feeds: Mapping[str, np.ndarray]) -> int:
    before = time.perf_counter_ns()
    session.run(feeds)
    return time.perf_counter_ns() - before


def machine_state() -> Dict[str, str]:
    """What decides speed on this machine now: processor, cores allowed, clocks, governor. 'unknown' where not told."""
    return {
        "processor": _cpuinfo("model name") or platform.processor() or "unknown",
        "cores_allowed": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "clock_mhz": _cpuinfo("cpu MHz") or "unknown",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
        "time_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def read_load() -> str:
    """The 1-minute load average, or 'unknown'."""
    try:
        return f"{os.getloadavg()[0]:.2f}"
    except OSError:
        return "unknown"


def _cpuinfo(key: str) -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return ""


def _read(path: str) -> str:
    try:
        with open(path) as stream:
            return stream.read().strip()
    except OSError:
        return ""
