from hwc.passes.base import run_pass
from hwc.passes.eliminate_duplicate import eliminate_duplicate
from tests.passes.check import check_pass, context, model_of, ops

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def test_equal_branches_and_weights_collapse() -> None:
    text = HEAD + """
    agraph (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}, float[2] v = {1.0, 2.0}, float[2,1] u = {1.0, 2.0}> {
        a = Mul(x, w)
        b = Mul(x, v)
        c = Relu(a)
        d = Relu(b)
        y = Add(c, d)
        unused = Mul(x, u)
    }"""
    after, _, _ = check_pass(eliminate_duplicate, model_of(text.replace("unused = Mul(x, u)", "")), rewrites=3)
    assert ops(after) == ["Mul", "Relu", "Add"]
    assert after.graph.node(0).metadata_props["hwc.origin"].count("|") == 1


def test_a_duplicate_that_names_an_output_lends_its_name() -> None:
    text = HEAD + "agraph (float[2] x) => (float[2] y, float[2] z) { a = Relu(x) y = Relu(x) z = Neg(a) }"
    after, _, _ = check_pass(eliminate_duplicate, text, rewrites=1)
    assert ops(after) == ["Relu", "Neg"]


def test_two_graph_outputs_stay_two() -> None:
    text = HEAD + "agraph (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Relu(x) }"
    _, _, report = check_pass(eliminate_duplicate, text, rewrites=0)
    assert "both name graph outputs" in report.misses[0].reason


def test_what_differs_stays() -> None:
    text = HEAD + """
    agraph (float[2,2] x, float[2,2] z) => (float[2,2] y) {
        a = Softmax<axis=0>(x)
        b = Softmax<axis=1>(x)
        c = Sub(x, z)
        d = Sub(z, x)
        y = Sum(a, b, c, d)
    }"""
    check_pass(eliminate_duplicate, text, rewrites=0)


def test_random_numbers_stay_apart() -> None:
    body = "a = RandomNormalLike(x) b = RandomNormalLike(x) y = Sub(a, b)"
    text = f"{HEAD}agraph (float[2] x) => (float[2] y) {{ {body} }}"
    _, step, _ = run_pass(model_of(text), eliminate_duplicate, context())
    assert step.rewrites == 0
