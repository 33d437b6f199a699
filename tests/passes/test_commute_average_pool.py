import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.passes.commute_average_pool import commute_average_pool
from tests.passes.check import check_pass, model_of, ops
from tests.passes.gain import always_gain, pretend

RNG = np.random.default_rng(3)


def graph(pool: str, conv: str = "Conv", *, x: str = "2,8,16,16", y: str = "2,16,1,1", bias: bool = True,
          group: int = 1, kernel: int = 1, between: str = "", more: str = ""):
    head = f'<ir_version: 9, opset_import: ["" : 17]> agraph (float[{x}] x) => (float[{y}] y{more}) {{'
    body = f"c = {conv}(x, w{', b' if bias else ''}) {between} y = {pool}({'r' if 'r =' in between else 'c'})"
    arrays = {"w": RNG.standard_normal([16, 8 // group, kernel, kernel]).astype(np.float32)}
    if bias:
        arrays["b"] = RNG.standard_normal(16).astype(np.float32)
    return model_of(head + body + "}", arrays)


@pytest.mark.parametrize(
    ("pool", "y", "group"),
    [
        ("GlobalAveragePool", "2,16,1,1", 1),
        ("GlobalAveragePool", "2,16,1,1", 4),
        ("ReduceMean<axes = [2, 3]>", "2,16,1,1", 1),
        ("ReduceMean<axes = [-1]>", "2,16,16,1", 1),
        ("AveragePool<kernel_shape = [2, 2], strides = [2, 2]>", "2,16,8,8", 1),
        ("AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>", "2,16,8,8", 2),
        ("AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>", "2,16,8,8", 1),
        ("AveragePool<kernel_shape = [3, 3], strides = [3, 3], auto_pad = \"SAME_UPPER\">", "2,16,6,6", 1),
    ],
)
def test_forms(monkeypatch: pytest.MonkeyPatch, pool: str, y: str, group: int) -> None:
    always_gain(monkeypatch)
    conv = f"Conv<group = {group}>"
    after, _, _ = check_pass(commute_average_pool, graph(pool, conv, y=y, group=group), rewrites=1)
    assert ops(after) == [pool.split("<")[0], "Conv"]


def test_without_bias_counted_padding_commutes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    pool = "AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>"
    check_pass(commute_average_pool, graph(pool, y="2,16,8,8", bias=False), rewrites=1)
    _, _, report = check_pass(commute_average_pool, graph(pool, y="2,16,8,8"), rewrites=0)
    assert "the bias would shrink" in report.misses[0].reason


def test_counted_padding_with_a_bias_would_be_wrong() -> None:
    """The near miss above is needed: the two orders do differ there."""
    pool = "AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>"
    from hwc.passes import commute_average_pool as module
    from tests.passes.check import assert_same_outputs, context

    before = graph(pool, y="2,16,8,8")
    work = before.clone()
    with pytest.MonkeyPatch.context() as patch:
        always_gain(patch)
        patch.setattr(module, "_require_same_windows", lambda *_: None)
        assert module.commute_average_pool(work, context()).rewrites == 1
    with pytest.raises(AssertionError):
        assert_same_outputs(before, work)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"conv": "Conv<strides = [2, 2]>", "pool": "GlobalAveragePool"}, "the Conv has a stride"),
        ({"conv": "Conv<pads = [1, 1, 1, 1]>", "pool": "GlobalAveragePool"}, "the Conv pads"),
        ({"pool": "ReduceMean<axes = [1, 2, 3]>", "y": "2,1,1,1"}, "axes [1, 2, 3], not spatial"),
        ({"pool": "ReduceMean<axes = [2, 3], keepdims = 0>", "y": "2,16"}, "drops its axes"),
        ({"pool": "GlobalAveragePool", "between": "o = Relu(c)", "more": ", float[2,16,16,16] o"}, "read by 2 nodes"),
        ({"pool": "GlobalAveragePool", "more": ", float[2,16,16,16] c"}, "c is a graph output"),
    ],
)
def test_near_misses(options: dict, reason: str) -> None:
    _, _, report = check_pass(commute_average_pool, graph(**options), rewrites=0)
    assert reason in report.misses[0].reason


@pytest.mark.parametrize("options", [{"between": "r = Relu(c)"}, {"kernel": 3, "y": "2,16,1,1"}])
def test_an_activation_or_a_larger_kernel_is_not_near(options: dict) -> None:
    _, _, report = check_pass(commute_average_pool, graph("GlobalAveragePool", **options), rewrites=0)
    assert report.misses == ()


def test_a_pool_that_keeps_the_size_gains_nothing_where_the_conv_narrows() -> None:
    pool = "AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"
    head = '<ir_version: 9, opset_import: ["" : 17]> agraph (float[1,64,32,32] x) => (float[1,8,32,32] y) {'
    model = model_of(head + f"c = Conv(x, w) y = {pool}(c) }}", {"w": np.ones([8, 64, 1, 1], np.float32)})
    _, _, report = check_pass(commute_average_pool, model, rewrites=0)
    assert report.misses[0].reason.startswith("estimate ")


@settings(max_examples=25, deadline=None)
@given(
    window=st.integers(1, 4), stride=st.integers(1, 3), pad=st.integers(0, 1), ceil=st.integers(0, 1),
    counts=st.integers(0, 1), size=st.integers(4, 9), bias=st.booleans(), group=st.sampled_from([1, 2, 8]),
)
def test_whatever_is_rewritten_is_equal(window, stride, pad, ceil, counts, size, bias, group) -> None:
    pad = min(pad, window - 1)
    pool = (f"AveragePool<kernel_shape = [{window}, {window}], strides = [{stride}, {stride}], ceil_mode = {ceil}, "
            f"pads = [{pad}, {pad}, {pad}, {pad}], count_include_pad = {counts}>")
    model = graph(pool, f"Conv<group = {group}>", x=f"1,8,{size},{size}", y="1,16,H,W", bias=bias, group=group)
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch, 2.0, 1.0)
        check_pass(commute_average_pool, model, rewrites=int(not (bias and counts and (pad or ceil))))
