"""The reader of tegrastats on lines of real boards, on a whole log, and on damage."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc import targets
from hwc.errors import EngineError, UsageError
from hwc.profile.tegrastats import Core, Reading, Unit, parse_line, parse_log
from tests.profile.tegrastats_lines import LINES, LOG

BY_NAME = {line.what: parse_line(line.text) for line in LINES}


def unit(reading: Reading, name: str) -> Unit:
    return next(unit for unit in reading.units if unit.name == name)


def zones(reading: Reading) -> dict:
    return {temperature.zone: temperature.celsius for temperature in reading.temperatures}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.what)
def test_every_line_is_read_whole(line):
    reading = parse_line(line.text)
    assert all(name == "MTS" for name, _ in reading.other)
    # Nothing is lost: the reading has as many rails, zones and cores as a plain count of the text finds.
    powers = re.findall(r"(?<=\s)-?\d+(?:mW)?/-?\d+(?:mW)?(?:/\d+mW)?(?=\s|$)", line.text)
    assert len(reading.rails) == len(powers)
    assert len(reading.temperatures) == len(re.findall(r"[A-Za-z]\w*@-?[\d.]+C", line.text))
    cores = re.search(r"\[([^\]]*(?:%@|off)[^\]]*)\]", line.text)
    assert len(reading.cores) == (len(cores[1].split(",")) if cores else 0)


@pytest.mark.parametrize("line", [line for line in LINES if line.target], ids=lambda line: line.what)
def test_the_rails_of_the_target_add_up_to_its_power(line):
    rails = targets.load(line.target).fact("power.sum_rails").value
    assert sum(parse_line(line.text).power_mw(rails)) == line.total_mw


def test_the_whole_log_is_read():
    readings = parse_log(LOG.read_text())
    assert len(readings) == 661
    assert all(len(r.cores) == 6 and len(r.rails) == 3 and not r.other for r in readings)
    assert all(r.time and r.time.isoformat().startswith("2026-04-19T01:3") for r in readings)
    peak = max(readings, key=lambda r: r.rail("VDD_IN").instant_mw).rail("VDD_IN")
    assert peak.instant_mw > 21_000 > 12_000 > peak.average_mw


def test_the_instant_value_comes_first_and_the_average_is_kept_apart():
    rail = BY_NAME["Orin Nano Super, peak load"].rail("VDD_IN")
    assert (rail.instant_mw, rail.average_mw, rail.max_mw) == (21663, 11830, None)
    assert BY_NAME["Nano, JetPack 4.6.1"].rail("POM_5V_IN").average_mw == 1628


def test_jetpack_7_prints_a_maximum():
    rail = BY_NAME["AGX Thor, JetPack 7.2"].rail("VDD_CPU_SOC_MSS")
    assert (rail.instant_mw, rail.average_mw, rail.max_mw) == (7953, 8332, 8710)
    cpu = BY_NAME["AGX Thor, JetPack 7.2"].temperatures[0]
    assert (cpu.celsius, cpu.max_celsius) == (34.312, 34.843)


def test_offline_cores_are_not_idle_cores():
    assert BY_NAME["TX2, two cores off"].cores[:2] == (Core(1, 345), Core(None, None))


@pytest.mark.parametrize(
    ("what", "load", "clocks", "is_on"),
    [
        ("Nano", 0, (76,), True),
        ("Nano, without root", 0, (), None),
        ("AGX Orin, JetPack 6, runs of blanks", 0, (305, 305), True),
        ("AGX Orin, JetPack 6.2, GPU gated", 0, (0, 0), False),
        ("AGX Thor, JetPack 7.2", None, (314, 314, 314), True),
        ("AGX Orin, JetPack 7.2", 12, (1300, 1300), True),
    ],
)
def test_the_forms_of_the_gpu_field(what, load, clocks, is_on):
    assert unit(BY_NAME[what], "GR3D_FREQ") == Unit("GR3D_FREQ", is_on, load, clocks)


def test_units_are_off_or_have_a_clock():
    orin = BY_NAME["AGX Orin, JetPack 6, runs of blanks"]
    assert unit(orin, "NVDLA0") == Unit("NVDLA0", False)
    assert unit(orin, "APE") == Unit("APE", True, None, (174,))
    assert unit(BY_NAME["AGX Orin 64GB, a DLA works"], "NVDLA0_FREQ") == Unit("NVDLA0_FREQ", True, None, (1600,))
    assert unit(BY_NAME["AGX Orin, JetPack 6.2, GPU gated"], "NVENC") == Unit("NVENC", True, 79, (166,))
    assert unit(BY_NAME["AGX Orin, JetPack 5, unread zones"], "GR3D2_FREQ").load_percent == 7


def test_what_cannot_be_read_is_no_number():
    orin = zones(BY_NAME["AGX Orin, JetPack 5, unread zones"])
    assert orin["CV0"] is orin["GPU"] is None and orin["CPU"] == 41.437
    assert zones(BY_NAME["Nano"])["PMIC"] is None
    assert zones(BY_NAME["Nano, JetPack 4.6.1"])["PMIC"] is None  # 50
    assert zones(BY_NAME["TX2, negative zones"])["GPU"] == -51.0
    assert zones(parse_line("RAM 1/2MB (lfb 1x4MB) PMIC@47.5C"))["PMIC"] == 47.5


def test_memory_is_kept_with_its_units():
    memory = dict(BY_NAME["Nano"].memory)
    assert memory["ram_used_mb"] == 534 and memory["swap_used_mb"] == 5 and memory["iram_total_kb"] == 252
    assert memory["ram_free_block_kb"] == 4096
    assert dict(BY_NAME["TX2, negative zones"].memory)["ram_free_block_kb"] == 512


def test_unknown_fields_are_kept_with_their_names():
    reading = parse_line("RAM 1/2MB (lfb 1x4MB) WARP VDD_IN 5mW/6mW FAN 40.5rpm cpu@40C NEW")
    assert reading.other == (("WARP", ""), ("FAN", "40.5rpm"), ("NEW", ""))
    assert reading.rail("VDD_IN").instant_mw == 5


def test_a_missing_rail_is_an_error_and_not_zero():
    with pytest.raises(EngineError, match="no rail VDD_IN") as caught:
        BY_NAME["AGX Xavier, JetPack 4"].power_mw(("VDD_IN",))
    assert "SYS5V" in caught.value.got


def test_a_rail_that_is_not_connected_or_doubled_cannot_be_asked_for():
    orin = BY_NAME["AGX Orin, JetPack 5, unread zones"]
    assert [rail.name for rail in orin.rails].count("NC") == 2
    with pytest.raises(EngineError):
        orin.rail("NC")
    with pytest.raises(EngineError, match="more than one"):
        parse_line("VDD_IN 5mW/6mW VDD_IN 5mW/6mW").rail("VDD_IN")


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("cpu@40C RAM 1179/2000", 9),
        ("cpu@40C NPU 12%{a}", 9),
        ("RAM 1179/MB (lfb 120x4MB) VDD_IN 1/2", 1),
        ("VDD_IN 5mW/6mW CPU [1%@102,4%@]", 16),
        ("VDD_IN 5mW/6mW CPU [1%@102,4%@102", 16),
        ("VDD_IN 5mW/6mW GR3D_FREQ x%@76", 16),
        ("VDD_IN 5mW/6mW EMC_FREQ %@76", 16),
        ("cpu@40C VDD_IN 5mW/", 9),
        ("cpu@40C VDD_IN 5mW", 9),
        ("cpu@40C VDD_IN 5mW/6mW/7mW/8mW", 9),
        ("cpu@40C VDD_IN 5mW/6", 9),
        ("cpu@C VDD_IN 5mW/6mW", 1),
        ("cpu@40C \x00", 9),
        ("cpu@40C 5mW/6mW", 9),
        ("cpu@40C VDD_IN 1234567890123456/1", 9),
        ("13-45-2026 00:00:00 cpu@40C", 1),
        ("cpu@40C CPU [1%@102] CPU [1%@102]", 22),
        ("cpu@40C [1%@102]", 9),
        ("hello world", 1),
        ("", 1),
    ],
)
def test_damage_is_one_clear_error_with_its_place(text, column):
    with pytest.raises(UsageError) as caught:
        parse_line(text, 7)
    assert caught.value.where == f"line 7, column {column}"


def test_the_line_of_a_log_is_named():
    with pytest.raises(UsageError, match="cannot be read") as caught:
        parse_log("cpu@40C VDD_IN 1/2\n\ncpu@40C VDD_IN 1/\n")
    assert caught.value.where.startswith("line 3, ")
    with pytest.raises(UsageError, match="no lines"):
        parse_log("\n \n")


def never_crashes(text: str) -> None:
    try:
        reading = parse_line(text)
    except (UsageError, EngineError):
        return
    assert isinstance(reading, Reading)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    never_crashes(text)


@settings(deadline=None)
@given(st.sampled_from(LINES), st.data())
def test_any_damage_to_a_line_is_read_or_refused(line, data):
    start = data.draw(st.integers(0, len(line.text)))
    end = data.draw(st.integers(start, min(len(line.text), start + 40)))
    damage = data.draw(st.text("0123456789%@[],/mWCoff -.Ⅷ٣\x00", max_size=8))
    never_crashes(line.text[:start] + damage + line.text[end:])


@settings(deadline=None)
@given(st.sampled_from(LINES), st.integers(1, 400))
def test_a_line_that_was_cut_off_never_gains_power(line, length):
    """A prefix may lose rails, but a rail it still has must have the number that was printed."""
    whole = {rail.name: rail.instant_mw for rail in parse_line(line.text).rails}
    try:
        part = parse_line(line.text[:length])
    except UsageError:
        return
    assert all(whole[rail.name] == rail.instant_mw for rail in part.rails)
