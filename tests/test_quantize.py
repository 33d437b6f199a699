"""The quantize step: samples are split and looked at, a plan is kept, interrupted work goes on, Q/DQ enter a graph."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest

from hwc import targets
from hwc.array_file import load_arrays
from hwc.artifacts import TensorSpec
from hwc.calibrate import statistics
from hwc.calibrate.dataset import Sample
from hwc.capture import MODEL
from hwc.engines.base import no_progress
from hwc.errors import TargetError, UsageError
from hwc.optimize import EXPECTED
from hwc.precision.sensitivity import quantized_groups
from hwc.quantize import (
    CalibrationOptions,
    calibrate_model,
    default_metric,
    open_all_samples,
    open_samples,
    place_plan,
)
from hwc.serialize import to_json
from hwc.store import Store
from tests.calibrate.photos import write_photos
from tests.e2e.int8_case import CALIBRATED, JUDGED, Case, make_case
from tests.e2e.labelled import write_samples
from tests.e2e.tiny_models import write_text

TOTAL = CALIBRATED + JUDGED
IMAGES = (TensorSpec("image", "float32", (1, 3, 16, 16)),)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Ten unlabelled samples."""
    path = tmp_path_factory.mktemp("data") / "ten.npz"
    np.savez(path, image=np.random.default_rng(0).standard_normal((10, 3, 16, 16)).astype(np.float32))
    return str(path)


def calibrate(case: Case, *, store: Store | None = None, progress=no_progress, **changes):
    options = case.options(**changes)
    samples = open_all_samples(options, case.full.inputs)
    how = (case.full, case.target, case.target.engine, samples, options)
    return calibrate_model(*how, store=store or case.store, progress=progress)


def write_data(folder, images, name="data.npz") -> str:
    np.savez(folder / name, image=np.asarray(images, np.float32))
    return str(folder / name)


def names(dataset) -> list[str]:
    return [sample.name for sample in dataset]


# Which samples calibrate and which judge.


def test_one_source_is_split_and_nothing_is_in_both(data):
    everything = names(open_all_samples(CalibrationOptions(data), IMAGES))
    calibration, validation = open_samples(CalibrationOptions(data, samples=7), IMAGES)
    assert names(calibration) == everything[:7] and names(validation) == everything[7:]


@pytest.mark.parametrize(("count", "asked", "taken"), [(10, 500, 8), (10, 8, 8), (10, 9, 8), (2, 500, 1)])
def test_a_fifth_is_kept_back_however_many_are_asked_for(tmp_path, count, asked, taken):
    source = write_data(tmp_path, np.zeros((count, 3, 16, 16)))
    calibration, validation = open_samples(CalibrationOptions(source, samples=asked), IMAGES)
    assert (len(calibration), len(validation)) == (taken, count - taken)


def test_a_slice_without_an_end_is_split_like_a_whole(data):
    everything = names(open_all_samples(CalibrationOptions(data), IMAGES))
    calibration, validation = open_samples(CalibrationOptions(f"{data}@4:", samples=4), IMAGES)
    assert names(calibration) == everything[4:8] and names(validation) == everything[8:]


@pytest.mark.parametrize("source", ["{}@0:6", "{}@9:"])
def test_where_nothing_is_left_to_judge_on_the_user_is_asked(data, source):
    with pytest.raises(UsageError, match="nothing is left to judge on") as caught:
        open_samples(CalibrationOptions(source.format(data), samples=4), IMAGES)
    assert "--validation-data" in caught.value.do


def test_a_slice_with_an_end_is_taken_whole_beside_validation_data_of_its_own(data):
    calibration, validation = open_samples(CalibrationOptions(f"{data}@0:6", samples=4), IMAGES, f"{data}@6:")
    assert (len(calibration), len(validation)) == (6, 4)
    assert not set(names(calibration)) & set(names(validation))


def test_where_nothing_is_judged_all_are_taken_up_to_the_number_asked_for(data):
    assert len(open_all_samples(CalibrationOptions(data), IMAGES)) == 10
    assert len(open_all_samples(CalibrationOptions(data, samples=3), IMAGES)) == 3


def test_validation_photos_may_have_a_recipe_of_their_own(tmp_path):
    photos = [str(write_photos(tmp_path / name, 3, "{:03d}.png", height=40, width=40)) for name in ("a", "b")]
    options = CalibrationOptions(photos[0], recipe="rgb_plus_minus_one")
    calibration, same = open_samples(options, IMAGES, photos[1])
    _, other = open_samples(options, IMAGES, photos[1], "imagenet_stretched")
    assert [d.recipe.name for d in (calibration, same, other)] == ["rgb_plus_minus_one"] * 2 + ["imagenet_stretched"]
    assert next(iter(same)).feeds["image"].max() <= 1.0 < next(iter(other)).feeds["image"].max()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "median"}, "no such calibration method"),
        ({"without": ("hope",)}, "no improvement is called 'hope'"),
        ({"samples": 0}, "at least one sample"),
        ({"rounding_seconds": -1.0}, "no negative time"),
    ],
)
def test_options_that_mean_nothing_are_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        CalibrationOptions("x.npz", **changes)


def test_the_metric_follows_the_labels_and_the_form_of_the_output(case):
    unlabelled, labelled = Sample({}, None, "s"), Sample({}, 3, "s")
    maps = dataclasses.replace(case.full, outputs=(TensorSpec("y", "float32", (1, 8, 4, 4)),))
    assert default_metric(case.full, labelled) == "top1" == default_metric(maps, labelled)
    assert default_metric(case.full, unlabelled) == "agreement" and default_metric(maps, unlabelled) == "cosine"
    assert default_metric(case.full, Sample({}, None, "batch", (1, 2))) == "top1"


# The plan: kept, read back, resumed.


def test_a_plan_is_made_once_and_read_back_as_it_was(case):
    made, was_kept = calibrate(case)
    again, was_kept_again = calibrate(case)
    assert (was_kept, was_kept_again) == (False, True)
    assert to_json(again.table) == to_json(made.table) and again.key == made.key
    assert made.table.samples == TOTAL - JUDGED and made.table.model_digest == case.full.digest
    assert {"stem.w", "a.w", "b.w", "wide.w", "narrow.w", "depth.w"} < set(made.table.weights)
    assert_same_weights(made.plan, again.plan)


@pytest.mark.parametrize("changes", [{"method": "max"}, {"samples": 60}, {"rounding_seconds": 1.0}])
def test_another_request_is_another_plan(case, changes):
    first, _ = calibrate(case)
    other, was_kept = calibrate(case, **changes)
    assert not was_kept and other.key != first.key


def test_an_interrupted_calibration_goes_on_to_the_same_bits(case, tmp_path, monkeypatch):
    runs = []

    class Counted(statistics.Evaluator):
        def run(self, feeds):
            runs.append(1)
            return super().run(feeds)

    monkeypatch.setattr(statistics, "Evaluator", Counted)

    def press_ctrl_c(what, fraction):
        if what.startswith("calibrating: sample 60"):
            raise KeyboardInterrupt

    store = Store(tmp_path / "interrupted")
    with pytest.raises(KeyboardInterrupt):
        calibrate(case, store=store, progress=press_ctrl_c)
    assert len(runs) == 60 and not list((store.root / "quantize").iterdir())
    resumed, was_kept = calibrate(case, store=store)
    assert not was_kept and len(runs) == 60 + CALIBRATED - 50  # a checkpoint every 25 samples
    whole, _ = calibrate(case, store=Store(tmp_path / "whole"))
    assert len(runs) == 60 + CALIBRATED - 50 + CALIBRATED
    assert to_json(resumed.table) == to_json(whole.table)
    assert_same_weights(resumed.plan, whole.plan)
    assert not list((store.root / "partial" / "quantize").iterdir())


def test_a_checkpoint_of_other_samples_is_not_gone_on_from(case, tmp_path):
    store = Store(tmp_path / "cache")

    def stop(what, fraction):
        if what.startswith("calibrating: sample 30"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(case, store=store, progress=stop)
    seen = []
    calibrate(case, store=store, samples=40, progress=lambda what, fraction: seen.append(what))
    assert any(what.startswith("calibrating: sample 1") for what in seen)


def assert_same_weights(one, two):
    assert list(one.weights) == list(two.weights) and one.scales == two.scales
    for name, weight in one.weights.items():
        np.testing.assert_array_equal(weight.integers, two.weights[name].integers)
        np.testing.assert_array_equal(weight.scale, two.weights[name].scale)


# What is wrong with the samples, or with the graph.


def test_one_sample_with_nan_is_refused_and_nothing_is_kept(case, tmp_path):
    with np.load(case.data) as kept:
        images = kept["image"][:30]
    images[11, 0, 3, 3] = np.nan
    with pytest.raises(UsageError, match="finite"):
        calibrate(case, data=write_data(tmp_path, images), store=Store(tmp_path / "cache"))
    assert not list((tmp_path / "cache" / "quantize").iterdir())


def test_samples_on_another_scale_than_the_example_inputs_are_a_note_of_the_table(case, tmp_path):
    small = write_samples(tmp_path, case.model, 30, gain=0.01)
    found, _ = calibrate(case, data=str(small))
    assert [note for note in found.table.notes if "other values than the model's example inputs" in note]
    right, _ = calibrate(case)
    assert right.table.notes == (open_all_samples(case.options(), case.full.inputs).describe(),)


def test_samples_that_are_all_one_value_are_refused(case, tmp_path):
    with pytest.raises(UsageError, match="one value throughout"):
        calibrate(case, data=write_data(tmp_path, np.ones((30, 3, 16, 16)) * np.arange(1, 31)[:, None, None, None]))


def test_a_graph_without_a_layer_to_quantize_is_refused(case, tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 17]>
    activation (float[1,3,16,16] image) => (float[1,3,16,16] y) { y = Relu(image) }"""
    from hwc.capture import capture_model
    from hwc.frontend.input_shapes import InputShapes
    from hwc.optimize import OptimizeOptions, optimize_model

    captured, _ = capture_model(str(write_text(tmp_path, text)), InputShapes(), store=case.store)
    how = OptimizeOptions("fp32", "openvino")
    full, _ = optimize_model(captured, case.target, how, store=case.store, progress=no_progress)
    with pytest.raises(TargetError, match="nothing in this graph can be quantized"):
        calibrate(dataclasses.replace(case, full=full))


def test_a_target_without_int8_is_refused(case):
    with pytest.raises(TargetError, match="no INT8 convolution"):
        calibrate(dataclasses.replace(case, target=targets.load("rtx-4090")))


# Q/DQ in a graph that can be built.


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Case:
    """A target whose TensorRT takes its types from the graph."""
    return make_case(tmp_path_factory.mktemp("board"), target="agx-thor")


def test_groups_put_back_compute_in_fp16_and_groups_of_integers_around_fp32(board):
    calibrated, _ = calibrate(board)
    plan = calibrated.plan
    high = frozenset({next(group.id for group in plan.groups if "narrow" in group.nodes)})
    how = (calibrated, board.full, high)
    narrow = place_plan(*how, "fp16", board.target, store=board.store)
    wide = place_plan(*how, "fp32", board.target, store=board.store)
    assert narrow.precision == wide.precision == "int8" and narrow.digest != wide.digest
    types = {str(n.name): n.outputs[0].dtype.name for n in ir.load(narrow.folder / MODEL).graph}
    integer = set(quantized_groups(plan.replace(high=high)))
    for group in plan.groups:
        for name in group.nodes:
            if group.id in integer:
                assert types[name] == "FLOAT", name
    assert types["narrow"] == "FLOAT16"
    assert {n.outputs[0].dtype.name for n in ir.load(wide.folder / MODEL).graph if n.op_type == "Conv"} == {"FLOAT"}
    a, b = (load_arrays(placed.folder / EXPECTED)["logits"] for placed in (narrow, wide))
    assert np.abs(a - b).max() < 0.02 * np.abs(b).max()


def test_a_placed_graph_is_kept_by_groups_and_type(board):
    calibrated, _ = calibrate(board)
    how = {"rest": "fp32", "target": board.target, "store": board.store}
    plain = place_plan(calibrated, board.full, frozenset(), **how)
    assert place_plan(calibrated, board.full, frozenset(), **how) == plain
    group = calibrated.plan.groups[0].id
    assert place_plan(calibrated, board.full, frozenset({group}), **how).digest != plain.digest
