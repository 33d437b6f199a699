"""Meters whose readings follow a function of time, and a session that takes time; both on the real clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from hwc.artifacts import TensorSpec
from hwc.engines.base import Session
from hwc.profile.meters import Meter, MeterInfo


def info(**changes) -> MeterInfo:
    values = {
        "meter": "fake", "device": "a fake device", "quantity": "power_w", "rails": ("A",), "is_total": True,
        "omits": "", "period_s": 0.005, "period_source": "made up", "delay_s": 0.0, "quantum": 0.01,
    }  # fmt: skip
    return MeterInfo(**{**values, **changes})


class FakeMeter(Meter):
    """`watts` is asked at each reading; a counter integrates it from reading to reading."""

    def __init__(self, watts: Callable[[], float], **changes) -> None:
        self.info, self.watts = info(**changes), watts
        self.joules, self.last_s, self.is_closed = 0.0, time.perf_counter(), False

    def read(self):
        watts = self.watts()
        if self.info.quantity == "power_w":
            return tuple(watts / len(self.info.rails) for _ in self.info.rails)
        now = time.perf_counter()
        self.joules += watts * (now - self.last_s)
        self.last_s = now
        return (self.joules,)

    def close(self):
        self.is_closed = True


class SleepingSession(Session):
    """One run takes `seconds` and holds no lock, as a real engine; with stages if `stages` is given."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    def __init__(self, seconds: float = 0.004, stages: dict | None = None) -> None:
        self.seconds, self.stages, self.is_running = seconds, stages, False

    def run(self, feeds):
        self.is_running = True
        time.sleep(self.seconds)
        return {}

    def stage_times_ns(self):
        return self.stages or {}
