"""`hwc estimate` calls its numbers estimates and says what it does not know."""

from tests.e2e.fixtures import assert_refused, document
from tests.e2e.tiny_models import write_onnx
from tests.golden.compare_golden import compare_with_golden


def test_the_text_is_as_agreed(hwc, tmp_path):
    model = write_onnx(tmp_path)
    result = hwc("estimate", model, "-t", "agx-orin", "--precision", "int8", "--power-mode", "MODE_50W", "--layers")
    assert result.exit_code == 0, result.stderr
    compare_with_golden("estimate_agx_orin.txt", result.stdout)


def test_what_is_missing_has_a_reason(hwc, tmp_path):
    result = hwc("estimate", write_onnx(tmp_path), "-t", "xavier-nx")
    assert result.exit_code == 0, result.stderr
    assert "DLA       no estimate: " in result.stdout and "'dla.fp16_tflops' is unknown" in result.stdout
    assert "whole board + PSU, AC wall" in result.stdout


def test_the_json_is_one_document(hwc, tmp_path):
    shown = document(hwc("estimate", write_onnx(tmp_path), "-t", "orin-nx", "--format", "json"))
    assert shown["kind"] == "estimate" and shown["target"] == "orin-nx-16gb"
    assert shown["gpu"]["low"] < shown["gpu"]["seconds"] < shown["gpu"]["high"]
    assert shown["dla"] is None and shown["dla_reason"] and shown["energy"] == [] and shown["energy_reason"]
    assert sum(g["seconds"] for g in shown["gpu"]["groups"]) < shown["gpu"]["seconds"]


def test_unknown_facts_and_targets_are_refused(hwc, tmp_path):
    model = write_onnx(tmp_path)
    capped = hwc("estimate", model, "-t", "orin-nx", "--power-mode", "15W")
    assert_refused(capped, 3, "memory_clock_mhz", "--memory-clock-mhz")
    assert_refused(hwc("estimate", model, "-t", "cpu"), 3, "no estimate for cpu", "hwc profile")
    absent = hwc("estimate", model, "-t", "agx-orin", "--power-mode", "99W")
    assert_refused(absent, 3, "no power mode", "hwc targets show")
