"""`hwc calibrate` writes a table, and for TensorRT the cache, or says what is wrong and writes nothing."""

import numpy as np
import pytest

from hwc.artifacts import QuantTable
from hwc.calibrate.cache import read_cache
from hwc.serialize import from_json
from tests.e2e.fixtures import PLAIN, assert_refused, document, names_in
from tests.e2e.tiny_models import write_text

QUICK = (PLAIN, "--calibration-samples", "60")


def test_the_table_and_what_is_said_of_it(hwc, sound, tmp_path):
    own = ("--cache-dir", tmp_path / "cache")  # the session's cache may hold this calibration from another test
    arguments = ("calibrate", sound.model, "--data", sound.data, "-o", tmp_path / "table.json", *QUICK, *own)
    first = hwc(*arguments)
    assert first.exit_code == 0, first.output
    table = from_json(QuantTable, (tmp_path / "table.json").read_text())
    assert (table.samples, table.method) == (60, "auto") and "image" in table.tensors and "stem.w" in table.weights
    lines = first.stdout.splitlines()
    assert lines[0] == f"samples   60, digest {table.data_digest[:16]}"
    assert f"{len(table.tensors)} activations (" in lines[1] and f"{len(table.weights)} weights" in lines[1]
    assert "reused" not in first.stdout and str(tmp_path / "table.json") in first.stdout
    assert "reused    calibration from the step cache" in hwc(*arguments).stdout


def test_json_is_the_table(hwc, sound, tmp_path):
    flags = ("--data", sound.data, "-o", tmp_path / "t.json", *QUICK, "--format", "json")
    shown = document(hwc("calibrate", sound.model, *flags))
    assert from_json(QuantTable, (tmp_path / "t.json").read_text()).samples == shown["samples"] == 60


def test_for_a_board_the_cache_has_the_header_of_its_tensorrt(hwc, sound, tmp_path):
    flags = ("--data", sound.data, "--cache-output", tmp_path / "calib.cache", *QUICK, "--calibration-method", "max")
    result = hwc("calibrate", sound.model, "-t", "agx-xavier", "-o", tmp_path / "t.json", *flags)
    assert result.exit_code == 0, result.output
    header, scales = read_cache((tmp_path / "calib.cache").read_text())
    table = from_json(QuantTable, (tmp_path / "t.json").read_text())
    assert header == "TRT-8502-EntropyCalibration2"
    assert scales == {name: np.float32(scale.scale[0]) for name, scale in table.tensors.items()}
    assert {scale.method for scale in table.tensors.values()} == {"minmax"}


def test_a_target_that_reads_no_cache_is_refused_before_anything_is_written(hwc, sound, tmp_path):
    flags = ("--data", sound.data, "--cache-output", tmp_path / "calib.cache", *QUICK)
    result = hwc("calibrate", sound.model, "-o", tmp_path / "t.json", *flags)
    assert_refused(result, 3, "software.tensorrt")
    result = hwc("calibrate", sound.model, "-t", "h100", "-o", tmp_path / "t.json", *flags)
    assert_refused(result, 3, "TensorRT 11 reads no calibration cache")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--data", "nowhere"), ("there is no data at 'nowhere'",)),
        (("--calibration-method", "median"), ("no such calibration method", "entropy")),
        (("--improve=-hope",), ("no improvement is called 'hope'", "correct_bias")),
        (("--improve=correct_bias",), ("--improve=-correct_bias",)),
        (("--calibration-recipe", "nope"), ("nope",)),
        (("--calibration-samples", "0"), ()),
    ],
)
def test_a_wrong_request_is_refused_and_writes_nothing(hwc, sound, tmp_path, flags, words):
    result = hwc("calibrate", sound.model, "--data", sound.data, "-o", tmp_path / "t.json", *flags)
    assert result.exit_code == 2 and [word for word in words if word not in result.stderr] == [], result.output
    assert "Traceback" not in result.output and names_in(tmp_path) == []


def test_samples_with_nan_and_samples_of_another_shape_are_told_apart(hwc, sound, tmp_path):
    with np.load(sound.data) as kept:
        images = kept["image"].copy()
    np.savez(tmp_path / "narrow.npz", image=images[:, :, :, :8])
    images[3, 0, 0, 0] = np.nan
    np.savez(tmp_path / "nan.npz", image=images)
    for name, word in (("narrow", "1x3x16x16"), ("nan", "finite")):
        result = hwc("calibrate", sound.model, "--data", tmp_path / f"{name}.npz", "-o", tmp_path / "t.json", *QUICK)
        assert_refused(result, 2, word)
    assert names_in(tmp_path) == ["nan.npz", "narrow.npz"]


def test_a_model_without_layers_to_quantize_is_refused(hwc, tmp_path):
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }'
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    result = hwc("calibrate", write_text(tmp_path, text), "--data", tmp_path / "x.npz", "-o", tmp_path / "t.json")
    assert_refused(result, 3, "nothing in this graph can be quantized", "--precision auto")


def test_a_device_is_not_replaced_by_a_table(hwc, sound):
    assert_refused(hwc("calibrate", sound.model, "--data", sound.data, "-o", "/dev/null", *QUICK), 2, "/dev/null")
