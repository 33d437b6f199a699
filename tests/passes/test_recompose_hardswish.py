from functools import partial

import pytest

from hwc.passes.recompose_hardswish import recompose_hardswish
from tests.passes.check import check_pass as check_for
from tests.passes.check import context, ops
from tests.passes.scalars import with_scalars

# TensorRT for RTX is the one engine that this pass leaves alone.
check_pass = partial(check_for, ctx=context("t4"))


def test_tensorrt_rtx_keeps_what_it_fuses_itself() -> None:
    _, _, report = check_for(recompose_hardswish, graph(PADDLE), rewrites=0)
    assert "TensorRT for RTX" in report.misses[0].reason


def graph(body: str, result: str = "float[2,3] y", opset: int = 18) -> str:
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>\n'
    return head + "agraph (float[2,3] x, float[2,3] z) => (" + result + ") {" + with_scalars(body) + "}"


PADDLE = "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)"


@pytest.mark.parametrize(
    "body",
    [
        PADDLE,
        "a = Add(three, x) c = Clip(a, zero, six) d = Div(c, six) y = Mul(d, x)",
        "a = Add(x, three) c = Clip(a, zero, six) s = Mul(x, sixth) y = Mul(s, c)",
        "h = HardSigmoid<alpha = 0.16666670143604279, beta = 0.5>(x) y = Mul(x, h)",
    ],
)
def test_forms(body: str) -> None:
    after, _, _ = check_pass(recompose_hardswish, graph(body), rewrites=1)
    assert ops(after) == ["HardSwish"] and after.graph.outputs[0].name == "y"


def test_x_may_itself_be_a_sum() -> None:
    body = "x2 = Add(x, three) a = Add(x2, three) c = Clip(a, zero, six) m = Mul(x2, c) y = Div(m, six)"
    after, _, _ = check_pass(recompose_hardswish, graph(body), rewrites=1)
    assert ops(after)[-2:] == ["Add", "HardSwish"]


def test_dynamic_dimensions() -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> agraph (float[N,3] x) => (float[N,3] y) {' + with_scalars(PADDLE)
    after, _, _ = check_pass(recompose_hardswish, text + "}", rewrites=1)
    assert ops(after) == ["HardSwish"]


@pytest.mark.parametrize(
    ("body", "opset", "reason"),
    [
        (PADDLE, 12, "needs opset 14, the model has 12"),
        ("h = HardSigmoid<alpha = 0.2, beta = 0.5>(x) y = Mul(x, h)", 18, "alpha 0.2"),
        ("a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, three)", 18, "is 0.333333"),
        (PADDLE + " w = Relu(m)", 18, "m is read"),
    ],
)
def test_near_misses(body: str, opset: int, reason: str) -> None:
    result = "float[2,3] y, float[2,3] w" if "w =" in body else "float[2,3] y"
    _, _, report = check_pass(recompose_hardswish, graph(body, result, opset), rewrites=0)
    assert reason in report.misses[0].reason


def test_a_gate_of_another_value_is_not_near() -> None:
    body = "h = HardSigmoid<alpha = 0.16666667, beta = 0.5>(z) y = Mul(x, h)"
    _, _, report = check_pass(recompose_hardswish, graph(body), rewrites=0)
    assert report.misses == ()


def test_a_constant_of_higher_rank_stays() -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> agraph (float[2,3] x) => (float[1,2,3] y) '
    text += "<float[1,1,1] s = {6.0}> {"
    text += with_scalars("a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, s) }")
    _, _, report = check_pass(recompose_hardswish, text, rewrites=0)
    assert "higher rank" in report.misses[0].reason
