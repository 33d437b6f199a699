import pytest

from hwc.passes.base import run_pass
from hwc.passes.count_pool_padding import count_pool_padding
from tests.passes.build import assert_same_in_onnxruntime
from tests.passes.check import check_pass, ops
from tests.passes.for_dla import ORIN, graph, on


def pool(attributes: str, x: str = "2,3,7,8"):
    return graph(f"y = AveragePool<{attributes}>(x)", x, "a,b,c,d")


@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape=[3,3], pads=[1,1,1,1]", "kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]",
        "kernel_shape=[4,2], pads=[2,0,1,1], strides=[3,1]", 'kernel_shape=[3,3], auto_pad="SAME_UPPER", strides=[2,2]',
    ],
)  # fmt: skip
def test_forms(attributes) -> None:
    model = pool(attributes)
    after, step, report = run_pass(model, count_pool_padding, on())
    assert step.rewrites == 1 and ops(after) == ["AveragePool", "Mul"], report.misses
    assert_same_in_onnxruntime(model, after)  # the reference evaluator gets asymmetric pads of pools wrong
    assert after.graph[0].attributes["count_include_pad"].as_int() == 1


@pytest.mark.parametrize(
    "attributes", ["kernel_shape=[3,3]", "kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1"]
)
def test_what_needs_nothing_is_not_near(attributes) -> None:
    _, _, report = check_pass(count_pool_padding, pool(attributes), rewrites=0, ctx=on())
    assert report.misses == ()


def test_orin_and_ceil_mode_stay() -> None:
    padded = pool("kernel_shape=[3,3], pads=[1,1,1,1]")
    check_pass(count_pool_padding, padded, rewrites=0, ctx=on(ORIN))
    check_pass(count_pool_padding, padded, rewrites=0)
    ceil = pool("kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2], ceil_mode=1")
    _, _, report = run_pass(ceil, count_pool_padding, on())
    assert "ceil_mode" in report.misses[0].reason
