"""Power and stages in the report, pinned by golden files; and what a program reads."""

import dataclasses
import json
import math

import pytest

from hwc.profile.clock_state import Clock, ClockState, Throttle
from hwc.profile.measure_power import Measurement
from hwc.profile.power_profile import PowerProfile
from hwc.profile.report_measurement import format_measurement, summarize_measurement
from hwc.profile.report_power import format_power, summarize_power
from hwc.profile.stage_times import StageTimes
from tests.golden.compare_golden import compare_with_golden
from tests.profile.fake_meter import info
from tests.profile.test_report import a_profile

TIMES = tuple(round(-4.0 + 0.1 * n, 6) for n in range(80))


def state(moment: str, *, held: bool = True, level: int = 0) -> ClockState:
    gpu = Clock("gpu", 1020.0, 1020.0 if held else 306.0, 1020.0, held)
    cores = tuple(Clock("cpu", 1728.0, 1728.0, 1728.0, True) for _ in range(2))
    return ClockState(
        moment, ("cpu", "gpu"), None if moment == "while" else "MAXN_SUPER", moment != "while", (*cores, gpu),
        (("tj-thermal", 49.593), ("gpu-thermal", None)), (Throttle("gpu-throttle-alert", level, False),),
    )  # fmt: skip


def a_power(**changes) -> PowerProfile:
    """Idle at 6 W for 3 s, then 21 W, in 40 mW steps; 100 inferences in 3 s."""
    meter = info(
        meter="ina3221", device="Jetson Orin Nano 8GB Super", rails=("VDD_IN",), omits="the carrier board",
        period_s=0.1, quantum=0.04,
    )  # fmt: skip
    fields = {
        "meter": meter, "times_s": TIMES, "values": tuple((6.0 if t < -0.45 else 21.0,) for t in TIMES),
        "window_s": 3.0, "idle_start_s": -3.9, "idle_end_s": -0.9, "inferences": 100,
        "clocks": (state("before"), state("while"), state("after")),
    }  # fmt: skip
    return PowerProfile(**{**fields, **changes})


def test_the_report_is_the_golden_one():
    stages = StageTimes(
        (40_000,) * 100, (100_000,) * 100, tuple(700_000 + 1000 * n for n in range(100)), (50_000,) * 100
    )
    text = format_measurement(Measurement(a_profile(), stages, a_power()))
    compare_with_golden("profile_power.txt", text + "\n")


def test_a_run_that_may_not_be_compared_says_why_in_the_golden_one():
    power = a_power(
        clocks=(state("before", held=False), state("after", held=False, level=2)),
        notes=("measured for 3 s instead of 1 s, so that the meter gives 20 readings",),
        meter=info(rails=("GPU", "CPU"), is_total=False, omits="the carrier board", period_s=0.1, quantum=None),
        values=tuple((3.0, 3.0) if t < -0.45 else (3.0, 3.001) for t in TIMES),
        phases=(0.5,) * 30,
    )  # fmt: skip
    compare_with_golden("profile_power_refused.txt", format_power(power) + "\n")


def test_the_figures_are_those_of_the_signal():
    summary = summarize_power(a_power())
    assert summary["power_w"] == pytest.approx(21.0) and summary["idle_w"] == pytest.approx(6.0)
    assert summary["energy_with_idle_mj"] == pytest.approx(630.0) and summary["energy_mj"] == pytest.approx(450.0)
    # Nothing varies, so only half a step is left, of the window and of the idle: 2 * 0.02 W * 3 s / 100.
    assert summary["uncertainty_mj"] == pytest.approx(1.2) and summary["uncertainty_with_idle_mj"] == pytest.approx(0.6)
    assert (summary["samples"], summary["rail"], summary["comparable"]) == (29, "VDD_IN", "yes")
    assert {"sampling", "quantisation", "edges", "idle"} == set(summary["parts_mj"])


def test_json_has_no_infinity():
    summary = summarize_power(a_power(phases=(0.5,) * 30))
    assert summary["is_phase_locked"] and summary["uncertainty_mj"] is None and summary["comparable"] == "no"
    assert "null" in json.dumps(summary, allow_nan=False)
    assert math.isinf(a_power(phases=(0.5,) * 30).uncertainty_mj)


def test_an_energy_below_its_uncertainty_is_a_warning():
    quiet = a_power(values=tuple((6.0,) if t < -0.45 else (6.01,) for t in TIMES))
    assert "smaller than its uncertainty" in format_power(quiet)
    assert "smaller than its uncertainty" not in format_power(a_power())


def test_stages_take_the_name_latency_and_the_wall_clock_another():
    stages = StageTimes((1,) * 100, (10,) * 100, (100,) * 100, (1000,) * 100)
    summary = summarize_measurement(Measurement(a_profile(), stages))
    assert summary["latency_ms"]["mean"] == pytest.approx(0.00111)
    assert summary["run_walltime_ms"]["mean"] == a_profile().mean_ms
    assert set(summary["stages_ms"]) == {"enqueue", "h2d", "gpu", "d2h"} and summary["power"] is None
    plain = summarize_measurement(Measurement(a_profile()))
    assert "stages_ms" not in plain and plain["latency_ms"]["mean"] == a_profile().mean_ms
    text = format_measurement(Measurement(a_profile(), stages))
    for name in ("Latency: ", "Enqueue Time: ", "H2D Latency: ", "GPU Compute Time: ", "D2H Latency: ", "Jitter: "):
        assert text.count("\n" + name) == 1


def test_a_total_rail_and_a_sum_are_told_apart():
    assert "one rail for the whole input; not in it: the carrier board" in format_power(a_power())
    meter = dataclasses.replace(a_power().meter, is_total=False)
    assert "a sum, because no rail measures the whole" in format_power(a_power(meter=meter))
