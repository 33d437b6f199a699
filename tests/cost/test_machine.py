import dataclasses

import pytest

from hwc import targets
from hwc.cost.machine import machine_of
from hwc.errors import TargetError


def test_without_a_mode_a_target_runs_at_its_maximum():
    machine = machine_of(targets.load("agx-orin"))
    assert machine.sm_count == 16 and machine.gpu_share == 1.0
    assert machine.fp16_ops == pytest.approx(42.6e12) and machine.bytes_per_s == pytest.approx(204.8e9)


@pytest.mark.parametrize(
    ("target", "mode", "sms", "gpu_mhz", "gigabytes"),
    [
        ("agx-xavier", "MODE_10W", 4, 520, 68.2), ("agx-xavier", "MODE_30W_ALL", 8, 900, 102.4),
        ("agx-orin", "MODE_30W", 8, 612, 204.7), ("agx-orin", "mode_15w", 6, 408, 136.5),
        ("agx-orin", "MODE_50W", 16, 816, 204.7), ("orin-nx", "10W", 4, 612, 68.3),
        ("agx-orin-32gb", "MODE_15W", 6, 408, 136.5), ("orin-nano-8gb-super", "15W", 8, 612, 68.3),
        ("xavier-nx", "MODE_15W_6CORE", 6, 1109.25, 51.2), ("jetson-nano", "MAXN", 1, 921.6, 25.6),
        ("tx2", "MAXQ", 2, 850, 42.6), ("orin-nano-4gb", "7W_AI", 4, 408, 34.1),
    ],
)  # fmt: skip
def test_a_power_mode_sets_clocks_sms_and_bandwidth(target, mode, sms, gpu_mhz, gigabytes):
    machine = machine_of(targets.load(target), mode)
    assert machine.sm_count == sms and machine.gpu_hz == pytest.approx(gpu_mhz * 1e6)
    assert machine.bytes_per_s / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_an_uncapped_mode_is_the_maximum():
    target = targets.load("orin-nx")
    assert dataclasses.replace(machine_of(target, "MAXN"), mode="") == dataclasses.replace(machine_of(target), mode="")


def test_clocks_that_were_given_take_the_place_of_the_modes():
    machine = machine_of(targets.load("agx-xavier"), gpu_mhz=675.75, memory_mhz=1600)
    assert machine.gpu_hz == 675.75e6 and machine.bytes_per_s == pytest.approx(102.4e9)
    assert machine.int8_ops == pytest.approx(22.6e12 * 675.75 / 1377)
    assert machine_of(targets.load("orin-nx"), "15W", memory_mhz=3199).bytes_per_s == pytest.approx(102.4e9, rel=0.01)


@pytest.mark.parametrize(
    ("target", "mode", "words"),
    [
        ("orin-nx", "15W", "does not say its 'memory_clock_mhz'"),
        ("agx-xavier", "MODE_15W_DESKTOP", "does not say its 'gpu_clock_mhz'"),
        ("agx-orin", "TURBO", "no power mode called 'TURBO'"),
        ("thor-t4000", "", "unknown"),
        ("a100", "", "no estimate for a100"),
        ("cpu", "", "no estimate for cpu"),
    ],
)
def test_what_is_unknown_is_named(target, mode, words):
    with pytest.raises(TargetError, match=words):
        machine_of(targets.load(target), mode)
