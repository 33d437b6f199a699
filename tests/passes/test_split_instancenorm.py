import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc import targets
from hwc.engines import base
from hwc.graph.match import NoMatch
from hwc.passes.base import run_pass
from hwc.passes.split_instancenorm import choose_chunks, split_instancenorm
from tests.engines.contract import request
from tests.passes.build import RNG, build, node, run_onnxruntime, weight
from tests.passes.check import assert_same_outputs, check_pass, context, ops

RTX = context("rtx-3090")


def net(shape, *, opset=18, plain=False, epsilon=1e-5, seed=0) -> ir.Model:
    rng = RNG(seed)
    channels = shape[1]
    arrays = {
        "s": np.ones(channels, np.float32) if plain else rng.normal(size=channels).astype(np.float32),
        "b": np.zeros(channels, np.float32) if plain else rng.normal(size=channels).astype(np.float32),
    }
    nodes = [node("InstanceNormalization", ["x", "s", "b"], ["i"], epsilon=epsilon), node("Relu", ["i"], ["y"])]
    return build(nodes, {"x": shape}, ["y"], arrays, opset=opset)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("shape", "form"),
    [
        ((1, 3, 7), "LayerNormalization"),
        ((2, 3, 8), "ReduceMean"),
        ((2, 4, 5, 7), "LayerNormalization"),
        ((1, 5, 9, 3), "ReduceMean"),
        ((2, 3, 3, 5, 7), "LayerNormalization"),
        ((1, 3, 3, 3, 3), "ReduceMean"),
        ((1, 24, 9, 10, 11), "ReduceMean"),
        ((1, 20, 101, 11, 1), "ReduceMean"),
    ],
)
def test_both_forms_in_one_to_three_axes(shape, form, plain) -> None:
    after, _, _ = check_pass(split_instancenorm, net(shape, plain=plain), rewrites=1, ctx=RTX)
    assert form in ops(after) and "InstanceNormalization" not in ops(after)
    assert (ops(after)[-2:] == ["Reshape", "Relu"]) == plain
    assert all(n.metadata_props["hwc.origin"] for n in after.graph if n.op_type != "Relu")


@pytest.mark.parametrize("opset", [13, 17])
def test_older_opsets_give_the_axes_as_attributes(opset) -> None:
    check_pass(split_instancenorm, net((1, 3, 3, 3, 3), opset=opset), rewrites=1, ctx=RTX)


@pytest.mark.parametrize("shape", [(1, 4, 5, 7), (1, 4, 8), (1, 20, 9, 10, 11)])
def test_a_large_epsilon_is_the_nodes_own(shape) -> None:
    check_pass(split_instancenorm, net(shape, epsilon=0.3), rewrites=1, ctx=RTX)


@pytest.mark.parametrize("shape", [(1, 4, 16, 16, 16), (1, 8, 4, 4, 4), (1, 20, 12, 24, 24)])
def test_it_is_nearer_to_float64_than_the_original(shape) -> None:
    model = net(shape, plain=True)
    after, _, _ = run_pass(model, split_instancenorm, RTX)
    x = (RNG(1).normal(size=shape) + 100).astype(np.float32)
    wide = x.astype(np.float64).reshape(*shape[:2], -1)
    exact = (wide - wide.mean(2, keepdims=True)) / np.sqrt(wide.var(2, keepdims=True) + 1e-5)
    exact = np.maximum(exact, 0).reshape(shape)
    old, new = (np.abs(run_onnxruntime(m, {"x": x})[0] - exact).max() for m in (model, after))
    assert new <= old * 1.01 and new < 1e-4


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2), st.integers(1, 20), st.lists(st.integers(1, 12), min_size=1, max_size=3), st.integers(0, 99))
def test_any_shape_is_equal_or_left(batch, channels, spatial, seed) -> None:
    model = net((batch, channels, *spatial), seed=seed)
    after, step, report = run_pass(model, split_instancenorm, RTX)
    assert step.rewrites + len(report.misses) == 1
    # A row of few equal numbers divides rounding errors by the root of epsilon, so the bound is for N(0, 1) rows.
    assert_same_outputs(model, after, atol=1e-4, seed=seed)


@given(st.integers(1, 600), st.integers(1, 300_000), st.integers(1, 3))
def test_chunks_divide_the_row(rows, size, axes) -> None:
    try:
        count = choose_chunks(rows, size, axes, 2**31)
    except NoMatch as miss:
        assert miss.near and miss.reason
        return
    assert size % count == 0 and 1 <= count <= 16 and size // count > 1


@pytest.mark.parametrize(
    ("shape", "change", "reason"),
    [
        ((1, 4, "d", 8, 8), {}, "its input"),
        ((1, 4, 8, 8), {"target": "cpu"}, "openvino has a kernel of its own"),
        ((1, 4, 8, 8), {"target": "agx-orin-64gb"}, "tensorrt has a kernel of its own"),
        ((1, 4, 8, 8), {"precision": "fp16"}, "fp16 is asked for"),
        ((1, 64, 64, 64), {}, "no fewer kernels"),
        ((1, 64, 8192), {}, "no fewer kernels"),
        ((1, 4, 1, 1), {}, "one element"),
        ((1, 64, 101, 103, 1), {}, "no divisor of 10403"),
        ((1, 4, 5, 7), {"opset": 13}, "needs opset 17"),
    ],
)
def test_near_misses(shape, change, reason) -> None:
    options = {key: change[key] for key in ("precision",) if key in change}
    ctx = context(change.get("target", "rtx-3090"), **options)
    _, _, report = check_pass(split_instancenorm, net(shape, opset=change.get("opset", 18)), rewrites=0, ctx=ctx)
    assert reason in report.misses[0].reason


def test_a_computed_scale_is_a_near_miss() -> None:
    nodes = [node("InstanceNormalization", ["x", "s", "b"], ["y"])]
    model = build(nodes, {"x": (1, 3, 7), "s": (3,)}, ["y"], {"b": weight(3)})
    _, _, report = check_pass(split_instancenorm, model, rewrites=0, ctx=RTX)
    assert "the scale is not a constant" in report.misses[0].reason


def test_two_norms_may_share_scale_and_bias() -> None:
    nodes = [node("InstanceNormalization", [source, "s", "b"], [out]) for source, out in (("x", "i"), ("i", "y"))]
    model = build(nodes, {"x": (1, 3, 7)}, ["y"], {"s": weight(3), "b": weight(3, seed=2)})
    check_pass(split_instancenorm, model, rewrites=2, ctx=RTX)


def test_nothing_to_do_is_no_change() -> None:
    _, _, report = check_pass(
        split_instancenorm, build([node("Relu", ["x"], ["y"])], {"x": (2, 3)}, ["y"], {}), rewrites=0, ctx=RTX
    )
    assert report.misses == ()


def test_a_wrong_epsilon_would_be_seen() -> None:
    model = net((1, 4, 5, 7))
    after, _, _ = run_pass(model, split_instancenorm, RTX)
    layer = next(n for n in after.graph if n.op_type == "LayerNormalization")
    layer.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-2)
    with pytest.raises(AssertionError):
        assert_same_outputs(model, after)


@pytest.mark.parametrize(("side", "before", "now"), [(2, 7, 5), (8, 7, 5), (32, 9, 6)])
def test_engines_have_fewer_kernels(side, before, now, tmp_path) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="the extra 'rtx' is not installed")
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 6), node("InstanceNormalization", ["c", "s", "b"], ["i"]),
        node("Relu", ["i"], ["r"]), node("Conv", ["r", "w"], ["y"], pads=[1] * 6),
    ]
    arrays = {"w": weight(16, 16, 3, 3, 3), "s": np.ones(16, np.float32), "b": np.zeros(16, np.float32)}
    model = build(nodes, {"x": (1, 16, side, side, side)}, ["y"], arrays)
    after, _, _ = run_pass(model, split_instancenorm, RTX)
    counts = []
    for name, one in (("before", model), ("after", after)):
        proto: onnx.ModelProto = ir.to_proto(one)
        asked = request(proto, tmp_path / name, target=targets.load("rtx-3090"))
        counts.append(len(base.build("tensorrt_rtx", asked).kernels))
    assert counts[1] < counts[0]
    if rtx.__version__ == "1.7.1.116":
        assert counts == [before, now]
