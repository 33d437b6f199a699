"""Small ONNX files with the features of the real ones: old operators, Constant weights, If, LSTM, Loop, functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def weights(*shape: int, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def with_weights(text: str, **arrays: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return model


def conv_net() -> onnx.ModelProto:
    return with_weights(
        """<ir_version: 8, opset_import: ["" : 18]>
        net (float[N, 3, 16, 16] x) => (float[N, 5] y) {
          c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
          r = Relu (c)
          p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
          m = ReduceMean <keepdims = 0> (p, axes)
          y = Gemm <transB = 1> (m, g)
        }""",
        w=weights(4, 3, 3, 3), b=weights(4, seed=1), g=weights(5, 4, seed=2), axes=np.array([2, 3]),
    )  # fmt: skip


def old_operators() -> onnx.ModelProto:
    """Opset 9, with nearly every operator whose attributes became operands later."""
    return onnx.parser.parse_model(
        """<ir_version: 4, opset_import: ["" : 9]>
        old (float[2, 4, 6, 6] x) => (float[2, 4, 12, 12] up, float[2, 4, 12, 12] lin, float[2, 4, 6, 6] soft,
             float[2, 2, 6, 6] top, float[2, 1, 1] red, float[2, 2, 3, 6] cut, float[1, 2, 4, 6, 6] wide,
             float[2, 144] flat_soft, float[2, 4, 6, 6] scat) {
          scales = Constant <value = float[4] {1, 1, 2, 2}> ()
          up = Upsample <mode = "nearest"> (x, scales)
          lin = Upsample <mode = "linear"> (x, scales)
          soft = Softmax (x)
          clipped = Clip <min = -0.5, max = 0.5> (x)
          padded = Pad <pads = [0, 0, 1, 0, 0, 0, 0, 1], value = 0.25, mode = "constant"> (clipped)
          dropped, mask = Dropout <ratio = 0.3> (padded)
          sliced = Slice <axes = [2, 3], starts = [0, 1], ends = [6, 9223372036854775807]> (dropped)
          top, which = TopK <axis = 1, k = 2> (sliced)
          sum = ReduceSum <axes = [2], keepdims = 1> (sliced)
          mean = ReduceMean <axes = [1, 3], keepdims = 0> (sum)
          red = Unsqueeze <axes = [2]> (mean)
          left, right = Split <axis = 2, split = [3, 3]> (top)
          half1, half2 = Split <axis = 2> (top)
          cut = Add (left, half2)
          wide = Unsqueeze <axes = [0]> (x)
          thin = Squeeze <axes = [0]> (wide)
          flat = Flatten (thin)
          flat_soft = LogSoftmax (flat)
          index = Constant <value = int64[1, 1, 1, 2] {3, 5}> ()
          update = Constant <value = float[1, 1, 1, 2] {7, 8}> ()
          scat = Scatter <axis = 3> (x, index, update)
        }"""
    )


def paddle_like() -> onnx.ModelProto:
    """All weights are Constant nodes, the batch is -1, opset 11."""
    value = helper.make_tensor_value_info
    nodes = []

    def constant(name: str, array: np.ndarray) -> str:
        nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array), name)))
        return name

    one = np.ones(6, np.float32)
    add = nodes.append
    constant("w", weights(6, 3, 3, 3))
    for name, array in (("s", one), ("b", 0.1 * one), ("m", 0 * one), ("v", 2 * one)):
        constant(name, array)
    add(helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    add(helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]))
    constant("three", np.array([3], np.float32))
    constant("zero", np.float32(0))
    constant("six", np.float32(6))
    add(helper.make_node("Add", ["n", "three"], ["n3"]))
    add(helper.make_node("Clip", ["n3", "zero", "six"], ["k"]))
    add(helper.make_node("Mul", ["n", "k"], ["h0"]))
    add(helper.make_node("Div", ["h0", "six"], ["h"]))
    constant("scales", np.array([1, 1, 2, 2], np.float32))
    constant("roi", np.zeros(0, np.float32))
    add(helper.make_node("Resize", ["h", "roi", "scales"], ["up"], mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric"))  # fmt: skip
    add(helper.make_node("GlobalAveragePool", ["up"], ["g"]))
    constant("shape", np.array([-1, 6], np.int64))
    add(helper.make_node("Reshape", ["g", "shape"], ["f"]))
    add(helper.make_node("Softmax", ["f"], ["y"], axis=1))
    graph = helper.make_graph(
        nodes, "paddle", [value("x", TensorProto.FLOAT, [-1, 3, 8, 8])], [value("y", TensorProto.FLOAT, [-1, 6])]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)


def speech_like() -> onnx.ModelProto:
    """An If whose branches share names and hold Constants and old ReduceMean, and an LSTM; opset 15."""
    value = helper.make_tensor_value_info

    def branch(name: str, factor: float) -> onnx.GraphProto:
        scale = numpy_helper.from_array(np.full(4, factor, np.float32), "k")
        nodes = [
            helper.make_node("Constant", [], ["k"], value=scale),
            helper.make_node("Mul", ["hidden", "k"], ["t"]),
            helper.make_node("ReduceMean", ["t"], ["o"], axes=[0], keepdims=1),
            helper.make_node("Add", ["o", "bias"], [f"{name}_out"]),
        ]
        bias = numpy_helper.from_array(weights(4, seed=int(factor)), "bias")
        return helper.make_graph(nodes, name, [], [value(f"{name}_out", TensorProto.FLOAT, None)], [bias])

    nodes = [
        helper.make_node("Constant", [], ["rate"], value=numpy_helper.from_array(np.array(16000), "rate")),
        helper.make_node("Equal", ["sr", "rate"], ["is16"]),
        helper.make_node("LSTM", ["x", "w", "r", "", "", "h"], ["all", "last"], hidden_size=4),
        helper.make_node("Squeeze", ["last", "axis0"], ["hidden"]),
        helper.make_node("If", ["is16"], ["y"], then_branch=branch("then", 2.0), else_branch=branch("else", 3.0)),
    ]
    arrays = {"w": weights(1, 16, 3), "r": weights(1, 16, 4, seed=1), "axis0": np.array([0])}
    graph = helper.make_graph(
        nodes, "speech",
        [value("x", TensorProto.FLOAT, [5, 2, 3]), value("h", TensorProto.FLOAT, [1, 2, 4]),
         value("sr", TensorProto.INT64, [])],
        [value("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def with_loop() -> onnx.ModelProto:
    """A Loop that reads an outer value; opset 12."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "step"], ["next"]), helper.make_node("Identity", ["go"], ["go_on"]),
         helper.make_node("Unsqueeze", ["next"], ["seen"], axes=[0])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("state", TensorProto.FLOAT, [3])],
        [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [3]),
         value("seen", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["count"], value=numpy_helper.from_array(np.array(4), "count")),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True), "yes")),
        helper.make_node("Loop", ["count", "yes", "x"], ["y", "trace"], body=body),
    ]
    graph = helper.make_graph(
        nodes, "loop", [value("x", TensorProto.FLOAT, [3]), value("step", TensorProto.FLOAT, [3])],
        [value("y", TensorProto.FLOAT, [3]), value("trace", TensorProto.FLOAT, None)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)


def with_function() -> onnx.ModelProto:
    return onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18, "own" : 1]>
        main (float[2, 3] x) => (float[2, 3] y) { a = own.twice (x)  y = own.twice (a) }
        <domain: "own", opset_import: ["" : 18]>
        twice (v) => (w) { w = Add (v, v) }"""
    )


ALL = {
    "conv_net": conv_net,
    "old_operators": old_operators,
    "paddle_like": paddle_like,
    "speech_like": speech_like,
    "with_loop": with_loop,
    "with_function": with_function,
}


def feeds_for(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs; open dimensions become 2."""
    rng = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name in constants:
            continue
        kind = value.type.tensor_type
        shape = [dim.dim_value if dim.dim_value > 0 else 2 for dim in kind.shape.dim]
        if kind.elem_type == TensorProto.INT64:
            feeds[value.name] = rng.choice([8000, 16000], shape).astype(np.int64)
        else:
            feeds[value.name] = np.asarray(rng.standard_normal(shape), np.float32)
    return feeds
