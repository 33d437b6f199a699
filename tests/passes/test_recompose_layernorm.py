import numpy as np
import pytest

from hwc.passes.recompose_layernorm import recompose_layernorm
from tests.passes.check import check_pass, model_of, ops
from tests.passes.scalars import with_scalars

CORE = """
    m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) q = Pow(d, two) v = ReduceMean<axes = [2]>(q)
    w = Add(v, epsilon) r = Sqrt(w) z = Div(d, r)"""
PARAMETERS = {"g": np.array([1.5, -2.0, 0.5, 3.0], np.float32), "b": np.array([0.1, 0.2, -0.3, 0.0], np.float32)}


def graph(body: str, result: str = "float[2,3,4] y", opset: int = 17, **extra: np.ndarray):
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[2,3,4] x) => ({result}) {{'
    arrays = {name: array for name, array in {**PARAMETERS, **extra}.items() if f", {name})" in body}
    return model_of(head + with_scalars(body) + "}", arrays)


@pytest.mark.parametrize(
    "body",
    [
        CORE + " s = Mul(z, g) y = Add(s, b)",
        CORE.replace("Pow(d, two)", "Mul(d, d)") + " s = Mul(z, g) y = Add(s, b)",
        CORE.replace("Div(d, r)", "Mul(d, i)").replace("z =", "i = Reciprocal(r) z =") + " y = Mul(z, g)",
        CORE.replace("Sqrt(w)", "Pow(w, minus_half)").replace("Div(d, r)", "Mul(r, d)") + " y = Add(z, b)",
        CORE.replace("Div(d, r)", "Div(d2, r)").replace("z =", "d2 = Sub(x, m) z =") + " y = Mul(z, g)",
        CORE.replace("z =", "y ="),
    ],
)
def test_forms(body: str) -> None:
    after, _, _ = check_pass(recompose_layernorm, graph(body), rewrites=1)
    assert ops(after) == ["LayerNormalization"] and after.graph[0].attributes["axis"].as_int() == -1


def test_axes_as_input_of_opset_18() -> None:
    body = CORE.replace("<axes = [-1]>(x)", "(x, ax)").replace("<axes = [2]>(q)", "(q, ax)") + " y = Mul(z, g)"
    after, _, _ = check_pass(recompose_layernorm, graph(body, opset=18, ax=np.array([-1], np.int64)), rewrites=1)
    assert ops(after) == ["LayerNormalization"]


def test_two_trailing_axes_and_a_scale_that_broadcasts() -> None:
    body = CORE.replace("[-1]", "[1, 2]").replace("[2]", "[-2, -1]") + " y = Mul(z, g)"
    after, _, _ = check_pass(recompose_layernorm, graph(body), rewrites=1)
    assert ops(after) == ["LayerNormalization"] and after.graph[0].inputs[1].shape == [3, 4]


@pytest.mark.parametrize(
    ("body", "opset", "reason"),
    [
        (CORE + " y = Mul(z, g)", 16, "needs opset 17"),
        (CORE.replace("[-1]", "[1]").replace("[2]", "[1]") + " y = Mul(z, g)", 17, "axes [1] are not the last"),
        (CORE.replace("[2]", "[1, 2]") + " y = Mul(z, g)", 17, "different axes"),
        (CORE + " y = Mul(z, g) o = Relu(d)", 17, "d is read elsewhere"),
        (CORE + " y = Mul(z, c)", 17, "not normalized"),
    ],
)
def test_near_misses(body: str, opset: int, reason: str) -> None:
    result = "float[2,3,4] y, float[2,3,4] o" if "o =" in body else "float[2,3,4] y"
    model = graph(body, result, opset, c=np.array([[1.0], [2.0], [3.0]], np.float32))
    _, _, report = check_pass(recompose_layernorm, model, rewrites=0)
    assert reason in report.misses[0].reason


def test_an_intermediate_graph_output_stays() -> None:
    model = graph(CORE + " y = Mul(z, g)", "float[2,3,1] v, float[2,3,4] y")
    _, _, report = check_pass(recompose_layernorm, model, rewrites=0)
    assert report.misses[0].reason == "v is a graph output"


def test_another_root_is_not_near() -> None:
    _, _, report = check_pass(recompose_layernorm, graph("w = Add(x, six) q = Abs(w) y = Sqrt(q)"), rewrites=0)
    assert report.misses == ()
