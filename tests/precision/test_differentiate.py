"""The torch interpreter against ONNX Runtime, operator by operator and on whole graphs; gradients; what it refuses."""

import numpy as np
import pytest
import torch

from hwc.errors import TargetError
from hwc.graph.evaluate import Evaluator
from hwc.precision.differentiate import TorchGraph
from hwc.precision.torch_layers import LAYERS
from tests.passes.build import build, node, norm, run_onnxruntime, weight
from tests.passes.check import random_feeds
from tests.precision.placed import residual

X = [2, 4, 9, 8]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


CASES = {
    "conv": ("Conv", {"w": weight(6, 2, 3, 3)}, {"group": 2, "strides": [2, 1], "pads": [0, 1, 2, 1]}, X),
    "conv_same": ("Conv", {"w": weight(4, 4, 3, 3)}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, X),
    "conv_1d": ("Conv", {"w": weight(3, 4, 5), "b": weight(3)}, {"dilations": [2], "pads": [1, 3]}, [2, 4, 20]),
    "conv_3d": ("Conv", {"w": weight(3, 4, 2, 3, 1)}, {"pads": [1, 1, 0, 1, 1, 0]}, [1, 4, 5, 6, 7]),
    "deconv": ("ConvTranspose", {"w": weight(4, 3, 3, 3), "b": weight(3)},
               {"strides": [2, 2], "pads": [0, 1, 1, 1]}, X),
    "deconv_out": ("ConvTranspose", {"w": weight(4, 3, 3, 3)}, {"strides": [2, 2], "output_padding": [1, 0]}, X),
    "gemm": ("Gemm", {"w": weight(5, 8), "b": weight(5)}, {"transB": 1, "alpha": 0.5, "beta": 2.0}, [3, 8]),
    "matmul": ("MatMul", {"w": weight(8, 5)}, {}, X),
    "max_pool": ("MaxPool", {}, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 1]}, X),
    "max_pool_ceil": ("MaxPool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, [1, 2, 8, 10]),
    "average": ("AveragePool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, X),
    "average_pads": ("AveragePool", {}, {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}, X),
    "average_ceil": ("AveragePool", {}, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, [1, 2, 7, 9]),
    "global": ("GlobalAveragePool", {}, {}, X),
    "bn": ("BatchNormalization", norm(4), {}, X),
    "instance": ("InstanceNormalization", {"s": weight(4), "b": weight(4, seed=2)}, {}, X),
    "layer": ("LayerNormalization", {"s": weight(8), "b": weight(8, seed=2)}, {"axis": -1, "epsilon": 1e-3}, X),
    "lrn": ("LRN", {}, {"size": 3, "alpha": 0.3}, X),
    "pad": ("Pad", {"p": ints(0, 1, 2, 0, 0, 0, 1, 3), "v": floats(0.5).reshape(())}, {}, X),
    "pad_reflect": ("Pad", {"p": ints(0, 0, 2, 1, 0, 0, 1, 3)}, {"mode": "reflect"}, X),
    "pad_edge": ("Pad", {"p": ints(0, 0, 2, 1, 0, 0, 1, 3)}, {"mode": "edge"}, X),
    "resize": ("Resize", {"r": floats(), "s": floats(1, 1, 2, 1.5)}, {"mode": "nearest"}, X),
    "resize_floor": ("Resize", {"r": floats(), "s": floats(1, 1, 2, 2)},
                     {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}, X),
    "resize_linear": ("Resize", {"r": floats(), "s": floats(), "z": ints(2, 4, 13, 5)}, {"mode": "linear"}, X),
    "resize_align": ("Resize", {"r": floats(), "s": floats(), "z": ints(2, 4, 17, 11)},
                     {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, X),
    "clip": ("Clip", {"l": floats(-0.5).reshape(()), "h": floats(1).reshape(())}, {}, X),
    "prelu": ("PRelu", {"s": weight(4, 1, 1)}, {}, X),
    "leaky": ("LeakyRelu", {}, {"alpha": 0.2}, X), "elu": ("Elu", {}, {}, X), "softplus": ("Softplus", {}, {}, X),
    "sigmoid": ("Sigmoid", {}, {}, X), "hard": ("HardSigmoid", {}, {"alpha": 0.3}, X),
    "swish": ("HardSwish", {}, {}, X), "gelu": ("Gelu", {}, {}, X), "tanh": ("Gelu", {}, {"approximate": "tanh"}, X),
    "softmax": ("Softmax", {}, {"axis": 1}, X),
    "mean": ("ReduceMean", {"a": ints(-1, 1)}, {"keepdims": 0}, X), "l2": ("ReduceL2", {"a": ints(2)}, {}, X),
    "max": ("ReduceMax", {}, {}, X), "sum": ("ReduceSum", {"a": ints(0)}, {}, X),
    "reshape": ("Reshape", {"s": ints(0, -1, 6)}, {}, X), "flatten": ("Flatten", {}, {"axis": 2}, X),
    "transpose": ("Transpose", {}, {"perm": [2, 0, 3, 1]}, X), "unsqueeze": ("Unsqueeze", {"a": ints(-1, 1)}, {}, X),
    "squeeze": ("Squeeze", {"a": ints(1)}, {}, [2, 1, 3]),
    "slice": ("Slice", {"s": ints(1, -1), "e": ints(2**31, -(2**31)), "a": ints(2, 3), "t": ints(2, -3)}, {}, X),
    "gather": ("Gather", {"i": ints(0, -1, 2).reshape(3, 1)}, {"axis": 2}, X),
    "expand": ("Expand", {"s": ints(3, 1, 1, 9, 1)}, {}, X), "div": ("Div", {"c": weight(4, 1, 1)}, {}, X),
    "pow": ("Pow", {"c": floats(2)}, {}, X),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnxruntime_computes(name):
    op, arrays, attributes, shape = CASES[name]
    model = build([node(op, ["x", *arrays], ["y"], name="n", **attributes)], {"x": shape}, ["y"], arrays, opset=20)
    feeds = random_feeds(model)
    (expected,) = run_onnxruntime(model, feeds)
    got = TorchGraph(model).run({"x": torch.from_numpy(feeds["x"])})["y"].numpy()
    assert got.shape == expected.shape and got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)  # float32 sums in another order


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm(direction):
    count = 2 if direction == "bidirectional" else 1
    arrays = {"w": weight(count, 12, 5), "r": weight(count, 12, 3, seed=2), "b": weight(count, 24, seed=3)}
    nodes = [node("LSTM", ["x", "w", "r", "b"], ["y", "h", "c"], name="n", hidden_size=3, direction=direction)]
    model = build(nodes, {"x": [7, 2, 5]}, ["y", "h", "c"], arrays)
    feeds = random_feeds(model)
    got = TorchGraph(model).run({"x": torch.from_numpy(feeds["x"])})
    for name, expected in zip("yhc", run_onnxruntime(model, feeds)):
        np.testing.assert_allclose(got[name].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_whole_graph_and_the_part_between_two_values():
    model = residual()
    feeds = random_feeds(model)
    graph = TorchGraph(model)
    given = {"x": torch.from_numpy(feeds["x"])}
    expected = Evaluator(model).run(feeds)["y"]
    np.testing.assert_allclose(graph.run(given)["y"].numpy(), expected, rtol=1e-5, atol=1e-6)
    inner = graph.run(given, ("p0", "sum"))
    assert torch.equal(graph.run({"p0": inner["p0"]}, ("sum",))["sum"], inner["sum"])


def test_gradients_reach_a_replaced_weight_and_only_quantized_reads_see_the_quantizer():
    model = residual()
    graph = TorchGraph(model)
    feeds = {"x": torch.from_numpy(random_feeds(model)["x"])}
    learned = graph.constants["w1"].clone().requires_grad_()
    reads = {"p0": (frozenset({("add", 1)}), lambda t: t * 0)}
    out = graph.run(feeds, ("sum", "c1"), constants={"w1": learned}, reads=reads)
    assert torch.equal(out["sum"], out["c1"])  # the skip was zeroed, the depthwise read was not
    out["sum"].sum().backward()
    assert learned.grad is not None and bool(learned.grad.any())


def test_a_batch_is_checked_before_it_is_trusted():
    fixed = {"s": ints(1, 8)}
    good = build([node("Reshape", ["x", "s"], ["y"], name="n")], {"x": [1, 2, 4]}, ["y"], fixed)
    mixing = build([node("Softmax", ["x"], ["y"], name="n", axis=0)], {"x": [1, 3]}, ["y"], {})
    for model, answer in ((good, True), (mixing, False)):
        samples = [{"x": torch.from_numpy(random_feeds(model, seed)["x"])} for seed in (0, 1)]
        assert TorchGraph(model).can_batch(samples) is answer


def test_an_operator_without_a_torch_form_is_refused_by_name():
    nodes = [node("Hardmax", ["x"], ["h"], name="a"), node("Relu", ["h"], ["y"], name="b")]
    model = build(nodes, {"x": [1, 4]}, ["y"], {})
    with pytest.raises(TargetError, match="Hardmax"):
        TorchGraph(model)
    graph = TorchGraph(model, allow_missing=True)
    assert graph.run({"h": torch.ones(1, 4)})["y"].sum() == 4
    with pytest.raises(TargetError, match="Hardmax"):
        graph.run({"x": torch.ones(1, 4)})
    with pytest.raises(TargetError, match="cannot be computed"):
        TorchGraph(residual()).run({"p0": torch.ones(1, 8, 4, 4)}, ("c0",))


def test_a_form_of_an_operator_that_is_not_covered_is_refused():
    arrays = {"r": floats(), "s": floats(1, 1, 2, 2)}
    model = build([node("Resize", ["x", "r", "s"], ["y"], name="n", mode="cubic")], {"x": X}, ["y"], arrays)
    with pytest.raises(TargetError, match="Resize"):
        TorchGraph(model).run({"x": torch.zeros(X)})


def test_the_comparison_can_fail(monkeypatch):
    monkeypatch.setitem(LAYERS, "Tanh", lambda _, x: x.sigmoid())
    model = build([node("Tanh", ["x"], ["y"], name="n")], {"x": [2, 3]}, ["y"], {})
    feeds = random_feeds(model)
    got = TorchGraph(model).run({"x": torch.from_numpy(feeds["x"])})["y"].numpy()
    assert not np.allclose(got, run_onnxruntime(model, feeds)[0], rtol=2e-5)
