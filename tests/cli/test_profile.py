"""`hwc profile` measures bundles, alone or in turn. No test here judges a time."""

import json
import os

from tests.e2e.fixtures import assert_refused, document

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
