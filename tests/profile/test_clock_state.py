"""Clocks of a fake Jetson and a fake PC, and every reason why a run may not be compared."""

import dataclasses

import pytest

from hwc.profile import clock_state
from hwc.profile.clock_state import Clock, ClockState, Throttle, judge_clocks, parse_power_modes, read_clock_state
from tests.profile.fake_sysfs import add_jetson_clocks, write


def asked(answer: str):
    return lambda command: answer if list(command) == ["nvpmodel", "-q"] else None


def three(root, *, family="jetson", answer="NV Power Mode: MAXN_SUPER\n2\n", **keys) -> list[ClockState]:
    return [
        read_clock_state(moment, family, root=root, run=asked(answer), with_mode=moment != "while", **keys)
        for moment in ("before", "while", "after")
    ]


def test_a_held_board_may_be_compared(tmp_path):
    add_jetson_clocks(tmp_path)
    states = three(tmp_path)
    assert judge_clocks(states).answer == "yes" and judge_clocks(states).reasons == ()
    first = states[0]
    assert first.power_mode == "MAXN_SUPER" and states[1].power_mode is None
    assert [clock.name for clock in first.clocks] == ["cpu"] * 5 + ["gpu", "emc"]  # a core that is off has no clock
    assert first.clocks[5] == Clock("gpu", 1020.0, 1020.0, 1020.0, True, "nvhost_podgov")
    assert dict(first.temperatures_c) == {"cpu-thermal": 48.906, "gpu-thermal": None, "tj-thermal": 49.593}
    assert not any("fan" in throttle.name for throttle in first.throttles)


def reasons(states) -> str:
    verdict = judge_clocks(states)
    assert not verdict.is_comparable and verdict.answer == "no"
    return "; ".join(verdict.reasons)


def test_clocks_that_are_not_held_are_named(tmp_path):
    add_jetson_clocks(tmp_path, held=False)
    text = reasons(three(tmp_path))
    assert "the clock of cpu is not held: it may move from 730 to 1728 MHz" in text
    assert "the clock of gpu is not held: it may move from 306 to 1020 MHz" in text
    assert "the clock of emc is not held" in text


def test_one_core_that_is_not_held_is_enough(tmp_path):
    add_jetson_clocks(tmp_path)
    write(tmp_path, "sys/devices/system/cpu/cpu3/cpufreq/scaling_min_freq", 100000)
    assert reasons(three(tmp_path)) == "the clock of cpu is not held: it may move from 100 to 1728 MHz"


def test_throttling_by_level_and_by_count(tmp_path):
    add_jetson_clocks(tmp_path)
    before = read_clock_state("before", "jetson", root=tmp_path, run=asked("NV Power Mode: 15W"))
    write(tmp_path, "sys/class/thermal/cooling_device1/cur_state", 2)
    write(tmp_path, "sys/class/hwmon/hwmon9/oc3_event_cnt", 12)
    after = read_clock_state("after", "jetson", root=tmp_path, run=asked("NV Power Mode: 15W"))
    text = reasons([before, after])
    assert "throttled (after): gpu-throttle-alert (cooling_device1) at level 2" in text
    assert "throttled: sys/class/hwmon/hwmon9/oc3_event_cnt rose from 7 to 12" in text


def test_a_mode_that_changed_or_is_unknown(tmp_path):
    add_jetson_clocks(tmp_path)
    before, _, after = three(tmp_path)
    changed = dataclasses.replace(after, power_mode="15W")
    assert reasons([before, changed]) == "the power mode changed from MAXN_SUPER to 15W during the run"
    (tmp_path / "var/lib/nvpmodel/status").unlink()
    text = reasons(three(tmp_path, answer=""))
    assert "the power mode (nvpmodel) could not be read" in text and "/var/lib/nvpmodel/status is not there" in text


def test_the_mode_is_read_without_nvpmodel_by_its_name(tmp_path):
    add_jetson_clocks(tmp_path, mode="0001")
    assert three(tmp_path, answer="")[0].power_mode == "25W"
    add_jetson_clocks(tmp_path, mode="0007")
    state = three(tmp_path, answer="")[0]
    assert state.power_mode is None and "power mode 7 has no name" in state.unreadable[0]


def test_modes_of_a_conf_file():
    text = "< POWER_MODEL ID=0 NAME=MAXN >\n#< POWER_MODEL ID=1 NAME=X >\n<POWER_MODEL ID=03 NAME=5W>"
    assert parse_power_modes(text) == {"0": "MAXN", "3": "5W"}


def test_what_cannot_be_read_is_unknown_and_not_fine(tmp_path):
    text = reasons(three(tmp_path))
    for name in ("cpu", "gpu", "emc"):
        assert f"unknown: the clock of {name} could not be read" in text
    assert "not read before and after" in reasons([])


def test_a_clock_for_root_only_says_so(tmp_path, monkeypatch):
    add_jetson_clocks(tmp_path)
    plain = clock_state.Path.read_text

    def refuse(path, *args, **kwargs):
        if "kernel/debug" in str(path):
            raise PermissionError(13, "Permission denied")
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(clock_state.Path, "read_text", refuse)
    text = reasons(three(tmp_path))
    assert "emc is readable by root only" in text and "the clock of emc could not be read" in text


def gpu_states(mhz, throttles=(), family="datacenter"):
    clocks = [(Clock("gpu sm", now, None, None, None), Clock("gpu memory", 2619, None, None, None)) for now in mhz]
    moments = ("before", "while", "after")
    return [
        ClockState(moment, clock_state.EXPECTED_CLOCKS[family], None, False, row, (), tuple(throttles))
        for moment, row in zip(moments, clocks)
    ]


def test_a_gpu_without_limits_is_held_if_its_clock_never_moved():
    assert judge_clocks(gpu_states([1980, 1980, 1980])).is_comparable
    assert "not held: before 210, while 1980, after 1980 MHz" in reasons(gpu_states([210, 1980, 1980]))
    assert "whether the clock of gpu sm was held" in reasons(gpu_states([1980, 1980]))
    assert "could not be read" in reasons(gpu_states([None, 1980, 1980]))
    assert "throttled (while): power cap" in reasons(gpu_states([1980] * 3, [Throttle("power cap", 1, False)]))


def test_limits_that_moved_are_a_reason(tmp_path):
    add_jetson_clocks(tmp_path)
    states = three(tmp_path)
    clocks = tuple(
        dataclasses.replace(clock, min_mhz=612.0, max_mhz=612.0) if clock.name == "gpu" else clock
        for clock in states[2].clocks
    )
    assert "limits of the clock of gpu changed" in reasons([*states[:2], dataclasses.replace(states[2], clocks=clocks)])


def test_a_pc_counts_its_throttling(tmp_path):
    for core in (0, 1):
        base = f"sys/devices/system/cpu/cpu{core}"
        for kind in ("cur", "min", "max"):
            write(tmp_path, f"{base}/cpufreq/scaling_{kind}_freq", 3_000_000)
        write(tmp_path, f"{base}/thermal_throttle/core_throttle_count", 3)
    before = read_clock_state("before", "cpu", root=tmp_path)
    assert judge_clocks([before, read_clock_state("after", "cpu", root=tmp_path)]).is_comparable
    write(tmp_path, "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", 4)
    assert "core_throttle_count rose from 3 to 4" in reasons([before, read_clock_state("after", "cpu", root=tmp_path)])


def test_emc_of_tegra_x1(tmp_path):
    add_jetson_clocks(tmp_path)
    for path in (tmp_path / "sys/kernel/debug/bpmp/debug/clk/emc").iterdir():
        path.unlink()
    write(tmp_path, "sys/kernel/debug/clk/override.emc/clk_state", 1)
    write(tmp_path, "sys/kernel/debug/clk/override.emc/clk_rate", 1600000000)
    assert Clock("emc", 1600.0, None, None, True) in three(tmp_path)[0].clocks
    assert judge_clocks(three(tmp_path)).is_comparable


@pytest.mark.parametrize("text", ["", "x", "-5", "1" * 30])
def test_garbage_in_a_file_is_unknown(tmp_path, text):
    add_jetson_clocks(tmp_path)
    write(tmp_path, "sys/class/devfreq/17000000.gpu/min_freq", text)
    gpu = next(clock for clock in three(tmp_path)[0].clocks if clock.name == "gpu")
    assert gpu.min_mhz is None and gpu.is_held is None
