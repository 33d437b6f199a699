"""The workspace limit of a board follows its rule, and the rule's byte counts are right."""

import dataclasses

import numpy as np
import onnx
import pytest

from hwc import targets
from hwc.artifacts import DynamicDim, Fact, TensorSpec
from hwc.limit_workspace import LEAST, count_bytes, limit_workspace

# x -> a -> b, and b + x: x lives to the end, so three tensors are alive while `b` is made.
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
chain (float[n,1024] x) => (float[n,1024] y)
<float[n,1024] a, float[n,1024] b>
{
  a = Relu(x)
  b = MatMul(a, w)
  y = Add(b, x)
}"""
ROW = 1024 * 4


@pytest.fixture
def model(tmp_path):
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1024, 1024), np.float32), "w"))
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def spec(rows) -> tuple[TensorSpec, ...]:
    return (TensorSpec("x", "float32", (rows, 1024)),)


def test_bytes_are_counted_at_the_largest_shapes(model):
    assert count_bytes(model, spec(1)) == (1024 * 1024 * 4, 3 * ROW, 0)
    assert count_bytes(model, spec(DynamicDim(1, 2, 64))) == (1024 * 1024 * 4, 3 * 64 * ROW, 0)


def test_a_tensor_dies_with_its_last_reader(tmp_path):
    chain = TEXT.replace("Add(b, x)", "Relu(b)")
    proto = onnx.parser.parse_model(chain)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1024, 1024), np.float32), "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    assert count_bytes(tmp_path / "m.onnx", spec(1))[1] == 2 * ROW


def test_an_open_size_that_nobody_knows_is_counted_and_said(model):
    assert count_bytes(model, ()) == (1024 * 1024 * 4, 3 * ROW, 4)
    limit = limit_workspace(model, (), targets.load("agx-xavier"))
    assert limit is not None and "4 tensors have open dimensions" in limit.why


def test_the_rule(model):
    limit = limit_workspace(model, spec(1), targets.load("agx-xavier"))
    left = (32 << 30) // 2 - 2 * 4 * 1024 * 1024 - 3 * ROW
    assert limit is not None and limit.size_bytes == left // (1 << 20) * (1 << 20) and not limit.is_tight
    assert limit.why.startswith("a limit, not a measurement: 0.5 of 32 GB shared memory, less twice 4.0 MiB of weights")


def test_a_board_that_is_too_small_gets_the_least_and_is_told(model):
    target = targets.load("orin-nano-4gb")
    small = Fact(0.015, "GB", "this test says so")
    target = dataclasses.replace(target, facts={**target.facts, "memory.size_gb": small})
    limit = limit_workspace(model, spec(1), target)
    assert limit is not None and limit.size_bytes == LEAST and limit.is_tight and "may not fit" in limit.why


def test_where_the_gpu_has_its_own_memory_there_is_no_limit(model):
    assert limit_workspace(model, spec(1), targets.load("rtx-4090")) is None
    assert limit_workspace(model, spec(1), targets.load("cpu")) is None
    target = targets.load("agx-xavier")
    unknown = {**target.facts, "memory.size_gb": Fact(None, "GB", "no trustworthy source found")}
    assert limit_workspace(model, spec(1), dataclasses.replace(target, facts=unknown)) is None
