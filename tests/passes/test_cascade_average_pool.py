import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc.passes.cascade_average_pool import cascade_average_pool, factor_steps
from tests.passes.check import ops
from tests.passes.for_dla import graph, rewrite


@pytest.mark.parametrize(
    ("body", "x", "y", "left"),
    [
        ("GlobalAveragePool(x)", "2,3,7,7", "2,3,1,1", ["AveragePool"]),
        ("GlobalAveragePool(x)", "2,3,14,10", "2,3,1,1", ["AveragePool"] * 2),
        ("GlobalAveragePool(x)", "1,2,64,5", "1,2,1,1", ["AveragePool"] * 2),
        ("GlobalAveragePool(x)", "2,3,1,1", "2,3,1,1", ["AveragePool"]),
        ("GlobalAveragePool(x)", "2,3,11,22", "2,3,1,1", ["Conv"]),
        ("ReduceMean<axes=[2,3]>(x)", "2,3,9,6", "2,3,1,1", ["AveragePool"] * 2),
        ("AveragePool<kernel_shape=[12,12], strides=[12,12]>(x)", "1,2,24,36", "1,2,2,3", ["AveragePool"] * 2),
        ("AveragePool<kernel_shape=[10,10]>(x)", "1,2,10,10", "1,2,1,1", ["AveragePool"] * 2),
        ("AveragePool<kernel_shape=[13,1]>(x)", "1,2,13,1", "1,2,1,1", ["Conv"]),
    ],
)
def test_forms(body, x, y, left) -> None:
    after, _, _ = rewrite(cascade_average_pool, graph(f"y = {body}", x, y))
    assert ops(after) == left


@pytest.mark.parametrize(
    ("body", "x", "y", "reason"),
    [
        ("GlobalAveragePool(x)", "1,2,37,4", "1,2,1,1", "large prime factor"),
        ("GlobalAveragePool(x)", "1,2,H,4", "1,2,1,1", "not static"),
        ("ReduceMean<axes=[2,3], keepdims=0>(x)", "1,2,4,4", "1,2", "drops its axes"),
        ("AveragePool<kernel_shape=[9,9], pads=[1,1,1,1]>(x)", "1,2,9,9", "1,2,3,3", "pads"),
        ("AveragePool<kernel_shape=[9,9]>(x)", "1,2,10,10", "1,2,2,2", "overlap"),
        ("AveragePool<kernel_shape=[9,9], strides=[9,9]>(x)", "1,2,20,18", "1,2,2,2", "rest of the map"),
        ("AveragePool<kernel_shape=[11,1], strides=[11,1]>(x)", "1,2,22,1", "1,2,2,1", "stride of 11"),
    ],
)
def test_near_misses(body, x, y, reason) -> None:
    _, _, report = rewrite_none(body, x, y)
    assert reason in report.misses[0].reason


def rewrite_none(body, x, y):
    from hwc.passes.base import run_pass
    from tests.passes.for_dla import on

    after, step, report = run_pass(graph(f"y = {body}", x, y), cascade_average_pool, on())
    assert step.rewrites == 0
    return after, step, report


@pytest.mark.parametrize("body", ["AveragePool<kernel_shape=[8,8]>(x)", "ReduceMean<axes=[1]>(x)"])
def test_what_dla_takes_and_other_means_are_not_near(body) -> None:
    _, _, report = rewrite_none(body, "1,2,8,8", "a,b,c,d")
    assert report.misses == ()


@given(st.integers(1, 2000))
def test_factors_multiply_to_the_size_and_fit(size: int) -> None:
    steps = factor_steps(size, 8)
    if steps is None:
        assert any(size % prime == 0 for prime in range(11, size + 1) if all(prime % d for d in range(2, prime)))
        return
    product = 1
    for step in steps:
        assert 1 < step <= 8
        product *= step
    assert product == size
