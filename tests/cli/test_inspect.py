"""`hwc inspect` shows a bundle as it was built, or a model as it is and would become."""

import json
import shutil

from tests.e2e.fixtures import assert_refused, document
from tests.e2e.tiny_models import write_onnx


def test_a_bundle_shows_its_state_and_kernels(hwc, cpu_bundle):
    result = hwc("inspect", cpu_bundle, "--layers", "--passes", "--groups")
    assert result.exit_code == 0, result.stderr
    assert "verified" in result.stdout and "Convolution" in result.stdout
    assert "fold_batchnorm " in result.stdout
    assert "us estimate" in result.stdout


def test_a_deferred_bundle_is_not_called_built(hwc, board_bundle):
    shown = hwc("inspect", board_bundle).stdout
    assert "deferred, built by the target" in shown
    assert "verified" not in shown


def test_the_json_of_a_bundle_is_its_manifest(hwc, cpu_bundle):
    shown = document(hwc("inspect", cpu_bundle, "--format", "json"))
    assert shown == json.loads((cpu_bundle / "manifest.json").read_text())


def test_a_model_is_shown_before_and_after_its_passes(hwc, tmp_path):
    model = write_onnx(tmp_path)
    result = hwc("inspect", model, "-t", "rtx-4090", "--passes", "--groups")
    assert result.exit_code == 0, result.stderr
    assert "graph     2 nodes: Conv 1, Relu 1" in result.stdout
    assert "for rtx-4090" in result.stdout and "group " in result.stdout
    shown = document(hwc("inspect", model, "-t", "rtx-4090", "--format", "json"))
    assert shown["before"] == {"Conv": 1, "Relu": 1} and shown["steps"]


def test_a_changed_bundle_is_refused(hwc, cpu_bundle, tmp_path):
    shutil.copytree(cpu_bundle, tmp_path / "copy")
    (tmp_path / "copy" / "model.onnx").write_bytes(b"other")
    assert_refused(hwc("inspect", tmp_path / "copy"), 2, "'model.onnx' was changed", "compile again")


def test_what_is_not_there_is_refused(hwc, tmp_path):
    assert_refused(hwc("inspect", tmp_path / "absent"), 2, "absent", "check the path")


def test_dla_shows_the_plan_and_its_reasons(hwc, tmp_path):
    model = write_onnx(tmp_path)
    result = hwc("inspect", model, "-t", "agx-xavier", "--dla", "--precision", "int8", "--dla-objective", "offload")
    assert result.exit_code == 0, result.stderr
    assert "NVDLA 1.0, TensorRT 8.5.2" in result.stdout and "estimate    GPU only" in result.stdout
    shown = document(hwc("inspect", model, "-t", "agx-xavier", "--dla", "--format", "json"))
    assert shown["plan"]["precision"] == "fp16" and len(shown["layers"]) == 2
    assert all(layer["may_run_on_dla"] for layer in shown["layers"])


def test_dla_is_refused_where_there_is_none(hwc, tmp_path, cpu_bundle):
    assert_refused(hwc("inspect", cpu_bundle, "--dla", "-t", "agx-xavier"), 2, "not a bundle")
    model = write_onnx(tmp_path)
    assert_refused(hwc("inspect", model, "-t", "agx-thor", "--dla"), 3, "no DLA", "agx-xavier")
    refused = hwc("inspect", model, "-t", "agx-orin", "--dla", "--tensorrt", "10.16")
    assert_refused(refused, 3, "TensorRT 10.16 does not drive the DLA", "10.8-10.16 no")
