"""Runs a graph in one block of bytes: every tensor lives where the lifetimes and the plan put it.

Each node runs alone, reads its operands out of the block and writes its results into it. A tensor that was overwritten
too early is read wrong, so equal outputs show that both the sharing of storage and the plan are legal for this graph.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from hwc.artifacts_memory import MemoryPlan
from hwc.graph.model import constant_array
from hwc.schedule.lifetimes import Lifetimes


def run_whole(model: ir.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph's outputs by the reference evaluator."""
    outputs = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    return {str(value.name): array for value, array in zip(model.graph.outputs, outputs)}


def run_in_arena(
    model: ir.Model, found: Lifetimes, plan: MemoryPlan, feeds: dict[str, np.ndarray], order: list[ir.Node]
) -> dict[str, np.ndarray]:  # fmt: skip
    """The same, in the plan's block."""
    block = np.full(plan.height_bytes, 0xAB, np.uint8)
    base = {buffer.name: offset for buffer, offset in zip(plan.buffers, plan.offsets)}

    def at(value: ir.Value) -> np.ndarray:
        buffer, offset = found.places[str(value.name)]
        begin = base[buffer] + offset
        shape = tuple(int(dim) for dim in value.shape)
        dtype = value.dtype.numpy()
        return block[begin:begin + int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)

    for value in model.graph.inputs:
        at(value)[...] = feeds[str(value.name)]
    for node in order:
        operands, weights = {}, []
        for value in node.inputs:
            if value is None:
                continue
            array = constant_array(value)
            if array is None:
                operands[str(value.name)] = at(value).copy()
            else:
                weights.append(onnx.numpy_helper.from_array(array, str(value.name)))
        proto = ir.to_proto(node)
        graph = onnx.helper.make_graph(
            [proto], "one", [_info(v) for v in node.inputs if v is not None and str(v.name) in operands],
            [_info(v) for v in node.outputs], weights,
        )  # fmt: skip
        single = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
        for value, array in zip(node.outputs, ReferenceEvaluator(single).run(None, operands)):
            at(value)[...] = array
    return {str(value.name): at(value).copy() for value in model.graph.outputs}


def _info(value: ir.Value) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(str(value.name), int(value.dtype), None)
