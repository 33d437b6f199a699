"""The optimized graph agrees with the captured one, in the precision that was asked for or the narrowest that does."""

import dataclasses

import numpy as np
import pytest

from hwc import targets
from hwc.array_file import load_arrays
from hwc.artifacts import Fact
from hwc.capture import FEEDS, MODEL, capture_model
from hwc.compare import Tolerance
from hwc.engines.base import no_progress
from hwc.errors import EngineError, TargetError, UsageError
from hwc.frontend.input_shapes import InputShapes
from hwc.graph.evaluate import Evaluator
from hwc.optimize import (
    EXPECTED,
    Normalization,
    OptimizeOptions,
    is_strongly_typed,
    optimize_model,
    precision_candidates,
)
from hwc.store import Store
from tests.e2e.tiny_models import TOO_NEW_TEXT, expected_onnx, write_onnx, write_text


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def captured(store, tmp_path_factory):
    return capture_model(str(write_onnx(tmp_path_factory.mktemp("net"))), InputShapes(), store=store)[0]


def optimize(captured, store, target, precision, **more):
    hardware = targets.load(target)
    options = OptimizeOptions(precision, more.pop("backend", hardware.engine), **more)
    return optimize_model(captured, hardware, options, store=store, progress=no_progress)


@pytest.mark.parametrize(
    ("target", "asked", "got"),
    [
        ("cpu", "fp32", "fp32"),
        ("rtx-4090", "auto", "fp16"),
        ("rtx-4090", "fp32", "fp32"),
        ("agx-xavier", "fp16", "fp16"),
    ],
)
def test_the_graph_kept_gives_the_expected_outputs(captured, store, target, asked, got):
    optimized, _ = optimize(captured, store, target, asked)
    assert optimized.precision == got
    feeds, expected = load_arrays(optimized.folder / FEEDS), load_arrays(optimized.folder / EXPECTED)
    np.testing.assert_allclose(expected["y"], expected_onnx(feeds["x"]), atol=1e-4)
    found = Evaluator(optimized.folder / MODEL).run(feeds)["y"]
    np.testing.assert_allclose(found, expected["y"], atol=0.1 if got == "fp16" else 1e-4)
    assert optimize(captured, store, target, asked) == (optimized, True)


def test_a_strongly_typed_graph_carries_its_types_and_a_weakly_typed_one_does_not(captured, store):
    typed, _ = optimize(captured, store, "rtx-4090", "fp16")
    plain, _ = optimize(captured, store, "agx-xavier", "fp16")
    names = [{step.name for step in optimized.steps} for optimized in (typed, plain)]
    assert "convert_float16" in names[0] and "convert_float16" not in names[1]
    assert is_strongly_typed(targets.load("rtx-4090"), "tensorrt_rtx")
    assert not is_strongly_typed(targets.load("agx-xavier"), "tensorrt")
    assert not is_strongly_typed(targets.load("cpu"), "openvino")


def test_a_precision_that_changes_the_outputs_is_passed_over_by_auto_and_refused_else(captured, tmp_path, monkeypatch):
    store = Store(tmp_path / "cache")
    strict = lambda precision: Tolerance(0.0, 0.0) if precision == "fp16" else Tolerance(1e-3, 1e-3)  # noqa: E731
    monkeypatch.setattr("hwc.optimize.tolerance_of", strict)
    optimized, _ = optimize(captured, store, "rtx-4090", "auto")
    assert optimized.precision == "fp32"
    assert any(note.startswith("fp16 was passed over: output 'y'") for note in optimized.notes)
    with pytest.raises(EngineError, match="other outputs in fp16") as caught:
        optimize(captured, store, "rtx-4090", "fp16")
    assert "--precision auto or fp32" in caught.value.do
    with pytest.raises(EngineError):
        optimize(captured, store, "rtx-4090", "fp16")  # a failure is not kept as a result


def test_candidates_follow_the_facts_of_the_target():
    cpu = targets.load("cpu")
    amx = dataclasses.replace(cpu, facts={**cpu.facts, "cpu.isa": Fact("avx2 amx_bf16", "text", "a test")})
    rtx = targets.load("rtx-4090")
    slow = dataclasses.replace(rtx, facts={**rtx.facts, "precision.fp16_fast": Fact(False, "yes/no", "a test")})
    assert precision_candidates("fp16", cpu, "openvino") == ("fp16",)
    assert precision_candidates("auto", amx, "openvino") == ("bf16", "fp32")
    assert precision_candidates("auto", amx, "onnxruntime") == ("fp32",)
    assert precision_candidates("auto", rtx, "tensorrt_rtx") == ("fp16", "fp32")
    assert precision_candidates("auto", slow, "tensorrt_rtx") == ("fp32",)


@pytest.mark.parametrize("precision", ["int8", "fp8", "", "FP16"])
def test_precisions_that_do_not_exist_are_refused(precision):
    with pytest.raises(UsageError):
        OptimizeOptions(precision, "openvino")


def test_a_pass_that_is_left_out_does_not_run(captured, store):
    optimized, _ = optimize(captured, store, "cpu", "fp32", without_passes=("fold_pads",))
    assert "fold_pads" not in {step.name for step in optimized.steps}


@pytest.mark.parametrize(
    ("fold", "words"),
    [
        (Normalization("z", (1.0,), (1.0,)), "no input is called 'z'"),
        (Normalization("x", (1.0, 2.0), (1.0, 1.0)), "another number of channels"),
    ],
)
def test_a_normalization_that_does_not_fit_is_refused(captured, store, fold, words):
    with pytest.raises(UsageError, match=words):
        optimize(captured, store, "cpu", "fp32", normalization=(fold,))


def test_folded_pixels_are_what_the_graph_is_judged_on(captured, store):
    fold = Normalization("x", (127.0,) * 3, (64.0,) * 3, True)
    optimized, _ = optimize(captured, store, "cpu", "fp32", normalization=(fold,))
    x = load_arrays(optimized.folder / FEEDS)["x"]
    assert x.dtype == np.uint8 and optimized.inputs[0].dtype == "uint8"
    expected = expected_onnx(((x.astype(np.float32) - 127) / 64).astype(np.float32))
    np.testing.assert_allclose(Evaluator(optimized.folder / MODEL).run({"x": x})["y"], expected, atol=1e-3)


def test_an_operator_newer_than_the_targets_parser_is_named(store, tmp_path):
    new, _ = capture_model(str(write_text(tmp_path, TOO_NEW_TEXT)), InputShapes(), store=store)
    with pytest.raises(TargetError, match="GridSample") as caught:
        optimize(new, store, "agx-xavier", "fp32")
    assert caught.value.expected == "opset 17" and caught.value.source
