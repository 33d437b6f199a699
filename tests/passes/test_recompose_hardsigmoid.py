import pytest

from hwc.passes.recompose_hardsigmoid import recompose_hardsigmoid
from tests.passes.check import check_pass, ops
from tests.passes.scalars import with_scalars

HEAD = '<ir_version: 8, opset_import: ["" : 12]>\n'


def graph(body: str, result: str = "float[2,3] y") -> str:
    return HEAD + "agraph (float[2,3] x, float[2,3] z) => (" + result + ") {" + with_scalars(body) + "}"


@pytest.mark.parametrize(
    "body",
    [
        "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)",
        "a = Add(three, x) c = Clip(a, zero, six) y = Mul(sixth, c)",
        "a = Mul(x, sixth) b = Add(a, half) y = Clip(b, zero, one)",
        "a = Add(x, three) b = Div(a, six) y = Clip(b, zero, one)",
    ],
)
def test_forms(body: str) -> None:
    after, step, _ = check_pass(recompose_hardsigmoid, graph(body), rewrites=1)
    assert ops(after) == ["HardSigmoid"] and after.graph.outputs[0].name == "y"
    assert step.nodes_after < step.nodes_before
    assert "|" in after.graph[0].metadata_props["hwc.origin"]


def test_clip_attributes_of_opset_6() -> None:
    text = '<ir_version: 4, opset_import: ["" : 9]> agraph (float[2] x, float[1] t, float[1] s) => (float[2] y)' + (
        " <float[1] t = {3.0}, float[1] s = {6.0}> { a = Add(x, t) c = Clip<min = 0.0, max = 6.0>(a) y = Div(c, s) }"
    )
    after, _, _ = check_pass(recompose_hardsigmoid, text, rewrites=1)
    assert ops(after) == ["HardSigmoid"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = Add(x, two) c = Clip(a, zero, six) y = Div(c, six)", "is 2, expected 3"),
        ("a = Add(x, three) c = Clip(a, zero, six) y = Div(c, three)", "is 0.333333, expected 0.166667"),
        ("a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Add(d, a)", "a is read elsewhere"),
        ("a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Add(d, c)", "c is read by 2 nodes"),
    ],
)
def test_near_misses(body: str, reason: str) -> None:
    _, _, report = check_pass(recompose_hardsigmoid, graph(body), rewrites=0)
    assert reason in report.misses[0].reason


def test_an_intermediate_graph_output_stays() -> None:
    body = "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)"
    _, _, report = check_pass(recompose_hardsigmoid, graph(body, "float[2,3] a, float[2,3] y"), rewrites=0)
    assert report.misses[0].reason == "a is a graph output"


@pytest.mark.parametrize("body", ["y = Clip(x, zero, six)", "a = Add(x, z) c = Clip(a, zero, six) y = Div(c, six)"])
def test_other_clips_are_not_even_near(body: str) -> None:
    _, _, report = check_pass(recompose_hardsigmoid, graph(body), rewrites=0)
    assert report.misses == ()
