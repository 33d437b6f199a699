"""`hwc compile` says in a few lines what was done to the graph, what was built, and in which state it is."""

import pytest

from tests.e2e.fixtures import assert_refused, document
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
