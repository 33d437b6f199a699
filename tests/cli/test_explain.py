"""`hwc explain` tells the ledger of a bundle, of a refusal, or of a file."""

from tests.e2e.fixtures import assert_refused, document


def test_the_story_of_a_bundle(hwc, int8_bundle):
    result = hwc("explain", int8_bundle)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "classifier for cpu, precision asked: int8"
    assert lines[1].startswith("note: calibration: 60 samples from ")
    assert any(line.startswith("1. int8: rolled back, because top1 drops by ") for line in lines)
    assert any("2. int8 with 1 fusion groups in fp32: kept" in line and "narrow" in line for line in lines)
    assert any(line.startswith("   guard: failed (verified)") for line in lines)
    assert lines[-2] == "result: int8 with 1 fusion groups in fp32 (int8) ships"


def test_json_is_the_ledger_and_a_file_is_read_like_a_folder(hwc, int8_bundle):
    shown = document(hwc("explain", int8_bundle, "--format", "json"))
    assert shown == document(hwc("explain", int8_bundle / "ledger.json", "--format", "json"))
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["rolled back", "kept"]
    assert len(shown["attempts"][1]["high"]) == 1 and shown["asked"] == "int8"


def test_a_bundle_for_which_nothing_was_weighed_has_no_story(hwc, cpu_bundle, tmp_path):
    assert_refused(hwc("explain", cpu_bundle), 2, "has no ledger.json", "--calibration-data")
    assert_refused(hwc("explain", tmp_path / "missing"), 2, "has no ledger.json")
    (tmp_path / "ledger.json").write_text("{}")
    assert_refused(hwc("explain", tmp_path), 2)
