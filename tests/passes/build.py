"""Small models from onnx node protos, for tests that compute their shapes and weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper

from tests.passes.check import prepare, random_feeds

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


def run_onnxruntime(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """For what onnx's reference evaluator gets wrong: asymmetric pads of pools, a grouped ConvTranspose."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options).run(None, feeds)


def assert_same_in_onnxruntime(before: ir.Model, after: ir.Model, *, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    feeds = random_feeds(before)
    for old, new in zip(run_onnxruntime(before, feeds), run_onnxruntime(after, feeds), strict=True):
        assert old.dtype == new.dtype and old.shape == new.shape
        np.testing.assert_allclose(new, old, rtol=rtol, atol=atol)
