"""`hwc compile` says in a few lines what was done to the graph, what was built, and in which state it is."""

import re

import pytest

from tests.e2e.fixtures import PLAIN, assert_refused, document, names_in
from tests.e2e.labelled import write_samples
from tests.e2e.tiny_models import write_onnx


def test_the_report_names_model_target_passes_engine_and_the_way_to_repeat_it(hwc, tmp_path):
    result = hwc("compile", write_onnx(tmp_path), "--precision", "fp32", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    heads = [line.split()[0] for line in result.stdout.splitlines()]
    assert heads[:5] == ["model", "target", "passes", "engine", "memory"]
    assert heads[-3:] == ["reused", "bundle", "&&&&"]
    assert "net: x float32 1x3x8x8" in result.stdout and ", fp32, verified: " in result.stdout


def test_verbose_adds_what_the_engine_noted(hwc, tmp_path):
    model = write_onnx(tmp_path)
    plain = hwc("compile", model, "-o", tmp_path / "out").stdout
    verbose = hwc("compile", model, "-o", tmp_path / "out", "--verbose").stdout
    assert "ran here; worst output" in verbose and "ran here; worst output" not in plain


def test_the_plain_graph_is_counted_beside_it(hwc, tmp_path):
    result = hwc("compile", write_onnx(tmp_path), "-o", tmp_path / "out", "--compare-plain")
    assert result.exit_code == 0, result.stderr
    assert " without passes" in result.stdout


@pytest.mark.parametrize(("flags", "asked"), [((), "auto"), (("--best",), "auto"), (("--precision=fp32",), "fp32"),
                                              (("--fp16", "--best"), "auto")])  # fmt: skip
def test_precision_flags_are_kept_as_asked(hwc, tmp_path, flags, asked):
    shown = document(hwc("compile", write_onnx(tmp_path), "-o", tmp_path / "out", *flags, "--format", "json"))
    assert shown["bundle"]["precision_asked"] == asked


def test_engine_options_reach_the_build_key(hwc, tmp_path):
    flags = ("--engine-option", "compress_to_fp16=no", "--threads", "1", "--format", "json")
    shown = document(hwc("compile", write_onnx(tmp_path), "-o", tmp_path / "out", *flags))
    assert shown["bundle"]["engine"]["key"]["options"] == [["compress_to_fp16", "no"], ["threads", "1"]]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--engine", "nope"), ("no engine is called 'nope'", "openvino")),
        (("--engine-option", "foo=1"), ("no such option", "compress_to_fp16")),
        (("--engine-option", "foo"), ("NAME=VALUE",)),
        (("--precision", "fp8"), ("fp8", "auto, fp32, fp16, bf16")),
        (("--normalize", "z:1/1"), ("no input is called 'z'", "expected:  x")),
        (("--normalize", "x:1,2/3,4"), ("number of channels", "3 means", "got:       2")),
        (("--input-shapes", "x:1x3x9x9"), ("fixed to 8", "dynamic")),
        (("--input-shapes", "q:1x3x8x8"), ("'q'", "expected:  x")),
        (("--minShapes=x:1x3x8x8",), ("--optShapes, --maxShapes is missing",)),
    ],
)
def test_a_wrong_request_is_refused_and_writes_nothing(hwc, tmp_path, flags, words):
    assert_refused(hwc("compile", write_onnx(tmp_path), "-o", tmp_path / "out", *flags), 2, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_folder_that_is_no_bundle_is_never_replaced(hwc, tmp_path):
    model = write_onnx(tmp_path)
    assert_refused(hwc("compile", model, "-o", tmp_path), 2, "not empty and not a bundle", "choose another -o")
    assert_refused(hwc("compile", model, "-o", model), 2, "is a file", "choose another -o")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


# INT8.


def test_int8_with_samples_says_what_was_tried(hwc, sound, tmp_path):
    result = hwc("compile", sound.model, "--int8", *sound.flags, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert any(line.startswith("engine    openvino") and ", int8, verified: " in line for line in lines)
    assert any(line.startswith("tried     int8: kept: top1 drops by ") for line in lines)
    assert f"why       hwc explain {tmp_path / 'out'}" in lines
    assert {"ledger.json", "quant_table.json", "manifest.json"} <= set(names_in(tmp_path / "out"))
    run = hwc("run", tmp_path / "out")
    assert run.exit_code == 0, run.output


def test_a_layer_that_was_put_back_is_in_the_manifest_and_the_report(hwc, cache, fragile, int8_bundle):
    out = int8_bundle
    again = hwc("compile", fragile.model, "--int8", *fragile.flags, "-o", out.parent / "again", "--format", "json")
    shown = document(again)
    assert shown["reused"] == ["capture", "optimize", "precision"]
    precisions = dict(shown["bundle"]["engine"]["precision_built"])
    assert precisions["int8"] >= 5 and precisions["fp32"] >= 1
    assert shown["bundle"]["precision_asked"] == "int8" == shown["bundle"]["engine"]["key"]["precision"]
    assert (out / "ledger.json").read_text() == (out.parent / "again" / "ledger.json").read_text()
    assert {"ledger.json", "quant_table.json"} <= set(shown["bundle"]["files"])


def test_a_first_compile_reuses_nothing(hwc, sound, tmp_path):
    flags = (*sound.flags, "--cache-dir", tmp_path / "fresh", "--format", "json")
    assert document(hwc("compile", sound.model, "--int8", *flags, "-o", tmp_path / "out"))["reused"] == []


def test_a_board_gets_both_dialects_and_a_deferred_engine(hwc, sound, tmp_path):
    result = hwc("compile", sound.model, "-t", "agx-xavier", "--int8", *sound.flags, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "engine    tensorrt int8: deferred, built by the target from model.onnx" in result.stdout
    assert {"calib.cache", "model.float.onnx", "model.onnx"} <= set(names_in(tmp_path / "out"))


def test_where_nothing_passes_the_exit_code_is_1_and_the_ledger_is_left(hwc, sound, tmp_path):
    out = tmp_path / "new" / "out"
    wrong = write_samples(tmp_path, sound.model, 40, gain=0.02, seed=2)
    flags = ("--calibration-data", wrong, "--calibration-samples", "40", "--validation-data", sound.data,
             "--max-drop", "4", PLAIN)  # fmt: skip
    result = hwc("compile", sound.model, "--int8", *flags, "-o", out)
    assert_refused(result, 1, "no INT8 engine keeps the accuracy", "hwc explain DIR", "a drop of at most 4 (absolute)")
    assert names_in(tmp_path / "new") == ["out.ledger.json"]
    told = hwc("explain", out)
    assert told.exit_code == 0 and "result: nothing passed, so no engine was written" in told.stdout
    assert "other values in the calibration samples than in the validation samples" in told.stdout
    rolled = hwc("compile", sound.model, "--best", *flags, "-o", out)
    assert rolled.exit_code == 0, rolled.output
    assert "tried     int8: rolled back: top1 drops by" in rolled.stdout
    # Which float is the faster is measured: a CPU with BF16 arithmetic has two to choose from.
    assert re.search(r"(fp32|bf16): kept: ", rolled.stdout)
    assert [name for name in names_in(tmp_path / "new") if "/" not in name] == ["out"]  # the refusal is settled


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--precision", "int8"), ("INT8 needs samples", "--calibration-data DATA")),
        (("--int8",), ("INT8 needs samples",)),
        (("--fp16", "--calibration-data", "x.npz"), ("calibration data decide nothing in fp16",)),
        (("--int8", "--calibration-data", "x.npz"), ("there is no data at 'x.npz'",)),
        (("--int8", "--calibration-data", "x.npz", "--improve", "-nope"), ("no improvement is called 'nope'",)),
        (("--int8", "--calibration-data", "x.npz", "--max-drop", "101"), ("drop of 0 to 100",)),
    ],
)
def test_an_int8_request_that_cannot_be_met_writes_nothing(hwc, tmp_path, flags, words):
    assert_refused(hwc("compile", write_onnx(tmp_path), "-o", tmp_path / "out", *flags), 2, *words)
    assert names_in(tmp_path) == ["net.onnx"]
