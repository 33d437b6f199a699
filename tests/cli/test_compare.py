"""`hwc compare` says whether two engines give the same outputs, and fails when they do not."""

import pytest

from tests.e2e.fixtures import assert_refused, document
from tests.e2e.tiny_models import write_onnx


@pytest.fixture(scope="module")
def other_bundle(cache, tmp_path_factory):
    """The same network with other weights."""
    from tests.e2e.fixtures import invoke

    folder = tmp_path_factory.mktemp("other")
    made = invoke(cache, "compile", write_onnx(folder, seed=1), "--precision", "fp32", "-o", folder / "out")
    assert made.exit_code == 0, made.output
    return folder / "out"


def test_an_engine_agrees_with_its_own_graph(hwc, cpu_bundle):
    result = hwc("compare", cpu_bundle)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("y: max abs ") and ": same" in result.stdout


def test_a_boards_graph_can_be_judged_here(hwc, board_bundle):
    result = hwc("compare", board_bundle, "--engine", "onnxruntime", "--tolerance", "fp32")
    assert result.exit_code == 0, result.stderr


def test_other_weights_are_told_apart(hwc, cpu_bundle, other_bundle):
    result = hwc("compare", cpu_bundle, other_bundle)
    assert result.exit_code == 1
    assert "y: " in result.stdout and "DIFFERS" in result.stdout
    assert result.stdout.splitlines()[-1] == "&&&& FAILED hwc.compare"
    assert result.stderr.startswith("outputs differ by more than")


def test_the_json_says_the_same(hwc, cpu_bundle, other_bundle):
    (same,) = document(hwc("compare", cpu_bundle, "--format", "json"))
    assert same["passed"] and same["output"] == "y"
    result = hwc("compare", cpu_bundle, other_bundle, "--format", "json")
    (different,) = document(result)
    assert result.exit_code == 1 and not different["passed"] and different["reason"]


def test_an_unknown_tolerance_is_refused(hwc, cpu_bundle):
    assert_refused(hwc("compare", cpu_bundle, "--tolerance", "fp61"), 2, "fp61", "fp32, fp16, bf16")
