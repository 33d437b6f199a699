"""`hwc bisect` names the layer that INT8 breaks, or says that none does."""

from tests.e2e.fixtures import assert_refused, document


def test_the_fragile_layer_is_named_with_its_evidence(hwc, fragile):
    result = hwc("bisect", fragile.model, *fragile.flags, "--samples", "40")
    assert result.exit_code == 0, result.output
    answer, drop, *suspects = result.stdout.splitlines()[:-1]
    assert answer.startswith("answer    ") and "(Conv: narrow) breaks the model; putting back" in answer
    assert "points of top1 in INT8, limit 4, 40 samples, " in drop
    (suspect,) = suspects
    assert suspect.startswith("suspect   ") and "(Conv: narrow): alone " in suspect and "all but it 0.00" in suspect


def test_json_holds_the_same(hwc, fragile):
    shown = document(hwc("bisect", fragile.model, *fragile.flags, "--samples", "40", "--format", "json"))
    assert shown["answer"] == "single" and shown["drop_low"] > 30 and shown["drop_high"] == 0.0
    (suspect,) = shown["suspects"]
    assert suspect["layers"] == ["narrow"] and suspect["breaks_alone"] and suspect["repairs"]
    assert shown["repair"] == [suspect["group"]] and shown["trials"] >= 4


def test_nothing_breaks_a_sound_model(hwc, sound):
    result = hwc("bisect", sound.model, *sound.flags, "--samples", "30", "--drop-type", "relative")
    assert result.exit_code == 0, result.output
    assert "nothing breaks: the drop is 0.00" in result.stdout and "suspect" not in result.stdout
    assert "% of FP32 of top1" in result.stdout and "30 samples, 2 trials" in result.stdout


def test_a_metric_of_ones_own_decides(hwc, sound, tmp_path):
    (tmp_path / "never.py").write_text("def exact(outputs, label, baseline):\n"
                                       "    return float((outputs['logits'] == baseline['logits']).all())\n")
    result = hwc("bisect", sound.model, *sound.flags, "--samples", "10", "--metric", f"{tmp_path / 'never.py'}:exact")
    assert result.exit_code == 0, result.output
    assert "in INT8, limit 4" in result.stdout and "nothing breaks" not in result.stdout


def test_data_are_needed_and_a_target_without_int8_is_refused(hwc, sound):
    result = hwc("bisect", sound.model)
    assert result.exit_code == 2 and "--calibration-data" in result.stderr
    assert_refused(hwc("bisect", sound.model, "-t", "rtx-4090", *sound.flags), 3, "no INT8 convolution")
    assert_refused(hwc("bisect", sound.model, *sound.flags, "--metric", "top7"), 2, "top7", "agreement")
