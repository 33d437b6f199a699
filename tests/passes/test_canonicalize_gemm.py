import numpy as np
import pytest

from hwc.passes.canonicalize_gemm import canonicalize_gemm
from tests.passes.check import check_pass, model_of, ops

W = np.arange(12, dtype=np.float32).reshape(3, 4)


def graph(body: str, w: np.ndarray = W, result: str = "float[2,4] y", x: str = "2,3"):
    head = f'<ir_version: 8, opset_import: ["" : 13]> agraph (float[{x}] x) => ({result}) {{'
    arrays = {name: a for name, a in {"w": w, "b": W[0]}.items() if f"{name})" in body or f" {name}," in body}
    return model_of(head + body + "}", arrays)


@pytest.mark.parametrize(
    ("body", "w"),
    [
        ("y = Gemm<transB = 1>(x, w, b)", W.T),
        ("y = Gemm<alpha = 0.5, beta = 2.0>(x, w, b)", W),
        ("y = Gemm<alpha = 3.0, transB = 1>(x, w)", W.T),
        ("y = Gemm<beta = 0.0>(x, w, b)", W),
    ],
)
def test_constants_take_the_attributes(body: str, w: np.ndarray) -> None:
    after, _, _ = check_pass(canonicalize_gemm, graph(body, w), rewrites=1)
    assert ops(after) == ["Gemm"] and not after.graph[0].attributes


def test_trans_a_stays() -> None:
    model = graph("y = Gemm<transA = 1, transB = 1>(x, w, b)", W.T, x="3,2")
    after, _, _ = check_pass(canonicalize_gemm, model, rewrites=1)
    assert list(after.graph[0].attributes) == ["transA"]


def test_shared_weights_stay() -> None:
    model = graph("y = Gemm<transB = 1>(x, w, b) o = Gemm<transB = 1>(x, w)", W.T, "float[2,4] y, float[2,4] o")
    _, _, report = check_pass(canonicalize_gemm, model, rewrites=0)
    assert "read by 2 nodes" in report.misses[0].reason


def test_a_plain_gemm_is_no_change() -> None:
    _, _, report = check_pass(canonicalize_gemm, graph("y = Gemm(x, w, b)"), rewrites=0)
    assert report.misses == ()


def test_a_computed_weight_is_a_near_miss() -> None:
    text = '<ir_version: 8, opset_import: ["" : 13]> agraph (float[2,3] x, float[4,3] w) => (float[2,4] y) {'
    _, _, report = check_pass(canonicalize_gemm, text + "y = Gemm<transB = 1>(x, w) }", rewrites=0)
    assert report.misses[0].reason == "the weight is not a constant"
