import pytest

from hwc.passes.base import run_pass
from hwc.passes.cascade_max_pool import cascade_max_pool
from tests.passes.build import assert_same_in_onnxruntime
from tests.passes.check import check_pass, ops
from tests.passes.for_dla import graph, on, rewrite


@pytest.mark.parametrize(
    ("body", "x", "y", "steps"),
    [
        ("MaxPool<kernel_shape=[9,9], pads=[4,4,4,4]>(x)", "1,2,13,13", "1,2,13,13", 2),
        ("MaxPool<kernel_shape=[13,13], pads=[6,6,6,6]>(x)", "1,2,4,5", "1,2,4,5", 2),
        ("MaxPool<kernel_shape=[13,3], strides=[2,1], pads=[6,1,6,1]>(x)", "1,2,20,9", "1,2,10,9", 2),
        ("MaxPool<kernel_shape=[20,1]>(x)", "1,2,31,2", "1,2,12,2", 3),
        ("MaxPool<kernel_shape=[9,9], strides=[3,3], pads=[1,0,4,2]>(x)", "1,2,25,25", "1,2,8,7", 2),
        ("MaxPool<kernel_shape=[16,16], strides=[16,16]>(x)", "1,2,32,16", "1,2,2,1", 2),
        ('MaxPool<kernel_shape=[9,9], auto_pad="SAME_UPPER", strides=[2,2]>(x)', "1,2,14,13", "1,2,7,7", 2),
        ("GlobalMaxPool(x)", "1,2,24,7", "1,2,1,1", 2),
        ("GlobalMaxPool(x)", "1,2,11,22", "1,2,1,1", 3),
        ("ReduceMax<axes=[2,3]>(x)", "1,2,7,7", "1,2,1,1", 1),
    ],
)
def test_forms(body, x, y, steps) -> None:
    model = graph(f"y = {body}", x, y)
    after, step, report = run_pass(model, cascade_max_pool, on())
    assert step.rewrites == 1, report.misses
    assert_same_in_onnxruntime(model, after)  # the reference evaluator cannot pad windows of two sizes
    assert ops(after) == ["MaxPool"] * steps
    for node in after.graph:
        window, pads = node.attributes["kernel_shape"].as_ints(), node.attributes["pads"].as_ints()
        assert max(window) <= 8 and max(pads) <= 7 and all(p < k for p, k in zip(pads, [*window, *window]))


@pytest.mark.parametrize(
    ("body", "y", "reason"),
    [
        ("MaxPool<kernel_shape=[9,9], ceil_mode=1, strides=[2,2]>(x)", "1,2,13,13", "ceil_mode"),
        ("MaxPool<kernel_shape=[9,9], dilations=[2,2]>(x)", "1,2,16,16", "dilated"),
        ("ReduceMax<axes=[2,3], keepdims=0>(x)", "1,2", "drops its axes"),
    ],
)
def test_near_misses(body, y, reason) -> None:
    model = graph(f"y = {body}", "1,2,32,32", y if "Reduce" in body else "a,b,c,d")
    _, _, report = rewrite(cascade_max_pool, model, rewrites=0)
    assert reason in report.misses[0].reason


def test_small_windows_are_not_near() -> None:
    model = graph("y = MaxPool<kernel_shape=[8,8]>(x)", "1,2,9,9", "1,2,2,2")
    _, _, report = rewrite(cascade_max_pool, model, rewrites=0)
    assert report.misses == ()


def test_a_target_without_dla_is_left_alone() -> None:
    check_pass(cascade_max_pool, graph("y = GlobalMaxPool(x)", "1,2,24,7", "1,2,1,1"), rewrites=0)
