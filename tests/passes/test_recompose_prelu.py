import numpy as np
import pytest

from hwc.passes.recompose_prelu import recompose_prelu
from tests.passes.check import check_pass, model_of, ops
from tests.passes.scalars import with_scalars

SLOPES = np.array([0.1, 0.9, 0.5], np.float32).reshape(3, 1, 1)


def graph(body: str, result: str = "float[2,3,4,4] y", a: np.ndarray = SLOPES):
    head = f'<ir_version: 8, opset_import: ["" : 16]> agraph (float[2,3,4,4] x, float[2,3,4,4] u) => ({result}) {{'
    arrays = {"a": np.asarray(a, np.float32)} if "a)" in body or "(a" in body else {}
    return model_of(head + with_scalars(body) + "}", arrays)


FORMS = [
    "p = Relu(x) n = Neg(x) q = Relu(n) s = Mul(q, a) y = Sub(p, s)",
    "p = Relu(x) n = Neg(x) q = Relu(n) t = Neg(q) s = Mul(a, t) y = Add(s, p)",
    "p = Relu(x) b = Abs(x) d = Sub(x, b) s = Mul(d, a) h = Mul(s, half) y = Add(p, h)",
    "p = Relu(x) b = Abs(x) d = Sub(x, b) s = Mul(a, d) h = Div(s, two) y = Add(p, h)",
    "c = Greater(x, zero) s = Mul(x, a) y = Where(c, x, s)",
    "s = Mul(a, x) y = Max(s, x)",
]


@pytest.mark.parametrize("body", FORMS)
def test_slope_per_channel(body: str) -> None:
    after, _, _ = check_pass(recompose_prelu, graph(body), rewrites=1)
    assert ops(after) == ["PRelu"]


@pytest.mark.parametrize("body", FORMS)
def test_one_slope(body: str) -> None:
    after, _, _ = check_pass(recompose_prelu, graph(body, a=0.25), rewrites=1)
    assert ops(after) == ["LeakyRelu"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("s = Mul(x, a) t = Mul(s, three) y = Max(x, t)", "between 0 and 1"),
        ("c = Greater(x, one) s = Mul(x, a) y = Where(c, x, s)", "threshold is 1"),
        (FORMS[0] + " o = Mul(q, u)", "q is read elsewhere"),
        (FORMS[0] + " o = Mul(p, u)", "p.* is read by 2 nodes|read by 2"),
    ],
)
def test_near_misses(body: str, reason: str) -> None:
    import re

    result = "float[2,3,4,4] y" + (", float[2,3,4,4] o" if "o =" in body else "")
    model = graph(body, result)
    _, _, report = check_pass(recompose_prelu, model, rewrites=0)
    assert any(re.search(reason, miss.reason) for miss in report.misses)


@pytest.mark.parametrize(
    "body",
    ["p = Relu(x) n = Neg(u) q = Relu(n) s = Mul(q, half) y = Sub(p, s)", "y = Max(x, u)", "p = Relu(x) y = Add(p, u)",
     "p = Relu(x) n = Neg(x) q = Relu(n) s = Mul(q, half) y = Sub(s, p)"],
)
def test_other_sums_are_not_near(body: str) -> None:
    _, _, report = check_pass(recompose_prelu, graph(body), rewrites=0)
    assert report.misses == ()
