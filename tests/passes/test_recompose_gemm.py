import numpy as np
import pytest

from hwc.passes.recompose_gemm import recompose_gemm
from tests.passes.check import check_pass, model_of, ops

W = np.arange(12, dtype=np.float32).reshape(3, 4)


def graph(body: str, x: str = "2,3", result: str = "float[2,4] y", bias: np.ndarray = W[0], opset: int = 13):
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[{x}] x, float[3,4] u) => ({result}) {{'
    arrays = {name: a for name, a in {"w": W, "b": np.asarray(bias, np.float32)}.items() if f"{name})" in body}
    return model_of(head + body + "}", arrays)


@pytest.mark.parametrize("bias", [W[0], W[:1], np.array([2.0]), np.array(2.0)])
@pytest.mark.parametrize("x", ["2,3", "N,3"])
def test_matrix(bias: np.ndarray, x: str) -> None:
    model = graph("m = MatMul(x, w) y = Add(m, b)", x, f"float[{x[0]},4] y", bias)
    after, _, _ = check_pass(recompose_gemm, model, rewrites=1)
    assert ops(after) == ["Gemm"]


@pytest.mark.parametrize(
    ("body", "bias", "result", "reason"),
    [
        ("m = MatMul(x, w) y = Add(m, b)", W[:2], "float[2,4] y", "not a row"),
        ("m = MatMul(x, w) y = Add(m, m)", W[0], "float[2,4] y", "the bias is not a constant"),
        ("m = MatMul(x, w) y = Add(m, b) o = Relu(m)", W[0], "float[2,4] y, float[2,4] o", "read by 2 nodes"),
        ("m = MatMul(x, w) y = Add(m, b)", W[0], "float[2,4] m, float[2,4] y", "graph output"),
    ],
)
def test_near_misses(body: str, bias: np.ndarray, result: str, reason: str) -> None:
    _, _, report = check_pass(recompose_gemm, graph(body, "2,3", result, bias), rewrites=0)
    assert reason in report.misses[0].reason


def test_rank_3_and_computed_weights_are_left() -> None:
    for body, x, result in (
        ("m = MatMul(x, w) y = Add(m, b)", "5,2,3", "float[5,2,4] y"),
        ("m = MatMul(x, u) y = Add(m, b)", "2,3", "float[2,4] y"),
    ):
        _, _, report = check_pass(recompose_gemm, graph(body, x, result), rewrites=0)
        assert report.misses == ()
