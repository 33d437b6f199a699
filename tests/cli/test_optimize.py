"""`hwc optimize` runs the passes alone and says what each did and what it nearly did."""

import onnx
import pytest

from hwc.artifacts import NearMiss, Step
from hwc.cli.optimize import describe_steps
from tests.e2e.fixtures import assert_refused, document
from tests.e2e.tiny_models import write_onnx


def test_each_pass_has_a_line_and_the_graph_is_written(hwc, tmp_path):
    result = hwc("optimize", write_onnx(tmp_path), "-t", "rtx-4090", "--precision", "fp16", "-o", tmp_path / "o.onnx")
    assert result.exit_code == 0, result.stderr
    assert "convert_float16              rewrites 2" in result.stdout
    assert f"written   {tmp_path / 'o.onnx'}" in result.stdout
    graph = onnx.load(tmp_path / "o.onnx").graph
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in graph.initializer}


def test_a_pass_can_be_left_out(hwc, tmp_path):
    model = write_onnx(tmp_path)
    steps = document(hwc("optimize", model, "--passes=-fold_pads,-fold_batchnorm", "--format", "json"))["steps"]
    names = {step["name"] for step in steps}
    assert "fold_constants" in names and not names & {"fold_pads", "fold_batchnorm"}


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--passes=-fold_nothing", ("fold_nothing", "fold_constants")),
        ("--passes=fold_pads", ("--passes=-fold_pads",)),
        ("--precision=int8", ("after the passes", "--calibration-data")),
        ("--int8", ("after the passes", "--calibration-data")),
        ("--precision=fp61", ("fp61", "auto, fp32, fp16, bf16")),
    ],
)
def test_what_it_cannot_do_is_refused(hwc, tmp_path, flag, words):
    assert_refused(hwc("optimize", write_onnx(tmp_path), flag, "-o", tmp_path / "o.onnx"), 2, *words)
    assert not (tmp_path / "o.onnx").exists()


def test_near_misses_are_grouped_by_reason():
    misses = tuple(NearMiss(f"node_{i}", "has two users") for i in range(5))
    step = Step("fold_pads", 1, 7, 6, "a", "b", 0.25, misses=misses, notes=("once",))
    assert describe_steps([step]) == [
        "fold_pads                    rewrites 1    nodes 7 -> 6  missed 5  250 ms",
        "    missed: node_0, node_1, node_2 and 2 more: has two users",
        "    note: once",
    ]
