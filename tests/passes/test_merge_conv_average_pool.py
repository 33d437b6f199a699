import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.passes.merge_conv_average_pool import average_shifted, merge_conv_average_pool
from tests.passes.check import check_pass, model_of, ops
from tests.passes.gain import always_gain, pretend

RNG = np.random.default_rng(5)
POOL = "kernel_shape = [2, 2], strides = [2, 2]"


def graph(pool: str = POOL, conv: str = "pads = [1, 1, 1, 1]", *, kernel: int = 3, size: int = 16, bias: bool = True,
          group: int = 1, between: str = "", more: str = "", computed: bool = False):
    head = f'<ir_version: 9, opset_import: ["" : 19]> agraph (float[1,8,{size},{size}] x'
    head += f", float[16,8,{kernel},{kernel}] w" if computed else ""
    read = "r" if "r =" in between else "c"
    body = f") => (float[1,16,H,W] y{more}) {{ c = Conv<{conv}>(x, w{', b' if bias else ''}) {between}"
    arrays = {} if computed else {"w": RNG.standard_normal([16, 8 // group, kernel, kernel]).astype(np.float32)}
    if bias:
        arrays["b"] = RNG.standard_normal(16).astype(np.float32)
    return model_of(f"{head}{body} y = AveragePool<{pool}>({read}) }}", arrays)


def test_3x3_before_2x2_is_4x4_of_stride_2(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    after, _, _ = check_pass(merge_conv_average_pool, graph(), rewrites=1)
    (conv,) = after.graph
    assert tuple(conv.attributes["kernel_shape"].as_ints()) == (4, 4)
    assert tuple(conv.attributes["strides"].as_ints()) == (2, 2)


def test_kernel_by_hand() -> None:
    kernel = average_shifted(np.array([[[1.0, 2.0]]], np.float32), [2], [3], [1])
    np.testing.assert_allclose(kernel, [[[0.5, 1.0, 0.0, 0.5, 1.0]]])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pool": POOL + ", pads = [0, 0, 1, 1]"}, "the pool pads"),
        ({"pool": POOL + ', auto_pad = "SAME_UPPER"'}, "the pool pads by auto_pad"),
        ({"conv": 'auto_pad = "SAME_UPPER"'}, "the Conv pads by auto_pad"),
        ({"pool": POOL + ", ceil_mode = 1", "size": 15}, "hangs over the edge"),
        ({"pool": POOL + ", dilations = [2, 2]"}, "dilated"),
        ({"computed": True}, "the weight of the Conv is not a constant"),
        ({"between": "o = Relu(c)", "more": ", float[1,16,16,16] o"}, "read by 2 nodes"),
        ({"more": ", float[1,16,16,16] c"}, "c is a graph output"),
    ],
)
def test_near_misses(options: dict, reason: str) -> None:
    _, _, report = check_pass(merge_conv_average_pool, graph(**options), rewrites=0)
    assert reason in report.misses[0].reason


def test_an_activation_between_is_not_near() -> None:
    _, _, report = check_pass(merge_conv_average_pool, graph(between="r = Relu(c)"), rewrites=0)
    assert report.misses == ()


def test_no_gain_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 1.0, 2.0)
    after, _, report = check_pass(merge_conv_average_pool, graph(), rewrites=0)
    assert set(after.graph.initializers) == {"w", "b"} and report.misses[0].reason.startswith("estimate 1 us -> 2 us")


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.integers(1, 3), stride=st.integers(1, 2), dilation=st.integers(1, 2), pad=st.integers(0, 2),
    window=st.integers(1, 3), step=st.integers(1, 3), size=st.integers(9, 14), group=st.sampled_from([1, 4]),
    bias=st.booleans(),
)
def test_any_geometry(kernel, stride, dilation, pad, window, step, size, group, bias) -> None:
    conv = (f"strides = [{stride}, {stride}], dilations = [{dilation}, {dilation}], pads = [{pad}, 0, {pad}, {pad}], "
            f"group = {group}")
    pool = f"kernel_shape = [{window}, {window}], strides = [{step}, {step}]"
    with pytest.MonkeyPatch.context() as patch:
        always_gain(patch)
        model = graph(pool, conv, kernel=kernel, size=size, bias=bias, group=group)
        after, _, _ = check_pass(merge_conv_average_pool, model, rewrites=1)
    assert ops(after) == ["Conv"]
