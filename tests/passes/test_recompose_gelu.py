import pytest

from hwc.passes.recompose_gelu import recompose_gelu
from tests.passes.check import check_pass, ops
from tests.passes.scalars import with_scalars

EXACT = "a = Div(x, root2) e = Erf(a) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)"


def graph(body: str, result: str = "float[2,3] y", opset: int = 20) -> str:
    head = f'<ir_version: 9, opset_import: ["" : {opset}]> agraph (float[2,3] x, float[2,3] z) => ({result}) {{'
    return head + with_scalars(body) + "}"


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (EXACT, "none"),
        ("a = Mul(inverse_root2, x) e = Erf(a) p = Add(one, e) h = Mul(half, x) y = Mul(h, p)", "none"),
        ("a = Div(x, root2) e = Erf(a) p = Add(e, one) h = Mul(p, half) y = Mul(x, h)", "none"),
        ("a = Div(x, root2) e = Erf(a) m = Mul(x, e) p = Add(m, x) y = Div(p, two)", "none"),
        ("q = Pow(x, three) r = Mul(cubic, q) s = Add(x, r) a = Mul(root_2_pi, s) t = Tanh(a) p = Add(one, t) "
         "h = Mul(half, x) y = Mul(h, p)", "tanh"),
        ("q = Mul(x, x) r = Mul(q, cubic) s = Add(r, one) u = Mul(x, root_2_pi) a = Mul(u, s) t = Tanh(a) "
         "p = Add(t, one) m = Mul(x, p) y = Mul(half, m)", "tanh"),
    ],
)
def test_forms(body: str, form: str) -> None:
    after, _, _ = check_pass(recompose_gelu, graph(body), rewrites=1)
    assert ops(after) == ["Gelu"] and after.graph[0].attributes["approximate"].as_string() == form


def test_x_may_be_a_biased_sum() -> None:
    after, _, _ = check_pass(recompose_gelu, graph("b = Add(x, z) " + EXACT.replace("(x,", "(b,")), rewrites=1)
    assert ops(after) == ["Add", "Gelu"]


@pytest.mark.parametrize(
    ("body", "opset", "reason"),
    [
        (EXACT, 18, "Gelu needs opset 20, the model has 18"),
        (EXACT.replace("Div(x, root2)", "Mul(x, wrong)"), 20, "is 0.7, expected 0.707107"),
        (EXACT.replace("Mul(m, half)", "Mul(m, two)"), 20, "is 2, expected 0.5"),
        (EXACT.replace("Add(e, one)", "Add(e, half)"), 20, "expected 0.5"),
        (EXACT + " w = Relu(a)", 20, "a is read elsewhere"),
        (EXACT + " w = Relu(m)", 20, "m is read by 2 nodes"),
    ],
)
def test_near_misses(body: str, opset: int, reason: str) -> None:
    result = "float[2,3] y, float[2,3] w" if "w =" in body else "float[2,3] y"
    _, _, report = check_pass(recompose_gelu, graph(body, result, opset), rewrites=0)
    assert reason in report.misses[0].reason


def test_an_intermediate_graph_output_stays() -> None:
    _, _, report = check_pass(recompose_gelu, graph(EXACT, "float[2,3] p, float[2,3] y"), rewrites=0)
    assert "p is a graph output" in report.misses[0].reason


def test_a_plain_tanh_is_not_near() -> None:
    _, _, report = check_pass(recompose_gelu, graph("a = Mul(x, half) y = Tanh(a)"), rewrites=0)
    assert report.misses == ()
