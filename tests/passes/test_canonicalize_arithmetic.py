import numpy as np
import pytest

from hwc.passes.canonicalize_arithmetic import canonicalize_arithmetic
from tests.passes.check import check_pass, model_of, ops


def graph(body: str, c: object = (1.0, 2.0, 4.0), kind: str = "float", opset: int = 13):
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> agraph ({kind}[2,3] x, {kind}[2,3] z) => ({kind}[2,3] y) {{'
    dtype = {"float": np.float32, "float16": np.float16, "int32": np.int32}[kind]
    arrays = {"c": np.asarray(c, dtype)} if "c)" in body or "(c" in body else {}
    return model_of(head + body + "}", arrays)


@pytest.mark.parametrize(
    ("body", "c", "kind", "after_ops"),
    [
        ("y = Sum(x, z)", 0, "float", ["Add"]),
        ("y = Sum(x, z, x, z)", 0, "float", ["Add", "Add", "Add"]),
        ("y = Sub(x, c)", [1.5, -2.25, 0.0], "float", ["Add"]),
        ("y = Div(x, c)", [2.0, -0.25, 1024.0], "float", ["Mul"]),
        ("y = Div(x, c)", 8.0, "float16", ["Mul"]),
    ],
)
def test_forms_are_exact(body: str, c: object, kind: str, after_ops: list) -> None:
    after, _, _ = check_pass(canonicalize_arithmetic, graph(body, c, kind), rewrites=1, rtol=0, atol=0)
    assert ops(after) == after_ops and after.graph.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("c", "kind"),
    [([2.0, 4.0, 6.0], "float"), (0.0, "float"), (np.inf, "float"), (np.nan, "float"), (1e-45, "float"),
     (2.0**127, "float"), (2.0**15, "float16")],
)
def test_other_divisors_are_near_misses(c: object, kind: str) -> None:
    from hwc.passes.base import run_pass
    from tests.passes.check import context

    _, step, report = run_pass(graph("y = Div(x, c)", c, kind), canonicalize_arithmetic, context())
    assert step.rewrites == 0 and "not a power of two" in report.misses[0].reason


@pytest.mark.parametrize(
    ("body", "kind"),
    [("y = Sub(c, x)", "float"), ("y = Div(c, x)", "float"), ("y = Sub(x, z)", "float"), ("y = Div(x, c)", "int32"),
     ("y = Sum(x)", "float")],
)
def test_others_are_not_near(body: str, kind: str) -> None:
    feeds = {"x": np.full((2, 3), 7, np.int32), "z": np.full((2, 3), 3, np.int32)} if kind == "int32" else None
    _, _, report = check_pass(canonicalize_arithmetic, graph(body, kind=kind), rewrites=0, feeds=feeds)
    assert report.misses == ()


def test_sum_before_opset_7_is_a_near_miss() -> None:
    text = '<ir_version: 3, opset_import: ["" : 6]> agraph (float[2] x, float[2] z) => (float[2] y) { y = Sum(x, z) }'
    _, _, report = check_pass(canonicalize_arithmetic, text, rewrites=0)
    assert "opset 7" in report.misses[0].reason
