import numpy as np
import pytest

from hwc.passes.canonicalize_clip import canonicalize_clip
from tests.passes.check import check_pass, model_of, ops
from tests.passes.scalars import with_scalars


def graph(body: str, result: str = "float[4,8] y", opset: int = 13):
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[4,8] x, float[4,8] z) => ({result}) {{'
    return model_of(head + with_scalars(body) + "}")


FEEDS = {"x": np.linspace(-3, 9, 32, dtype=np.float32).reshape(4, 8), "z": np.ones((4, 8), np.float32)}


@pytest.mark.parametrize(
    ("body", "rewrites", "left"),
    [
        ("y = Clip(x, zero)", 1, ["Relu"]),
        ("y = Max(x, zero)", 1, ["Relu"]),
        ("y = Min(six, x)", 1, ["Clip"]),
        ("a = Relu(x) y = Min(a, six)", 1, ["Clip"]),
        ("a = Relu(x) y = Clip(a, one, six)", 1, ["Clip"]),
        ("a = Relu(x) b = Relu(a) y = Neg(b)", 1, ["Relu", "Neg"]),
        ("a = Clip(x, zero, six) y = Relu(a)", 1, ["Clip"]),
        ("a = Clip(x, one, two) b = Clip(a, three, six) y = Neg(b)", 1, ["Clip", "Neg"]),
        ("a = Max(x, zero) b = Min(a, six) y = Clip(b, zero, six)", 3, ["Clip"]),
        ("a = Clip(x) y = Neg(a)", 1, ["Neg"]),
    ],
)
def test_forms(body: str, rewrites: int, left: list) -> None:
    after, _, _ = check_pass(canonicalize_clip, graph(body), rewrites=rewrites, feeds=FEEDS, rtol=0, atol=0)
    assert [op for op in ops(after) if op != "Constant"] == left


def test_attributes_up_to_opset_10() -> None:
    text = '<ir_version: 4, opset_import: ["" : 9]> agraph (float[4,8] x) => (float[4,8] y) {'
    text += " a = Relu(x) y = Clip<min = -1.0, max = 6.0>(a) }"
    after, _, _ = check_pass(canonicalize_clip, text, rewrites=1, feeds={"x": FEEDS["x"]})
    (clip,) = after.graph
    assert clip.attributes["max"].as_float() == 6.0 and len(clip.inputs) == 1


def test_a_shared_relu_stays_but_a_second_one_goes() -> None:
    after, _, report = check_pass(
        canonicalize_clip,
        graph("a = Relu(x) b = Clip(a, zero, six) c = Relu(a) y = Add(b, c)"), rewrites=1, feeds=FEEDS,
    )
    assert [op for op in ops(after) if op != "Constant"] == ["Relu", "Clip", "Add"]
    assert "read by" in report.misses[0].reason


@pytest.mark.parametrize(
    ("body", "result", "reason"),
    [
        ("y = Clip(x, six, zero)", "float[4,8] y", "wrong way round"),
        ("a = Relu(x) y = Clip(a, zero, six)", "float[4,8] a, float[4,8] y", "graph output"),
        ("a = Relu(x) y = Relu(a)", "float[4,8] a, float[4,8] y", "graph output its name"),
        ("q = ReduceMax<keepdims = 0>(z) y = Clip(x, zero, q)", "float[4,8] y", "not a constant"),
    ],
)
def test_near_misses(body: str, result: str, reason: str) -> None:
    _, _, report = check_pass(canonicalize_clip, graph(body, result), rewrites=0, feeds=FEEDS)
    assert reason in report.misses[0].reason


@pytest.mark.parametrize("body", ["y = Relu(x)", "y = Clip(x, zero, six)", "y = Max(x, z)", "y = Max(x, x, z)"])
def test_no_change(body: str) -> None:
    _, _, report = check_pass(canonicalize_clip, graph(body), rewrites=0, feeds=FEEDS)
    assert report.misses == ()
