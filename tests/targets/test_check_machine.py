"""The rows of `doctor`: what is fine, what is odd, what stands in the way, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwc.targets.check_machine import check_base, check_board, check_target, describe_machine, failures
from tests.fake_board import fact, xavier_facts, xavier_target


def rows(checks) -> dict:
    return {check.name: check.status for check in checks}


def test_the_right_board_passes(tmp_path):
    facts = xavier_facts()
    checks = [*check_base(facts, tmp_path), *check_board(facts), *check_target(xavier_target(), facts, "tensorrt")]
    assert set(rows(checks).values()) == {"ok"} and failures(checks) == ()
    assert set(rows(checks)) == {"python", "numpy", "disk", "tensorrt", "gpu", "power mode", "clocks", "target"}


@pytest.mark.parametrize(
    ("changed", "name", "status"),
    [
        ({"software__python": "3.6.9"}, "python", "fail"),
        ({"software__numpy": None}, "numpy", "fail"),
        ({"software__numpy": "1.13.3"}, "numpy", "fail"),
        ({"software__tensorrt": None}, "tensorrt", "fail"),
        ({"gpu__name": None}, "gpu", "fail"),
        ({"jetson__power_mode": None}, "power mode", "warn"),
        ({"jetson__clocks_locked": False}, "clocks", "warn"),
        ({"jetson__clocks_locked": None}, "clocks", "warn"),
    ],
)
def test_each_check_bites_and_says_what_to_do(tmp_path, changed, name, status):
    facts = xavier_facts(**changed)
    found = {check.name: check for check in [*check_base(facts, tmp_path), *check_board(facts)]}
    assert found[name].status == status and found[name].do
    assert [other.name for other in found.values() if other.status != "ok"] == [name]


def test_a_full_disk_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("hwc.targets.check_machine._free_bytes", lambda folder: 1000)
    assert rows(check_base(xavier_facts(), tmp_path))["disk"] == "warn"
    monkeypatch.setattr("hwc.targets.check_machine._free_bytes", lambda folder: None)
    assert rows(check_base(xavier_facts(), tmp_path))["disk"] == "warn"


def test_the_disk_of_a_folder_that_is_not_there_yet_is_that_of_its_parent(tmp_path):
    assert describe_machine({}, tmp_path / "not" / "yet")["free_disk_bytes"] > 0


@pytest.mark.parametrize(
    ("changed", "name", "status"),
    [
        ({"jetson__soc": "tegra234"}, "jetson.soc", "fail"),
        ({"machine__architecture": "x86_64"}, "machine.architecture", "fail"),
        ({"software__tensorrt": None}, "software.tensorrt", "fail"),
        ({"software__tensorrt": "8.4.1"}, "software.tensorrt", "fail"),
        ({"software__tensorrt": "8.5.1"}, "software.tensorrt", "warn"),
        ({"software__l4t": "35.3.1"}, "software.l4t", "warn"),
        ({"software__python": "3.9.2"}, "software.python", "warn"),
        ({"memory__size_gb": 15.0}, "memory.size_gb", "warn"),
    ],
)
def test_each_difference_from_the_target_has_its_weight(changed, name, status):
    (row,) = check_target(xavier_target(), xavier_facts(**changed), "tensorrt")
    assert (row.name, row.status) == (name, status) and "expected" in row.message
    assert row.do or status == "warn"


def test_what_is_built_ahead_of_time_asks_for_its_module_only():
    target = xavier_target("tensorrt_rtx")
    found = rows(check_target(target, {"software.tensorrt_rtx": fact("1.7.1")}, "tensorrt_rtx"))
    assert found == {"jetson.soc": "warn"}
    assert rows(check_target(target, {}, "tensorrt_rtx"))["software.tensorrt_rtx"] == "fail"
    # A bundle may have been compiled with another engine than the target's own.
    found = rows(check_target(xavier_target(), xavier_facts(software__tensorrt=None), "tensorrt_rtx"))
    assert found == {"software.tensorrt_rtx": "fail"}
    assert rows(check_board({}, "tensorrt_rtx"))["gpu"] == "warn"


def test_a_library_without_its_module_is_said():
    facts = {**xavier_facts(), "software.tensorrt": fact("8.5.2").__class__("8.5.2", "version", "dpkg's status file")}
    (row,) = [check for check in check_board(facts) if check.name == "tensorrt"]
    assert row.status == "warn" and "without its Python module" in row.message and "python3-libnvinfer" in row.do


def test_the_machine_in_plain_keys():
    shown = describe_machine(xavier_facts(jetson__module_part_numbers=("p2888-0004", "p2972-0000")), Path("/"))
    assert shown["module_part"] == "p2888-0004" and shown["arch"] == "aarch64" and shown["hostname"] is None
    assert describe_machine({}, Path("/"))["module_part"] is None
    only = xavier_facts(jetson__module_part_numbers=("p3448-0000",))
    assert describe_machine(only, Path("/"))["module_part"] == "p3448-0000"
