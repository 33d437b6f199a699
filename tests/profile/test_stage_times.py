"""Stages of a run and the jitter of its latency."""

import pytest

from hwc.artifacts import Kernel
from hwc.profile.stage_times import StageTimes, TimedSession, jitter_ms
from tests.profile.fake_meter import SleepingSession


def test_latency_is_the_copies_and_the_kernels():
    times = StageTimes((1, 2), (10, 20), (100, 200), (1000, 2000))
    assert times.latency_ns == (1110, 2220) and times.of("enqueue") == (1, 2)


def test_jitter_is_the_mean_step_and_a_drift_hardly_counts():
    assert jitter_ms([1_000_000, 3_000_000] * 50) == 2.0
    assert jitter_ms([1_000_000 + 10 * i for i in range(100)]) == pytest.approx(1e-5)
    assert jitter_ms([5]) == 0.0


def test_the_wrapper_is_transparent():
    class Layered(SleepingSession):
        def layers(self):
            return (Kernel("k", "Conv", "fp32"),)

    inner = Layered(0.0)
    session = TimedSession(inner)
    assert session.run({}) == {} and session.layers() == inner.layers() and session.last_stages(1) == ()
    assert session.inputs == inner.inputs and session.starts_s[0] <= session.ends_s[0]
