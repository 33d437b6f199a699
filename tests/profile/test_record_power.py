"""The recording thread: moments, order, failures, and that it ends."""

import threading
import time

import numpy as np
import pytest

from hwc.errors import EngineError
from hwc.profile.integrate_energy import star_discrepancy
from hwc.profile.record_power import Recorder
from tests.profile.fake_meter import FakeMeter


def test_readings_are_in_order_and_at_random_moments():
    with Recorder(FakeMeter(lambda: 1.0, period_s=0.005)) as recorder:
        time.sleep(0.3)
        recording = recorder.stop()
    times = np.array(recording.times_s)
    assert len(times) == len(recording.values) and np.all(np.diff(times) > 0)
    # Locked to the period, all would have one phase and a discrepancy near 1.
    assert star_discrepancy((times - times[0]) / 0.005) < 0.5


def test_a_failure_is_handed_over_and_ends_the_waiting():
    def fail():
        raise EngineError("gone")

    with Recorder(FakeMeter(fail)) as recorder:
        with pytest.raises(EngineError, match="gone"):
            recorder.wait_past(0.0, 5.0)
        with pytest.raises(EngineError, match="gone"):
            recorder.stop()


def test_a_meter_that_gives_nothing_is_not_waited_for_without_end():
    is_over = threading.Event()

    def block():
        is_over.wait(5.0)
        return 1.0

    with Recorder(FakeMeter(block)) as recorder:
        with pytest.raises(EngineError, match="gave no reading"):
            recorder.wait_past(float("-inf"), 0.05)
        is_over.set()


def test_no_thread_is_left():
    with Recorder(FakeMeter(lambda: 1.0)) as recorder:
        recorder.wait_past(float("-inf"), 5.0)
    assert not any(thread.name == "hwc-power" for thread in threading.enumerate())
    assert recorder.count >= 1


def test_a_paced_meter_is_stamped_on_arrival_and_never_slept_for():
    meter = FakeMeter(lambda: time.sleep(0.002) or 1.0, period_s=100.0)
    meter.is_paced = True
    with Recorder(meter) as recorder:
        while recorder.count < 5:
            time.sleep(0.005)
        assert len(recorder.stop().times_s) >= 5
