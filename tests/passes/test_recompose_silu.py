import pytest

from hwc.passes.base import run_pass
from hwc.passes.recompose_silu import recompose_silu
from tests.passes.check import check_pass, context, model_of, ops
from tests.passes.scalars import with_scalars


def graph(body: str, opset: int = 24) -> str:
    head = f'<ir_version: 10, opset_import: ["" : {opset}]> agraph (float[2,3] x, float[2,3] z) => (float[2,3] y) {{'
    return head + with_scalars(body) + "}"


@pytest.mark.parametrize(
    "body",
    ["s = Sigmoid(x) y = Mul(x, s)", "s = Sigmoid(x) y = Mul(s, x)", "a = Mul(x, one) s = Sigmoid(a) y = Mul(x, s)",
     "a = Mul(k, x) s = Sigmoid(a) y = Mul(x, s)"],
)
def test_forms(body: str) -> None:
    after, _, _ = check_pass(recompose_silu, graph(body), rewrites=1)
    assert ops(after) == ["Swish"]


def test_an_older_opset_is_a_near_miss() -> None:
    _, _, report = check_pass(recompose_silu, graph("s = Sigmoid(x) y = Mul(x, s)", 18), rewrites=0)
    assert report.misses[0].reason == "Swish needs opset 24, the model has 18"


def test_a_gate_read_twice_is_a_near_miss() -> None:
    _, _, report = check_pass(recompose_silu, graph("s = Sigmoid(x) a = Mul(x, s) y = Add(a, s)"), rewrites=0)
    assert "read by 2 nodes" in report.misses[0].reason


@pytest.mark.parametrize("body", ["s = Sigmoid(z) y = Mul(x, s)", "y = Sigmoid(x)", "s = Sigmoid(x) y = Add(x, s)"])
def test_other_sigmoids_are_not_near(body: str) -> None:
    _, step, report = run_pass(model_of(graph(body)), recompose_silu, context())
    assert step.rewrites == 0 and report.misses == ()
