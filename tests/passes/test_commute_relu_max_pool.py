import numpy as np
import pytest

from hwc.passes.commute_relu_max_pool import commute_relu_max_pool
from tests.passes.check import check_pass, model_of, ops
from tests.passes.scalars import with_scalars

W = np.random.default_rng(1).standard_normal([4, 3, 3, 3]).astype(np.float32)
POOL = "MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>"


def graph(body: str, result: str = "float[1,4,H,W] y"):
    head = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[1,3,9,9] x) => (' + result + ") {"
    return model_of(head + with_scalars(body) + "}", {"w": W} if "w)" in body else {})


@pytest.mark.parametrize("activation", ["Relu(p)", "Clip(p, zero, six)", "LeakyRelu<alpha = 0.2>(p)"])
def test_forms(activation: str) -> None:
    after, _, _ = check_pass(commute_relu_max_pool, graph(f"c = Conv(x, w) p = {POOL}(c) y = {activation}"), rewrites=1)
    assert [op for op in ops(after) if op != "Constant"] == ["Conv", activation.split("(")[0].split("<")[0], "MaxPool"]


@pytest.mark.parametrize(
    ("body", "result", "reason"),
    [
        (f"c = Conv(x, w) p = {POOL}(c) y = LeakyRelu<alpha = -0.2>(p)", "float[1,4,H,W] y", "is negative"),
        (f"c = Conv(x, w) p = {POOL}(c) y = Clip(p, six, zero)", "float[1,4,H,W] y", "wrong way round"),
        (f"c = Conv(x, w) p, i = {POOL}(c) y = Relu(p)", "float[1,4,H,W] y, int64[A,B,C,D] i", "indices are read"),
        (f"c = Conv(x, w) p = {POOL}(c) y = Relu(p) z = Neg(p)", "float[1,4,H,W] y, float[A,B,C,D] z", "read by 2"),
        (f"c = Conv(x, w) p = {POOL}(c) y = Relu(p) z = Neg(c)", "float[1,4,H,W] y, float[A,B,C,D] z", "read by 2"),
        (f"c = Conv(x, w) p = {POOL}(c) y = Relu(p)", "float[1,4,7,7] c, float[1,4,H,W] y", "c is a graph output"),
    ],
)
def test_near_misses(body: str, result: str, reason: str) -> None:
    _, _, report = check_pass(commute_relu_max_pool, graph(body, result), rewrites=0)
    assert reason in report.misses[0].reason


@pytest.mark.parametrize(
    "body",
    [f"p = {POOL}(x) y = Relu(p)", f"c = Conv(x, w) p = {POOL}(c) y = Sigmoid(p)",
     f"c = Conv(x, w) r = Relu(c) y = {POOL}(r)"],
)
def test_others_are_not_near(body: str) -> None:
    _, _, report = check_pass(commute_relu_max_pool, graph(body, "float[1,C,H,W] y"), rewrites=0)
    assert report.misses == ()
