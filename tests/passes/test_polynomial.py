import pytest

from hwc.graph.match import NoMatch
from hwc.passes.polynomial import climb, find_variable, is_equal, read_expression
from tests.passes.check import model_of

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def values(body: str) -> dict:
    model = model_of(HEAD + "agraph (float[2] x, float[2] z) => (float[2] y) {" + body + "}")
    found = {value.name: value for node in model.graph for value in node.outputs}
    return {**found, "x": model.graph.inputs[0]}


@pytest.mark.parametrize(
    ("body", "terms"),
    [
        ("c = Constant<value_float = 3.0>() a = Sub(x, c) y = Mul(a, a)", {(0,): 9.0, (1,): -6.0, (2,): 1.0}),
        ("c = Constant<value_float = 2.0>() a = Div(x, c) y = Neg(a)", {(1,): -0.5}),
        ("c = Constant<value_float = 3.0>() a = Pow(x, c) y = Add(a, x)", {(3,): 1.0, (1,): 1.0}),
    ],
)
def test_reads_arithmetic(body: str, terms: dict) -> None:
    v = values(body)
    expression = read_expression(v["y"], (v["x"],))
    assert expression is not None and is_equal(expression.terms, terms, v["y"].dtype)


@pytest.mark.parametrize(
    "body",
    ["y = Add(x, z)", "y = Div(z, x)", "c = Constant<value_float = 0.5>() y = Pow(x, c)", "y = Relu(x)",
     "c = Constant<value_floats = [1.0, 2.0]>() y = Add(x, c)"],
)
def test_refuses_what_is_no_polynomial_in_x(body: str) -> None:
    v = values(body)
    assert read_expression(v["y"], (v["x"],)) is None


def test_dividing_by_zero_is_no_polynomial() -> None:
    v = values("c = Constant<value_float = 0.0>() y = Div(x, c)")
    assert read_expression(v["y"], (v["x"],)) is None


def test_a_coefficient_that_is_off_is_a_near_miss() -> None:
    v = values("c = Constant<value_float = 0.7>() y = Mul(x, c)")
    with pytest.raises(NoMatch, match="is 0.7, expected 0.7071") as miss:
        find_variable(v["y"], {(1,): 0.70710678})
    assert miss.value.near


def test_climb_stops_at_a_value_that_is_read_twice() -> None:
    v = values("e = Erf(x) a = Mul(e, x) b = Mul(e, z) y = Add(a, b)")
    with pytest.raises(NoMatch, match="read by 2 nodes"):
        climb(v["e"], (v["x"], v["e"]), {(1, 1): 1.0})
