"""`hwc profile` measures bundles, alone or in turn. No test here judges a time."""

import json
import os

from hwc.profile import measure_power
from tests.e2e.fixtures import assert_refused, document
from tests.profile.fake_meter import FakeMeter

SHORT = ("--duration=0.02", "--warmUp=1", "--iterations=3")


def test_latency_is_printed_as_trtexec_prints_it(hwc, cpu_bundle):
    result = hwc("profile", cpu_bundle, *SHORT, "--dumpProfile")
    assert result.exit_code == 0, result.stderr
    assert f"=== Performance summary: {cpu_bundle.name} ===" in result.stdout
    assert "Throughput: " in result.stdout and "percentile(99%) = " in result.stdout
    assert "Layers: " in result.stdout and "Convolution" in result.stdout


def test_two_engines_are_measured_in_turn(hwc, cpu_bundle):
    result = hwc("profile", cpu_bundle, "--vs-engine", "onnxruntime", *SHORT)
    assert result.exit_code == 0, result.stderr
    assert f"Paired ratio: {cpu_bundle.name} takes " in result.stdout
    assert f"{cpu_bundle.name} in onnxruntime" in result.stdout


def test_the_raw_samples_are_written(hwc, cpu_bundle, tmp_path):
    shown = document(hwc("profile", cpu_bundle, *SHORT, "--exportTimes=" + str(tmp_path / "t.json"), "--format=json"))
    written = json.loads((tmp_path / "t.json").read_text())
    assert shown["ratio"] is None and written["ratio"] is None
    assert len(written["profiles"][0]["latency_ns"]) == shown["profiles"][0]["runs"] >= 3
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_a_place_that_cannot_be_written_is_refused(hwc, cpu_bundle, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert_refused(hwc("profile", cpu_bundle, *SHORT, "-o", tmp_path / "pipe"), 2, "not a regular file")
    (tmp_path / "file").write_text("")
    result = hwc("profile", cpu_bundle, *SHORT, "-o", tmp_path / "file" / "t.json", "--format", "json")
    assert result.exit_code == 2 and document(result)["what"] == "cannot write the file"


def test_an_engine_of_another_machine_is_not_measured(hwc, board_bundle):
    assert_refused(hwc("profile", board_bundle, *SHORT), 2, "no engine yet")


def test_power_is_measured_with_the_meter_of_the_target(hwc, cpu_bundle, tmp_path, monkeypatch):
    asked, meter = [], FakeMeter(lambda: 5.0, meter="rapl", quantity="energy_j")

    def choose(kind, target, **_):
        asked.append((kind, target.name))
        return meter

    monkeypatch.setattr(measure_power, "choose_meter", choose)
    flags = ("--power=auto", "--idle=0.2", "--duration=0.6", "--warmUp=1")
    result = hwc("profile", cpu_bundle, *flags)
    assert result.exit_code == 0, result.stderr
    assert "Energy per inference: " in result.stdout and "Comparable: " in result.stdout
    assert asked == [("auto", "cpu")] and meter.is_closed
    result = hwc("profile", cpu_bundle, *flags, "--format=json", "-o", tmp_path / "p.json")
    (power,) = [profile["power"] for profile in document(result)["profiles"]]
    assert power["meter"] == "rapl" and power["energy_with_idle_mj"] > 0 and power["comparable"] in ("yes", "no")
    written = json.loads((tmp_path / "p.json").read_text())["power"][0]
    assert len(written["times_s"]) == len(written["values"]) > power["samples"]  # every reading, not only the window's


def test_a_meter_that_does_not_see_the_engine_is_refused(hwc, cpu_bundle, board_bundle):
    assert_refused(hwc("profile", cpu_bundle, *SHORT, "--power=tegrastats"), 3, "does not see what runs on cpu")
    # The graph of a board's bundle in an engine of this machine runs here, so the board's meters do not see it.
    result = hwc("profile", board_bundle, *SHORT, "--engine=onnxruntime", "--power=ina3221")
    assert_refused(result, 3, "does not see what runs on this-machine")


def test_power_of_two_in_turn_is_refused(hwc, cpu_bundle):
    result = hwc("profile", cpu_bundle, *SHORT, "--vs-engine=onnxruntime", "--power=auto")
    assert_refused(result, 2, "one engine at a time")
