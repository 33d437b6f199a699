import numpy as np
import pytest

from hwc.passes.base import run_pass
from hwc.passes.canonicalize_operand_order import canonicalize_operand_order
from tests.passes.check import check_pass, context, model_of


def graph(body: str, result: str = "float[1,4,6,6] y"):
    text = '<ir_version: 8, opset_import: ["" : 13]> agraph (float[1,4,6,6] x, float[1,4,6,6] z) => (' + result + ") {"
    arrays = {"w": np.ones([4, 4, 1, 1], np.float32), "k": np.float32(3.0)}
    return model_of(text + body + "}", {n: a for n, a in arrays.items() if f"{n})" in body or f"({n}" in body})


@pytest.mark.parametrize(
    ("body", "first"),
    [
        ("y = Mul(k, x)", "x"),
        ("c = Conv(x, w) y = Add(z, c)", "c"),
        ("c = Conv(x, w) s = Relu(z) y = Add(s, c)", "c"),
        ("a = Relu(x) b = Relu(a) y = Add(a, b)", "b"),
        ("g = GlobalAveragePool(x) s = Sigmoid(g) y = Mul(s, x)", "x"),
    ],
)
def test_swaps_once(body: str, first: str) -> None:
    after, _, _ = check_pass(canonicalize_operand_order, graph(body), rewrites=1, rtol=0, atol=0)
    assert after.graph[-1].inputs[0].name == first
    _, step, _ = run_pass(after, canonicalize_operand_order, context())
    assert step.rewrites == 0


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ("y = Add(x, k)", "float[1,4,6,6] y"),
        ("y = Add(x, z)", "float[1,4,6,6] y"),
        ("y = Add(x, x)", "float[1,4,6,6] y"),
        ("c = Conv(x, w) y = Add(c, z)", "float[1,4,6,6] y"),
        ("c = Conv(x, w) s = Relu(z) y = Add(s, c)", "float[1,4,6,6] c, float[1,4,6,6] y"),
        ("y = Sub(k, x)", "float[1,4,6,6] y"),
    ],
)
def test_no_change(body: str, result: str) -> None:
    # In the fifth, others need the Conv's result too, so it is not fused and being made later is all that counts.
    check_pass(canonicalize_operand_order, graph(body, result), rewrites=0)
