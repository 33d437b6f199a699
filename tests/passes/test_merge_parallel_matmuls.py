import numpy as np
import pytest

from hwc.passes.merge_parallel_matmuls import merge_parallel_matmuls
from tests.passes.check import check_pass, model_of, ops
from tests.passes.gain import always_gain, pretend

RNG = np.random.default_rng(9)
QKV = """a = MatMul(x, u) q = Add(a, i) b = MatMul(x, v) k = Add(j, b) c = MatMul(x, w) y = Add(c, l)"""
ARRAYS = {"u": (8, 4), "v": (8, 4), "w": (8, 6), "i": (4,), "j": (4,), "l": (6,)}


def graph(body: str, result: str, x: str = "2,5,8", opset: int = 17, **shapes: tuple):
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[{x}] x) => ({result}) {{'
    used = {n: s for n, s in {**ARRAYS, **shapes}.items() if f", {n}" in body or f"({n}," in body}
    return model_of(head + body + "}", {n: RNG.standard_normal(s).astype(np.float32) for n, s in used.items()})


OUT = "float[2,5,4] q, float[2,5,4] k, float[2,5,6] y"


@pytest.mark.parametrize("opset", [11, 17])
def test_query_key_value(monkeypatch: pytest.MonkeyPatch, opset: int) -> None:
    always_gain(monkeypatch)
    after, _, _ = check_pass(merge_parallel_matmuls, graph(QKV, OUT, opset=opset), rewrites=1)
    assert ops(after) == ["MatMul", "Add", "Split"]


def test_without_biases_and_with_a_dynamic_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = "q = MatMul(x, u) k = MatMul(x, v)"
    after, _, _ = check_pass(merge_parallel_matmuls, graph(body, "float[N,5,4] q, float[N,5,4] k", "N,5,8"), rewrites=1)
    assert ops(after) == ["MatMul", "Split"]


def test_plain_gemms_with_and_without_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = "q = Gemm(x, u, i) y = Gemm(x, w)"
    after, _, _ = check_pass(merge_parallel_matmuls, graph(body, "float[2,4] q, float[2,6] y", "2,8"), rewrites=1)
    assert ops(after) == ["Gemm", "Split"]


def test_a_bias_only_on_some_makes_two_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = "a = MatMul(x, u) q = Add(a, i) k = MatMul(x, v) "
    check_pass(merge_parallel_matmuls, graph(body, "float[2,5,4] q, float[2,5,4] k"), rewrites=0)


def test_a_product_that_is_a_graph_output_keeps_its_bias_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    after, _, _ = check_pass(merge_parallel_matmuls, graph(QKV, OUT + ", float[2,5,4] a"), rewrites=1)
    assert ops(after).count("MatMul") == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("q = MatMul(x, u) k = MatMul(x, v)", "estimate 1 us -> 2 us on rtx-4090"),
        ("q = MatMul(x, t) k = MatMul(x, v) t = Exp(v)", ""),
    ],
)
def test_no_gain_and_computed_weights(monkeypatch: pytest.MonkeyPatch, body: str, reason: str) -> None:
    pretend(monkeypatch, 1.0, 2.0)
    if "t = Exp(v)" in body:
        body = "t = Exp(v) " + body.replace(" t = Exp(v)", "")
        reason = "is not a constant"
    _, _, report = check_pass(merge_parallel_matmuls, graph(body, "float[2,5,4] q, float[2,5,4] k"), rewrites=0)
    assert reason in report.misses[0].reason


def test_a_gemm_that_is_not_plain_is_a_near_miss() -> None:
    body = "q = Gemm<alpha = 2.0>(x, u) k = Gemm(x, v)"
    _, _, report = check_pass(merge_parallel_matmuls, graph(body, "float[2,4] q, float[2,4] k", "2,8"), rewrites=0)
    assert "alpha of Gemm_0 is 2.0" in report.misses[0].reason


def test_other_matrices_on_the_left_are_no_siblings() -> None:
    body = "n = Neg(x) q = MatMul(x, u) k = MatMul(n, v)"
    _, _, report = check_pass(merge_parallel_matmuls, graph(body, "float[2,5,4] q, float[2,5,4] k"), rewrites=0)
    assert report.misses == ()


def test_the_real_estimate_merges_a_transformers_projections() -> None:
    shapes = dict.fromkeys("uvw", (384, 384)) | dict.fromkeys("ijl", (384,))
    result = "float[1,128,384] q, float[1,128,384] k, float[1,128,384] y"
    check_pass(merge_parallel_matmuls, graph(QKV, result, "1,128,384", **shapes), rewrites=1, rtol=1e-3, atol=1e-3)
