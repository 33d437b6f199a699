import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hwc.passes.base import run_pass
from hwc.passes.fold_batchnorm import fold_batchnorm
from tests.passes.build import RNG, assert_same_in_onnxruntime, bn, build, node, norm, weight
from tests.passes.check import assert_same_outputs, check_pass, context, evaluate, ops


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("shape", "kernel"), [((2, 4, 9), (3,)), ((1, 4, 6, 5), (3, 1)), ((1, 4, 4, 5, 3), (1, 3, 2))])
def test_behind_conv(shape, kernel, bias) -> None:
    arrays = {"w": weight(6, 2, *kernel), **norm(6)} | ({"b": weight(6)} if bias else {})
    model = build([node("Conv", ["x", "w"] + ["b"] * bias, ["c"], group=2), bn("c", "y")], {"x": shape}, ["y"], arrays)
    after, _, _ = check_pass(fold_batchnorm, model, rewrites=1)
    assert ops(after) == ["Conv"]
    assert after.graph.node(0).metadata_props["hwc.origin"].endswith("|y")


def test_behind_grouped_conv_transpose() -> None:
    arrays = {"w": weight(4, 3, 2, 2), **norm(6)}
    nodes = [node("ConvTranspose", ["x", "w"], ["c"], group=2, strides=[2, 2]), bn("c", "y")]
    model = build(nodes, {"x": (1, 4, 3, 3)}, ["y"], arrays)
    after, _, _ = run_pass(model, fold_batchnorm, context())
    assert ops(after) == ["ConvTranspose"]
    assert_same_in_onnxruntime(model, after)


@pytest.mark.parametrize("c", [None, (5,), (1, 5), (3, 1), (3, 5), ()])
@pytest.mark.parametrize("transposed", [0, 1])
def test_behind_gemm(c, transposed) -> None:
    arrays = {"w": weight(*((5, 4) if transposed else (4, 5))), **norm(5)} | ({} if c is None else {"c": weight(*c)})
    inputs = ["x", "w"] + ["c"] * (c is not None)
    nodes = [node("Gemm", inputs, ["g"], transB=transposed, alpha=0.5, beta=2.0), bn("g", "y")]
    after, _, _ = check_pass(fold_batchnorm, build(nodes, {"x": (3, 4)}, ["y"], arrays), rewrites=1)
    assert ops(after) == ["Gemm"]


def test_behind_matmul_leaves_its_bias() -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), bn("m", "y")]
    model = build(nodes, {"x": (3, 4)}, ["y"], {"w": weight(4, 5), **norm(5)})
    after, _, _ = check_pass(fold_batchnorm, model, rewrites=1)
    assert ops(after) == ["MatMul", "Add"]


def test_behind_through_max_pool_and_dynamic_batch() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], pads=[1, 1, 0, 0]),
        bn("p", "y"),
    ]
    arrays = {"w": weight(3, 2, 1, 1), **norm(3, positive=True)}
    after, _, _ = check_pass(fold_batchnorm, build(nodes, {"x": ("n", 2, 4, 4)}, ["y"], arrays), rewrites=1)
    assert ops(after) == ["Conv", "MaxPool"]
    # The tensor between them now holds other numbers, so its name must be another too.
    assert after.graph.node(0).outputs[0].name != "c"


def test_ahead_without_padding_is_a_bias() -> None:
    nodes = [node("Relu", ["x"], ["r"]), bn("r", "b"), node("Conv", ["b", "w"], ["y"], group=2, strides=[2])]
    model = build(nodes, {"x": (1, 4, 9)}, ["y"], {"w": weight(6, 2, 3), **norm(4)})
    after, _, _ = check_pass(fold_batchnorm, model, rewrites=1)
    assert ops(after) == ["Relu", "Conv"]


def test_ahead_with_padding_is_a_border_map() -> None:
    nodes = [
        node("Relu", ["x"], ["r"]), bn("r", "b"),
        node("MaxPool", ["b"], ["p"], kernel_shape=[2, 1], strides=[2, 1], pads=[1, 0, 0, 0]),
        node("Conv", ["p", "w", "wb"], ["y"], pads=[2, 1, 0, 1], dilations=[1, 2]),
    ]
    arrays = {"w": weight(3, 4, 3, 2), "wb": weight(3), **norm(4, positive=True)}
    after, _, _ = check_pass(fold_batchnorm, build(nodes, {"x": ("n", 4, 9, 6)}, ["y"], arrays), rewrites=1)
    assert ops(after) == ["Relu", "MaxPool", "Conv", "Add"]


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_ahead_with_auto_pad(mode) -> None:
    nodes = [bn("x", "b"), node("Conv", ["b", "w"], ["y"], auto_pad=mode, strides=[2], kernel_shape=[4])]
    check_pass(fold_batchnorm, build(nodes, {"x": (1, 4, 9)}, ["y"], {"w": weight(3, 4, 4), **norm(4)}), rewrites=1)


def test_ahead_through_transpose_and_reshape_into_gemm() -> None:
    nodes = [
        node("Relu", ["x"], ["r"]), bn("r", "b"), node("Transpose", ["b"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "s"], ["f"]), node("Gemm", ["f", "w", "wb"], ["y"], alpha=0.5, beta=3.0, transB=1),
    ]
    arrays = {"w": weight(5, 24), "wb": weight(5), "s": np.array([0, -1]), **norm(4)}
    after, _, _ = check_pass(fold_batchnorm, build(nodes, {"x": (2, 4, 3, 2)}, ["y"], arrays), rewrites=1)
    assert ops(after) == ["Relu", "Transpose", "Reshape", "Gemm"]


def test_shared_weight_is_copied_not_edited() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), bn("c", "y"), node("Conv", ["x", "w"], ["z"])]
    model = build(nodes, {"x": (1, 2, 4)}, ["y", "z"], {"w": weight(3, 2, 1), **norm(3)})
    after, _, _ = check_pass(fold_batchnorm, model, rewrites=1)
    assert len({n.inputs[1].name for n in after.graph if n.op_type == "Conv"}) == 2


def test_densenet_keeps_the_norm_between_concat_and_relu() -> None:
    nodes = [
        node("Concat", ["x", "x"], ["cat"], axis=1), bn("cat", "b"), node("Relu", ["b"], ["r"]),
        node("Conv", ["r", "w"], ["c"]), bn("c", "d", "mid"), node("Relu", ["d"], ["y"]),
    ]
    arrays = {"w": weight(3, 4, 1, 1), **norm(4), **norm(3, prefix="mid")}
    after, _, report = check_pass(fold_batchnorm, build(nodes, {"x": (1, 2, 4, 4)}, ["y"], arrays), rewrites=1)
    assert ops(after) == ["Concat", "BatchNormalization", "Relu", "Conv", "Relu"]
    assert "follows Concat" in report.misses[0].reason and "before Relu" in report.misses[0].reason


@pytest.mark.parametrize(
    ("reason", "nodes", "outputs", "change"),
    [
        ("graph output", [node("Conv", ["x", "w"], ["c"]), bn("c", "y")], ["y", "c"], {}),
        ("read by 2", [node("Conv", ["x", "w"], ["c"]), bn("c", "y"), node("Relu", ["c"], ["z"])], ["y", "z"], {}),
        ("not a constant", [node("Relu", ["w"], ["v"]), node("Conv", ["x", "v"], ["c"]), bn("c", "y")], ["y"], {}),
        ("not positive", [node("Conv", ["x", "w"], ["c"]), bn("c", "y")], ["y"], {"bn3": [1, -1, 1, 1]}),
        ("overflows", [node("Conv", ["x", "w"], ["c"]), bn("c", "y")], ["y"], {"bn0": [1e38, 1, 1, 1], "w": 1e3}),
        ("negative scale", [bn("x", "b"), node("MaxPool", ["b"], ["p"], kernel_shape=[2, 2]),
                            node("Conv", ["p", "w"], ["y"])], ["y"], {"bn0": [1, -1, 1, 1]}),
        ("counts padded", [bn("x", "b"), node("AveragePool", ["b"], ["p"], kernel_shape=[2, 2], pads=[1, 1, 0, 0],
                                              count_include_pad=1), node("Conv", ["p", "w"], ["y"])], ["y"], {}),
        ("border", [bn("x", "b"), node("ConvTranspose", ["b", "w"], ["y"])], ["y"], {}),
        ("1 MiB", [bn("x", "b"), node("Conv", ["b", "w"], ["y"], pads=[256] * 4)], ["y"], {}),
    ],
)
def test_near_misses(reason, nodes, outputs, change) -> None:
    arrays: dict[str, np.ndarray] = {"w": weight(4, 4, 1, 1), **norm(4, positive=True)}
    for name, value in change.items():
        arrays[name] = arrays[name] * np.asarray(value, np.float32) if name == "w" else np.asarray(value, np.float32)
    model = build(nodes, {"x": (1, 4, 5, 5)}, outputs, arrays)
    _, step, report = run_pass(model, fold_batchnorm, context())
    assert step.rewrites == 0 and reason in report.misses[0].reason, report.misses


def test_an_image_of_unknown_size_keeps_the_norm_before_padding() -> None:
    nodes = [bn("x", "b"), node("Conv", ["b", "w"], ["y"], pads=[1, 1])]
    model = build(nodes, {"x": (1, 4, "h")}, ["y"], {"w": weight(3, 4, 2), **norm(4)})
    _, _, report = check_pass(fold_batchnorm, model, rewrites=0)
    assert "is not static" in report.misses[0].reason


def test_nothing_to_do_is_no_change() -> None:
    check_pass(fold_batchnorm, build([node("Relu", ["x"], ["y"])], {"x": (2, 3)}, ["y"], {}), rewrites=0)


def test_a_wrong_fold_would_be_seen() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), bn("c", "y")]
    model = build(nodes, {"x": (1, 2, 4)}, ["y"], {"w": weight(3, 2, 1), **norm(3)})
    after, _, _ = check_pass(fold_batchnorm, model, rewrites=1)
    held = after.graph.node(0).inputs[2]
    held.const_value = ir.tensor(held.const_value.numpy() + 1e-3, name=held.name)
    with pytest.raises(AssertionError):
        assert_same_outputs(model, after)


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.data())
def test_any_convolution(data) -> None:
    draw = data.draw
    rank, group = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3]))
    ints = lambda low, high, n=rank: draw(st.lists(st.integers(low, high), min_size=n, max_size=n))  # noqa: E731
    kernel, pads, dilations, strides = ints(1, 3), ints(0, 2, 2 * rank), ints(1, 2), ints(1, 2)
    shape = (draw(st.integers(1, 2)), 2 * group, *(s + 5 for s in ints(0, 3)))
    attrs = {"pads": pads, "dilations": dilations, "strides": strides, "group": group}
    w, seed = weight(3 * group, 2, *kernel), draw(st.integers(0, 99))
    if draw(st.booleans()):
        nodes, channels = [node("Conv", ["x", "w"], ["c"], **attrs), bn("c", "y")], 3 * group
    else:
        nodes, channels = [bn("x", "c"), node("Conv", ["c", "w"], ["y"], **attrs)], 2 * group
    model = build(nodes, {"x": shape}, ["y"], {"w": w, **norm(channels, seed)})
    after, _, _ = run_pass(model, fold_batchnorm, context())
    assert "BatchNormalization" not in ops(after)
    feeds = {"x": RNG(seed).normal(size=shape).astype(np.float32)}
    for old, new in zip(evaluate(model, feeds), evaluate(after, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-4)
