import math

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc import targets
from hwc.engines import base
from hwc.passes.base import run_pass
from hwc.passes.permute_flatten_gemm import permute_flatten_gemm
from tests.engines.contract import request
from tests.passes.build import build, node, weight
from tests.passes.check import assert_same_outputs, check_pass, context, ops

RTX = context("rtx-3090")


def net(
    shape, *, head="Gemm", flatten="Flatten", transposed=0, width=6, extra=(), outputs=("y",), before=()
) -> ir.Model:
    """x -> Conv with kernel 1 -> Relu -> [before] -> flatten -> head, for any number of spatial axes."""
    channels, count = shape[1], math.prod(shape[1:])
    arrays = {
        "w": weight(channels, channels, *[1] * (len(shape) - 2)),
        "v": weight(*((width, count) if transposed else (count, width))),
        "vb": weight(width, seed=3),
        "s": np.array([shape[0] if isinstance(shape[0], int) else -1, count]),
    }
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["r" if before else "h"]), *before]
    nodes.append(node(flatten, ["h", "s"] if flatten == "Reshape" else ["h"], ["f"]))
    if head == "Gemm":
        nodes.append(node("Gemm", ["f", "v", "vb"], ["y"], transB=transposed, alpha=0.5))
    else:
        nodes.append(node("MatMul", ["f", "v"], ["y"]))
    return build([*nodes, *extra], {"x": shape}, list(outputs), {k: a for k, a in arrays.items() if used(k, nodes)})


def used(name, nodes) -> bool:
    return any(name in n.input for n in nodes)


@pytest.mark.parametrize(("head", "transposed"), [("Gemm", 0), ("Gemm", 1), ("MatMul", 0)])
@pytest.mark.parametrize("flatten", ["Flatten", "Reshape"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 4, 3, 5), (3, 2, 4, 3, 5), ("n", 3, 4, 2)])
def test_weights_follow_the_order(shape, flatten, head, transposed) -> None:
    model = net(shape, flatten=flatten, head=head, transposed=transposed)
    after, _, _ = check_pass(permute_flatten_gemm, model, rewrites=1, ctx=RTX)
    assert ops(after) == ["Conv", "Relu", "Transpose", "Reshape", head]


def test_one_row_gains_with_large_weights_only() -> None:
    check_pass(permute_flatten_gemm, net((1, 16, 8, 16), width=65), rewrites=1, ctx=RTX)
    _, _, report = check_pass(permute_flatten_gemm, net((1, 16, 8, 16), width=64), rewrites=0, ctx=RTX)
    assert "gains nothing" in report.misses[0].reason


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 3), st.integers(2, 9), st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 1))
def test_any_shape(batch, channels, spatial, transposed) -> None:
    model = net((batch, channels, *spatial), transposed=transposed)
    rewrites = int(math.prod(spatial) > 1)
    check_pass(permute_flatten_gemm, model, rewrites=rewrites, ctx=RTX)


@pytest.mark.parametrize("before", [
    [node("MaxPool", ["r"], ["h"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
    [node("Sigmoid", ["r"], ["g"]), node("Mul", ["r", "g"], ["h"])],
    [node("Conv", ["r", "w"], ["d"]), node("Add", ["r", "d"], ["h"])],
])  # fmt: skip
def test_behind_pools_and_elementwise_operators(before) -> None:
    check_pass(permute_flatten_gemm, net((2, 4, 3, 5), before=before), rewrites=1, ctx=RTX)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"extra": [node("Relu", ["f"], ["z"])], "outputs": ("y", "z")}, "f is read by 2"),
        ({"outputs": ("y", "f")}, "f is a graph output"),
        ({"extra": [node("Neg", ["v"], ["z"])], "outputs": ("y", "z")}, "v is read by 2"),
        ({"before": [node("Softmax", ["r"], ["h"], axis=1)]}, "does not come from a convolution"),
        ({"before": [node("Concat", ["r"], ["h"], axis=1)]}, "does not come from a convolution"),
        ({"shape": (2, 4, "d", 5), "flatten": "Reshape"}, "not static"),
    ],
)
def test_near_misses(change, reason) -> None:
    shape = change.get("shape", (2, 4, 3, 5))
    if "shape" in change:
        arrays = {"s": np.array([2, 60]), "v": weight(60, 6), "w": weight(4, 4, 1, 1)}
        nodes = [node("Conv", ["x", "w"], ["h"]), node("Reshape", ["h", "s"], ["f"]), node("MatMul", ["f", "v"], ["y"])]
        _, step, report = run_pass(build(nodes, {"x": shape}, ["y"], arrays), permute_flatten_gemm, RTX)
    else:
        _, step, report = check_pass(permute_flatten_gemm, net(shape, **change), rewrites=0, ctx=RTX)
    assert step.rewrites == 0 and reason in report.misses[0].reason


@pytest.mark.parametrize("target", ["cpu", "agx-orin-64gb"])
def test_other_runtimes_choose_their_own_layout(target) -> None:
    _, _, report = check_pass(permute_flatten_gemm, net((2, 4, 3, 5)), rewrites=0, ctx=context(target))
    assert "not known to keep activations channel-last" in report.misses[0].reason


@pytest.mark.parametrize("shape", [(2, 1, 3, 5), (2, 4, 1, 1)])
def test_equal_orders_are_no_change(shape) -> None:
    _, _, report = check_pass(permute_flatten_gemm, net(shape), rewrites=0, ctx=RTX)
    assert report.misses == ()


def test_a_computed_weight_is_a_near_miss() -> None:
    nodes = [node("Conv", ["x", "w"], ["h"]), node("Flatten", ["h"], ["f"]), node("MatMul", ["f", "v"], ["y"])]
    model = build(nodes, {"x": (2, 4, 3), "v": (12, 5)}, ["y"], {"w": weight(4, 4, 1)})
    _, _, report = check_pass(permute_flatten_gemm, model, rewrites=0, ctx=RTX)
    assert "the weight is not a constant" in report.misses[0].reason


def test_unpermuted_weights_would_be_seen() -> None:
    model = net((2, 4, 3, 5))
    after, _, _ = run_pass(model, permute_flatten_gemm, RTX)
    gemm = next(n for n in after.graph if n.op_type == "Gemm")
    held = gemm.inputs[1]
    held.const_value = ir.tensor(weight(60, 6), name=held.name)
    with pytest.raises(AssertionError):
        assert_same_outputs(model, after)


def test_engines_have_one_kernel_less(tmp_path) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="the extra 'rtx' is not installed")
    model = net((1, 64, 14, 14), width=256)
    after, _, _ = run_pass(model, permute_flatten_gemm, RTX)
    counts = []
    for name, one in (("before", model), ("after", after)):
        proto: onnx.ModelProto = ir.to_proto(one)
        asked = request(proto, tmp_path / name, target=targets.load("rtx-3090"))
        counts.append(len(base.build("tensorrt_rtx", asked).kernels))
    assert counts[1] < counts[0]
    if rtx.__version__ == "1.7.1.116":
        assert counts == [4, 3]
