"""Measures latency so that the number can be trusted, and compared.

Warm-up runs until the latency is stationary: samples are cut into windows, and the last three windows' medians must lie
within `tolerance` of each other. If they never do within the time allowed, the profile says so instead of pretending.
All samples are kept, warm-up too.

`measure_in_turn` answers "is A faster than B" on a machine whose speed drifts: all contestants run in one round, each a
short block, and each round gives one ratio of medians; the answer is the median ratio with a 95 % bootstrap interval
over the rounds. Drift slower than a round cancels; a ratio of two separate runs would keep it. The orders of the rounds
are those of a Williams design, so each contestant runs equally often straight after each other one. A block opens with
a pause, because the threads of some runtimes spin on after a run and take cores from the next contestant (seen on two
cores: OpenVINO straight after ONNX Runtime took 1.48 times as long as alone, after 10 ms 1.16 times, after 50 ms 1.05
times), then with runs that are not counted, because caches and threads have gone cold. `measure_pair` is the form for
two.

Limit: wall-clock latency of `Session.run` in this process, with its copies in and out. Sources: for the interval, Efron
and Tibshirani, An Introduction to the Bootstrap (1993), percentile method; for the orders, Williams, Experimental
designs balanced for the estimation of residual effects of treatments (1949).

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from functools import partial
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from hwc.artifacts import Profile
from hwc.engines.base import Progress, Session, no_progress
from hwc.errors import UsageError

_BOOTSTRAP_ROUNDS = 2000
_MIN_ROUNDS = 6  # fewer give no interval worth the name
_LONGEST_BLOCK_S = 0.25
_SLOW_S = 0.1  # a run this long hides cold caches, and many more would cost much


@dataclass(frozen=True)
class MeasureOptions:
    """How long to measure. Times in seconds; `min_runs` wins over `duration_s` for slow models.

    Where contestants run in turn, each block opens with `pause_s` of rest and then `opening_s` of runs that are not
    counted (at least one), and `max_rounds` bounds the samples.
    """

    warmup_s: float = 0.5
    max_warmup_s: float = 10.0
    duration_s: float = 3.0
    min_runs: int = 10
    window: int = 10
    tolerance: float = 0.05
    batch: int = 1
    pause_s: float = 0.05
    opening_s: float = 0.0
    max_rounds: int = 10_000

    def __post_init__(self) -> None:
        times_fit = self.duration_s > 0 and self.warmup_s >= 0 and self.max_warmup_s > 0
        times_fit = times_fit and self.pause_s >= 0 and self.opening_s >= 0
        counts_fit = self.min_runs >= 1 and self.window >= 1 and self.batch >= 1 and self.max_rounds >= _MIN_ROUNDS
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


@dataclass(frozen=True)
class Contestant:
    """One of several engines to be measured in turn; each has its own feeds because names may differ."""

    name: str
    session: Session
    feeds: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Turns:
    """What contestants that ran in turn took: sample i of each profile belongs to round i // block."""

    profiles: Tuple[Profile, ...]
    block: int

    def ratio(self, a: int, b: int) -> PairedRatio:
        """Latency of contestant `a` over that of `b`, paired by round."""
        mine, other = (block_medians(self.profiles[index].latency_ns, self.block) for index in (a, b))
        return paired_ratio([x / y for x, y in zip(mine, other)])


def measure_in_turn(
    contestants: Sequence[Contestant], options: MeasureOptions, *, progress: Progress = no_progress
) -> Turns:
    """All engines in one interleaved run of `duration_s` for each, and of at least six rounds."""
    before = read_load()
    warm = [_warm_up(partial(c.session.run, c.feeds), options, progress) for c in contestants]
    # One length for all, so that each ratio compares medians of equally many runs.
    typical_s = [float(np.median(samples)) / 1e9 for samples, _ in warm]
    block = max(1, min(options.window, int(_LONGEST_BLOCK_S / max(1e-9, *typical_s))))
    openings_s = [options.opening_s if typical < _SLOW_S else 0.0 for typical in typical_s]
    times: List[List[int]] = [[] for _ in contestants]
    orders = turn_orders(len(contestants))
    total_s, rounds, start = options.duration_s * len(contestants), 0, time.perf_counter()
    while True:
        for index in orders[rounds % len(orders)]:
            times[index] += _time_block(contestants[index], block, openings_s[index], options.pause_s)
        rounds += 1
        elapsed = time.perf_counter() - start
        progress("measuring in turn", min(max(elapsed / total_s, rounds / options.max_rounds), 1.0))
        # Whole sets of orders only: with more A B rounds than B A rounds, the median would keep the drift of a round.
        is_done = elapsed >= total_s and rounds >= _MIN_ROUNDS and rounds % len(orders) == 0
        if rounds >= options.max_rounds or is_done:
            break
    machine = tuple(sorted({**machine_state(), "load_before": before, "load_after": read_load()}.items()))
    profiles = tuple(
        Profile(c.name, tuple(taken), tuple(warmup), still, options.batch, machine, c.session.layers())
        for c, taken, (warmup, still) in zip(contestants, times, warm)
    )
    return Turns(profiles, block)


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
    """Two engines, interleaved A B B A; both profiles and the paired ratio of A to B."""
    turns = measure_in_turn(
        (Contestant(names[0], a, feeds_a), Contestant(names[1], b, feeds_b)), options, progress=progress
    )
    return turns.profiles[0], turns.profiles[1], turns.ratio(0, 1)


def turn_orders(count: int) -> Tuple[Tuple[int, ...], ...]:
    """The orders of a Williams design: each contestant at each place, and after each other one, equally often.

    Returns:
        `count` orders of the numbers 0 to count - 1 if count is even, else twice as many.
    """
    # 0, 1, n-1, 2, n-2, ...: neighbours differ by each residue once, so its shifts hold each ordered pair once.
    first = [(place + 1) // 2 if place % 2 else (count - place // 2) % count for place in range(count)]
    orders = tuple(tuple((index + shift) % count for index in first) for shift in range(count))
    return orders if count % 2 == 0 else orders + tuple(order[::-1] for order in orders)


def block_medians(samples: Sequence[int], block: int) -> List[float]:
    """The median of each block of `block` samples, in the order taken."""
    return [float(np.median(samples[i : i + block])) for i in range(0, len(samples), block)]


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


def _time_block(contestant: Contestant, runs: int, opening_s: float, pause_s: float) -> List[int]:
    time.sleep(pause_s)
    start = time.perf_counter()
    if runs > 1:  # a block of one run is of contestants so slow that one more would cost much
        contestant.session.run(contestant.feeds)
    while time.perf_counter() - start < opening_s:
        contestant.session.run(contestant.feeds)
    return [_time_one(contestant.session, contestant.feeds) for _ in range(runs)]


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
