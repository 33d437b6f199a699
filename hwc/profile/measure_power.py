"""Measures latency and power of one engine in one go: idle first, then warm-up, then the measured window.

    before | meter on | idle | pause | warm-up until steady | measured window | meter off | after
    clocks                                                    clocks, half-way              clocks

The window runs from the start of the first measured run to the end of the last. It is made long enough beforehand: at
least 20 readings of the meter, and warm-up lasts at least as long as a reading may be old, so that no reading of the
window still knows the idle. If fewer than 10 readings lie in it nevertheless, there is no figure but an error.

Limits: the readings share the machine with the work; their own cost is in the result. Idle is measured once, before the
run, on a machine where nothing else should run.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import dataclasses
import time
from bisect import bisect_right
from functools import partial
from pathlib import Path
from typing import Callable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hwc.artifacts import Profile, Target
from hwc.engines.base import Progress, Session, no_progress
from hwc.errors import UsageError
from hwc.profile.choose_meter import choose_meter
from hwc.profile.clock_state import ClockState, read_clock_state
from hwc.profile.integrate_energy import IDLE_BLOCKS, MIN_SAMPLES
from hwc.profile.measure import MeasureOptions, measure
from hwc.profile.meters import Meter
from hwc.profile.power_profile import PowerProfile
from hwc.profile.read_nvml import NvmlMeter, read_gpu_clocks
from hwc.profile.record_power import Recorder
from hwc.profile.stage_times import StageTimes, TimedSession
from hwc.targets.probe import Run, run_command

IDLE_S = 3.0
_PAUSE_S = 0.3  # between idle and load: a counter that lags must have caught up
_SAMPLES_AIMED = 2 * MIN_SAMPLES
_WAIT_S = 10.0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One engine measured: its latency, its stages if it has any, and its power if that was asked for."""

    profile: Profile
    stages: Optional[StageTimes] = None
    power: Optional[PowerProfile] = None


def measure_session(
    session: Session,
    feeds: Mapping[str, np.ndarray],
    options: MeasureOptions,
    *,
    name: str,
    target: Target,
    power: str = "none",
    idle_s: float = IDLE_S,
    root: Path = Path("/"),
    progress: Progress = no_progress,
) -> Measurement:
    """Latency of a session and, unless `power` is "none", its energy: the one function behind every profile verb.

    Args:
        target: what the engine runs on; decides which meters see it and which rails add up.
        power: one of choose_meter.KINDS.
        idle_s: seconds of idle measured before the run.

    Raises:
        UsageError, TargetError, EngineError: the meter does not fit, is missing or failed; see choose_meter.
    """
    if power == "none":
        timed = TimedSession(session)
        profile = measure(timed, feeds, options, name=name, progress=progress)
        return Measurement(profile, _one(timed.last_stages(len(profile.latency_ns))))
    with choose_meter(power, target, root=root) as meter:
        return measure_with_meter(
            session, feeds, options, meter, name=name, family=target.family, idle_s=idle_s, root=root,
            progress=progress,
        )  # fmt: skip


def measure_with_meter(
    session: Session,
    feeds: Mapping[str, np.ndarray],
    options: MeasureOptions,
    meter: Meter,
    *,
    name: str,
    family: str,
    idle_s: float = IDLE_S,
    root: Path = Path("/"),
    run: Run = run_command,
    progress: Progress = no_progress,
) -> Measurement:
    """Latency and power with an open meter; errors as above."""
    if not idle_s > 0:
        raise UsageError("idle must be measured for some time", expected="over 0 s", got=f"{idle_s} s")
    period, notes = meter.info.period_s, []
    idle_s = max(idle_s, 4 * IDLE_BLOCKS * period)
    long_enough = max(options.duration_s, _SAMPLES_AIMED * period)
    if long_enough > options.duration_s:
        notes.append(
            f"measured for {long_enough:.3g} s instead of {options.duration_s:.3g} s, so that the meter gives "
            f"{_SAMPLES_AIMED} readings"
        )
    warmup_s = max(options.warmup_s, meter.info.delay_s)
    longer = dataclasses.replace(
        options, duration_s=long_enough, warmup_s=warmup_s, max_warmup_s=max(options.max_warmup_s, 2 * warmup_s)
    )
    extra = partial(read_gpu_clocks, meter.gpu) if isinstance(meter, NvmlMeter) else None
    read_clocks = partial(read_clock_state, family=family, root=root, run=run, extra=extra)
    states = [read_clocks("before")]
    timed = TimedSession(session)
    with Recorder(meter) as recorder:
        recorder.wait_past(float("-inf"), _WAIT_S)
        idle_start = time.perf_counter()
        _rest(recorder, idle_s, progress)
        idle_end = time.perf_counter()
        time.sleep(_PAUSE_S)
        watched = _WatchHalfWay(progress, lambda: states.append(read_clocks("while", with_mode=False)))
        profile = measure(timed, feeds, longer, name=name, progress=watched)
        runs = len(profile.latency_ns)
        start, end = timed.starts_s[-runs], timed.ends_s[-1]
        # A counter's bracket at the end needs readings from after it, as late as the counter may lag.
        recorder.wait_past(end + max(_PAUSE_S, meter.info.delay_s) + 2 * period, _WAIT_S)
        recording = recorder.stop()
    states.append(read_clocks("after"))
    phases = _phases(recording.times_s, timed.starts_s[-runs:], end) if meter.info.quantity == "power_w" else ()
    result = PowerProfile(
        meter=meter.info,
        times_s=tuple(moment - start for moment in recording.times_s),
        values=recording.values,
        window_s=end - start,
        idle_start_s=idle_start - start,
        idle_end_s=idle_end - start,
        inferences=runs * options.batch,
        is_paced=meter.is_paced,
        phases=phases,
        clocks=_ordered(states),
        notes=tuple(notes),
    )
    # Computed here once, so that a window that allows no figure fails now and not in a report.
    result.uncertainty_mj  # noqa: B018
    return Measurement(profile, _one(timed.last_stages(runs)), result)


class _WatchHalfWay:
    """A Progress that calls once when half of the measuring is done, between two runs."""

    def __init__(self, inner: Progress, look: Callable[[], None]) -> None:
        self._inner, self._look, self._has_looked = inner, look, False

    def __call__(self, what: str, fraction: float) -> None:
        self._inner(what, fraction)
        if what == "measuring" and fraction >= 0.5 and not self._has_looked:
            self._has_looked = True
            self._look()


def _rest(recorder: Recorder, seconds: float, progress: Progress) -> None:
    start = time.perf_counter()
    while True:
        spent = time.perf_counter() - start
        progress("idle", min(1.0, spent / seconds))
        recorder.check()
        if spent >= seconds:
            return
        time.sleep(min(0.1, seconds - spent))


def _phases(times_s: Sequence[float], starts_s: Sequence[float], end_s: float) -> Tuple[float, ...]:
    """Where in its run each reading of the window fell: 0 at the run's start, 1 at the next run's."""
    edges = [*starts_s, end_s]
    phases: List[float] = []
    for moment in times_s:
        if not starts_s[0] < moment < end_s:
            continue
        index = bisect_right(edges, moment) - 1
        phases.append((moment - edges[index]) / max(edges[index + 1] - edges[index], 1e-12))
    return tuple(phases)


def _ordered(states: Sequence[ClockState]) -> Tuple[ClockState, ...]:
    order = ("before", "while", "after")
    return tuple(sorted(states, key=lambda state: order.index(state.moment)))


def _one(stages: Sequence[StageTimes]) -> Optional[StageTimes]:
    return stages[0] if stages else None
