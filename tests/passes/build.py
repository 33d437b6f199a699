"""Small models from onnx node protos, for tests that compute their shapes and weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from tests.passes.check import prepare

RNG = np.random.default_rng


def build(nodes, inputs, outputs, arrays, opset=18) -> ir.Model:
    """A model from onnx node protos; shapes of inputs given, those of outputs inferred."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return prepare(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))


def norm(channels: int, seed: int = 0, *, positive: bool = False, prefix: str = "bn") -> dict[str, np.ndarray]:
    rng = RNG(seed)
    scale = rng.uniform(0.5, 1.5, channels) * (1 if positive else rng.choice([-1, 1], channels))
    parts = (scale, rng.normal(size=channels), rng.normal(size=channels), rng.uniform(0.5, 2, channels))
    return {f"{prefix}{i}": part.astype(np.float32) for i, part in enumerate(parts)}


def bn(source: str, out: str, prefix: str = "bn", **attrs) -> onnx.NodeProto:
    inputs = [source, *(f"{prefix}{i}" for i in range(4))]
    return helper.make_node("BatchNormalization", inputs, [out], name=out, **attrs)


def weight(*shape: int, seed: int = 1) -> np.ndarray:
    return (RNG(seed).normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


node = helper.make_node
