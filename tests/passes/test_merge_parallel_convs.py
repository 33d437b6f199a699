from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.passes.merge_parallel_convs import merge_parallel_convs
from tests.passes.check import check_pass, context, model_of, ops
from tests.passes.gain import always_gain, pretend

RNG = np.random.default_rng(7)
RTX = context("rtx-4090")
# A target of TensorRT, where a Split is left to the estimate.
check = partial(check_pass, merge_parallel_convs, ctx=context("t4"))


def weight(channels: int, kernel: int = 1, inputs: int = 4) -> np.ndarray:
    return RNG.standard_normal([channels, inputs, kernel, kernel]).astype(np.float32)


def graph(body: str, result: str, opset: int = 18, **arrays: np.ndarray):
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[2,4,6,6] x) => ({result}) {{'
    return model_of(head + body + "}", {k: np.asarray(v, np.float32) for k, v in arrays.items()})


TWO = "float[2,3,6,6] p, float[2,5,6,6] q"


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_relu_goes_along(monkeypatch: pytest.MonkeyPatch, opset: int) -> None:
    always_gain(monkeypatch)
    body = "a = Conv(x, v, b) p = Relu(a) c = Conv(x, w) q = Relu(c)"
    model = graph(body, TWO, opset, v=weight(3), w=weight(5), b=np.ones(3))
    after, _, _ = check(model, rewrites=1)
    assert ops(after) == ["Conv", "Relu", "Split"]
    assert set(after.graph[0].metadata_props["hwc.origin"].split("|")) >= {"Conv_0", "Conv_2"}


def test_results_read_between_the_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = "p = Conv(x, v) n = Neg(p) m = Exp(n) q = Conv(x, w)"
    model = graph(body, "float[2,3,6,6] m, float[2,5,6,6] q", v=weight(3), w=weight(5))
    after, _, _ = check(model, rewrites=1)
    assert ops(after) == ["Conv", "Split", "Neg", "Exp"]


def test_a_concat_of_exactly_these_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = "a = Conv(x, v) p = Relu(a) c = Conv(x, w) q = Relu(c) y = Concat<axis = 1>(q, p)"
    after, _, _ = check(
        graph(body, "float[2,8,6,6] y", v=weight(3), w=weight(5)), rewrites=1
    )
    assert ops(after) == ["Conv", "Relu"]


def test_neighbours_in_a_larger_concat(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = "p = Conv(x, v) m = MaxPool<kernel_shape = [1, 1]>(x) q = Conv(x, w) y = Concat<axis = -3>(m, p, q, x)"
    after, _, _ = check(
        graph(body, "float[2,16,6,6] y", v=weight(3), w=weight(5)), rewrites=1
    )
    assert ops(after) == ["Conv", "MaxPool", "Concat"] and len(after.graph[-1].inputs) == 3


def test_tensorrt_rtx_would_copy_the_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = "p = Conv(x, v) q = Conv(x, w)"
    _, _, report = check(graph(body, TWO, v=weight(3), w=weight(5)), rewrites=0, ctx=RTX)
    assert report.misses[0].reason == "tensorrt_rtx would copy each of 2 slices in a kernel"


def test_tensorrt_rtx_merges_neighbours_of_one_concat(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = "p = Conv(x, v) q = Conv(x, w) y = Concat<axis = 1>(x, p, q)"
    model = graph(body, "float[2,12,6,6] y", v=weight(3), w=weight(5))
    after, _, _ = check(model, rewrites=1, ctx=RTX)
    assert ops(after) == ["Conv", "Concat"]


@pytest.mark.parametrize("concat", ["(p, x, q)", "(p, q, p)"])
def test_other_concats_need_a_split(monkeypatch: pytest.MonkeyPatch, concat: str) -> None:
    always_gain(monkeypatch)
    body = f"p = Conv(x, v) q = Conv(x, w) y = Concat<axis = 1>{concat}"
    model = graph(body, "float[2,C,6,6] y", v=weight(3), w=weight(5))
    after, _, _ = check(model, rewrites=1)
    assert ops(after) == ["Conv", "Split", "Concat"]


def test_only_equals_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = """
        a = Conv(x, v) p = Relu(a)  c = Conv(x, w) q = Sigmoid(c)
        d = Conv<pads = [1, 1, 1, 1]>(x, z) r = Relu(d)  e = Conv(x, u) s = Relu(e)"""
    result = TWO + ", float[2,2,6,6] r, float[2,6,6,6] s"
    model = graph(body, result, v=weight(3), w=weight(5), z=weight(2, 3), u=weight(6))
    after, _, _ = check(model, rewrites=1)
    assert sorted(ops(after)) == ["Conv", "Conv", "Conv", "Relu", "Relu", "Sigmoid", "Split"]


def test_clips_with_other_bounds_are_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = """l = Constant<value_float = 0.0>() h = Constant<value_float = 6.0>() k = Constant<value_float = 1.0>()
        a = Conv(x, v) p = Clip(a, l, h) c = Conv(x, w) q = Clip(c, l, k)"""
    check(graph(body, TWO, v=weight(3), w=weight(5)), rewrites=0)


def test_a_conv_that_is_a_graph_output_keeps_its_activation_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    body = "a = Conv(x, v) p = Relu(a) c = Conv(x, w) q = Relu(c)"
    model = graph(body, "float[2,3,6,6] a, " + TWO, v=weight(3), w=weight(5))
    check(model, rewrites=0)


def test_groups_and_no_gain_are_near_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 1.0, 2.0)
    _, _, report = check(
        graph("p = Conv(x, v) q = Conv(x, w)", TWO, v=weight(3), w=weight(5)), rewrites=0
    )
    assert [miss.reason for miss in report.misses] == ["estimate 1 us -> 2 us on t4"]
    body = "p = Conv<group = 4>(x, v) q = Conv<group = 4>(x, w)"
    model = graph(body, "float[2,4,6,6] p, float[2,8,6,6] q", v=weight(4, 3, 1)[..., :1, :1], w=weight(8, 1, 1))
    _, _, report = check(model, rewrites=0)
    assert report.misses[0].reason == "the Convs have 4 groups"


def test_the_real_estimate_merges_inceptions_reductions() -> None:
    head = '<ir_version: 8, opset_import: ["" : 18]> agraph (float[1,192,28,28] x) => (%s) {'
    result = "float[1,96,28,28] p, float[1,16,28,28] q, float[1,64,28,28] r"
    body = "p = Conv(x, u) q = Conv(x, v) r = Conv(x, w) }"
    arrays = {name: weight(n, 1, 192) for name, n in (("u", 96), ("v", 16), ("w", 64))}
    check(model_of(head % result + body, arrays), rewrites=1, atol=1e-4)


def test_one_conv_is_no_change() -> None:
    model = graph("p = Conv(x, v)", "float[2,3,6,6] p", v=weight(3))
    _, _, report = check(model, rewrites=0)
    assert report.misses == ()


@settings(max_examples=25, deadline=None)
@given(
    channels=st.lists(st.integers(1, 4), min_size=2, max_size=4), biases=st.integers(0, 15), kernel=st.integers(1, 3),
    stride=st.integers(1, 2), activation=st.sampled_from(["", "Relu", "LeakyRelu<alpha = 0.3>", "HardSwish"]),
    order=st.randoms(use_true_random=False), join=st.booleans(), extra=st.booleans(),
)
def test_any_branches(channels, biases, kernel, stride, activation, order, join, extra) -> None:
    body, arrays, results = "", {}, []
    for i, n in enumerate(channels):
        arrays[f"w{i}"] = weight(n, kernel)
        bias = f", b{i}" if biases >> i & 1 else ""
        if bias:
            arrays[f"b{i}"] = np.arange(n)
        body += f"c{i} = Conv<strides = [{stride}, {stride}]>(x, w{i}{bias}) "
        body += f"r{i} = {activation}(c{i}) " if activation else ""
        results.append(f"r{i}" if activation else f"c{i}")
    order.shuffle(results)
    if join:
        body += f"y = Concat<axis = 1>({', '.join(results)}) " + (f"z = Exp({results[0]})" if extra else "")
        outputs = "float[A,B,C,D] y" + (", float[E,F,G,H] z" if extra else "")
    else:
        outputs = ", ".join(f"float[A{i},B{i},C{i},D{i}] {name}" for i, name in enumerate(results))
    with pytest.MonkeyPatch.context() as patch:
        always_gain(patch)
        after, _, _ = check(graph(body, outputs, **arrays), rewrites=1)
    assert ops(after).count("Conv") == 1 and ("Split" in ops(after)) == (not join or extra)
