import numpy as np
import pytest

from hwc.passes.recompose_instancenorm import recompose_instancenorm
from tests.passes.check import check_pass, model_of, ops
from tests.passes.scalars import with_scalars

CORE = """
    m = ReduceMean<axes = [2, 3]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes = [-1, -2]>(q)
    w = Add(v, epsilon) r = Sqrt(w) z = Div(d, r)"""


def graph(body: str, shape: str = "2,3,4,5", **arrays: np.ndarray):
    head = f'<ir_version: 8, opset_import: ["" : 17]> agraph (float[{shape}] x) => (float[{shape}] y) {{'
    arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return model_of(head + with_scalars(body) + "}", arrays)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1), (1,)])
def test_forms(shape: tuple) -> None:
    scale = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    model = graph(CORE + " s = Mul(z, g) y = Add(s, b)", g=scale, b=-scale)
    after, _, _ = check_pass(recompose_instancenorm, model, rewrites=1)
    assert ops(after) == ["InstanceNormalization"] and after.graph[0].inputs[1].shape == [3]


def test_without_scale_and_bias_and_with_a_dynamic_batch() -> None:
    after, _, _ = check_pass(recompose_instancenorm, graph(CORE.replace("z =", "y ="), "N,3,4,5"), rewrites=1)
    assert ops(after) == ["InstanceNormalization"]


@pytest.mark.parametrize(
    ("body", "shape", "reason"),
    [
        (CORE.replace("[2, 3]", "[1, 2]").replace("[-1, -2]", "[1, 2]"), (3, 1, 1), "not the spatial ones"),
        (CORE, (4, 5), "not one number per channel"),
        (CORE.replace("[-1, -2]", "[-1]"), (3, 1, 1), "different axes"),
    ],
)
def test_near_misses(body: str, shape: tuple, reason: str) -> None:
    _, _, report = check_pass(recompose_instancenorm, graph(body + " y = Mul(z, g)", g=np.ones(shape)), rewrites=0)
    assert reason in report.misses[0].reason


def test_a_dynamic_number_of_channels_is_a_near_miss() -> None:
    _, _, report = check_pass(recompose_instancenorm, graph(CORE.replace("z =", "y ="), "2,C,4,5"), rewrites=0)
    assert "channels is not static" in report.misses[0].reason


def test_layer_normalization_is_not_near() -> None:
    body = CORE.replace("[2, 3]", "[2]").replace("[-1, -2]", "[2]").replace("z =", "y =")
    _, _, report = check_pass(recompose_instancenorm, graph(body, "2,3,4"), rewrites=0)
    assert report.misses == ()
