"""Latency and power in one go: windows, idle, extension, clocks and failures, on a fake meter and a fake session."""

import dataclasses
import itertools

import pytest

from hwc import targets
from hwc.errors import EngineError, InternalError, UsageError
from hwc.profile.measure import MeasureOptions
from hwc.profile.measure_power import measure_session, measure_with_meter
from hwc.profile.power_profile import PowerProfile
from hwc.serialize import from_json, to_json
from tests.profile.fake_meter import FakeMeter, SleepingSession, info
from tests.profile.fake_sysfs import add_jetson_clocks

HOW = MeasureOptions(
    warmup_s=0.02, max_warmup_s=0.05, duration_s=0.4, window=3
)  # long beside what a busy machine may stall


def measured(tmp_path, session=None, how=HOW, idle_s=0.1, said=None, **changes):
    session = session or SleepingSession()
    meter = FakeMeter(lambda: 20.0 if session.is_running else 5.0, **changes)
    keys = {} if said is None else {"progress": lambda *what: said.append(what)}
    return measure_with_meter(
        session, {}, how, meter, name="made up", family="jetson", idle_s=idle_s, root=tmp_path,
        run=lambda command: "NV Power Mode: 25W", **keys,
    )  # fmt: skip


@pytest.mark.parametrize("quantity", ["power_w", "energy_j"])
def test_idle_is_measured_before_and_subtracted(tmp_path, quantity):
    result = measured(tmp_path, quantity=quantity)
    power, runs = result.power, len(result.profile.latency_ns)
    assert power.idle.power_w == pytest.approx(5.0, abs=0.1)
    assert power.power_w == pytest.approx(20.0, abs=0.5)
    assert power.inferences == runs
    # Both numbers, and the relation between them.
    assert power.energy_with_idle_mj == pytest.approx(1e3 * power.power_w * power.window_s / runs)
    idle_mj = 1e3 * power.idle.power_w * power.window_s / runs
    assert power.energy_mj == pytest.approx(power.energy_with_idle_mj - idle_mj)
    assert 0 < power.uncertainty_with_idle_mj <= power.uncertainty_mj


def test_the_window_is_that_of_the_measured_runs(tmp_path):
    result = measured(tmp_path)
    power = result.power
    assert power.idle_start_s < power.idle_end_s < 0 < power.window_s
    assert power.window_s >= sum(result.profile.latency_ns) / 1e9
    assert power.times_s[0] <= power.idle_start_s and power.times_s[-1] >= power.window_s
    inside = [moment for moment in power.times_s if 0 < moment < power.window_s]
    assert len(power.phases) == len(inside) == power.energy.samples and all(0 <= phase <= 1 for phase in power.phases)


def test_a_slow_meter_makes_the_measurement_longer_and_says_so(tmp_path):
    result = measured(tmp_path, period_s=0.03, idle_s=0.01)
    power = result.power
    assert sum(result.profile.latency_ns) / 1e9 > 0.5 and power.window_s >= 0.59
    assert power.notes == ("measured for 0.6 s instead of 0.4 s, so that the meter gives 20 readings",)
    assert power.idle_end_s - power.idle_start_s >= 0.59  # four readings for each of five blocks


def test_warm_up_outlasts_the_age_of_a_reading(tmp_path):
    result = measured(tmp_path, delay_s=0.15)
    assert sum(result.profile.warmup_ns) / 1e9 >= 0.14


def test_rails_are_added_and_batch_counts(tmp_path):
    result = measured(tmp_path, how=dataclasses.replace(HOW, batch=4), rails=("A", "B"), is_total=False)
    power = result.power
    assert power.power_w == pytest.approx(20.0, abs=0.5) and power.inferences == 4 * len(result.profile.latency_ns)
    assert power.quantum == 0.02 and power.meter.rail == "A + B"


def test_clocks_are_read_before_while_and_after(tmp_path):
    add_jetson_clocks(tmp_path)
    said = []
    power = measured(tmp_path, said=said).power
    assert [state.moment for state in power.clocks] == ["before", "while", "after"]
    assert power.comparability.is_comparable
    assert {what for what, _ in said} == {"idle", "warming up", "measuring"}
    add_jetson_clocks(tmp_path, held=False)
    assert "not held" in "; ".join(measured(tmp_path).power.comparability.reasons)


def test_a_profile_survives_json_with_every_reading(tmp_path):
    power = measured(tmp_path).power
    assert from_json(PowerProfile, to_json(power)) == power


def test_a_meter_that_fails_half_way_stops_the_measurement(tmp_path):
    session, count = SleepingSession(), itertools.count()

    def dies():
        if next(count) == 30:
            raise EngineError("the rail A is gone")
        return 5.0

    with pytest.raises(EngineError, match="the rail A is gone"):
        measure_with_meter(session, {}, HOW, FakeMeter(dies), name="x", family="cpu", idle_s=0.1, root=tmp_path)


def test_a_meter_that_crashes_is_one_error(tmp_path):
    def crash():
        raise ZeroDivisionError("oh")

    with pytest.raises(EngineError, match="the meter fake failed") as caught:
        measure_with_meter(
            SleepingSession(), {}, HOW, FakeMeter(crash), name="x", family="cpu", idle_s=0.1, root=tmp_path
        )
    assert "ZeroDivisionError" in caught.value.got


def test_idle_needs_a_length(tmp_path):
    with pytest.raises(UsageError, match="idle"):
        measured(tmp_path, idle_s=0.0)


def test_without_power_there_are_only_times(tmp_path):
    result = measure_session(SleepingSession(), {}, HOW, name="x", target=targets.load("cpu"))
    assert result.power is None and result.stages is None and result.profile.latency_ns


def test_stages_are_those_of_the_measured_runs():
    stages = {"enqueue": 5, "h2d": 10, "gpu": 100, "d2h": 20}
    result = measure_session(SleepingSession(stages=stages), {}, HOW, name="x", target=targets.load("cpu"))
    assert result.stages.latency_ns == (130,) * len(result.profile.latency_ns)
    with pytest.raises(InternalError, match="some runs only"):
        measure_session(SleepingSession(stages={"gpu": 1}), {}, HOW, name="x", target=targets.load("cpu"))


def test_a_meter_that_is_not_there_is_said_before_anything_runs(tmp_path):
    session = SleepingSession()
    with pytest.raises(EngineError, match="no power meter works here"):
        measure_session(session, {}, HOW, name="x", target=targets.load("cpu"), power="auto", root=tmp_path)
    assert not session.is_running


@pytest.mark.parametrize("change", [{"rails": ()}, {"period_s": 0}, {"quantity": "horsepower"}, {"quantum": -1}])
def test_a_meter_has_to_say_what_it_is(change):
    with pytest.raises(UsageError):
        info(**change)


def test_a_profile_of_nothing_is_refused():
    with pytest.raises(UsageError, match="one value per rail"):
        PowerProfile(info(), (0.0,), ((1.0, 2.0),), 1.0, -2.0, -1.0, 1)
