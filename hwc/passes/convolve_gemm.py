"""Turns Flatten + Gemm into a Conv over the map, so that a DLA keeps a classifier in the loadable of its network:

    y[n, k] = sum_chw W[k, chw] x[n, c, h, w] + c[k] = Conv(x; W as K x C x H x W)[n, k, 0, 0]

The Conv makes N x K x 1 x 1; a Reshape restores N x K behind it, and behind activations that follow, so that the next
Gemm can be taken as well. Exact. The flattening node may be a Flatten, a Reshape or a Squeeze that keeps the batch and
joins channels, height and width; a Transpose of the three in front of it becomes an order of the weight's columns.

Limits: constant W, no transA; the map's sides within the largest kernel of a DLA.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import attribute, constant, is_op, producer, require, skip_unless, static_shape, sweep
from hwc.graph.model import Namer, constant_array, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter
from hwc.passes.require_dla import has_dla, limit

_ACTIVATIONS = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "PRelu")


def convolve_gemm(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    if not has_dla(context.target):
        return PassReport(0)
    rule = partial(_convolve, namer=Namer(model), target=context.target)
    return PassReport(sweep(model, ("Gemm",), rule, misses=misses), tuple(misses))


def _convolve(gemm: ir.Node, *, namer: Namer, target: Target) -> None:
    flatten = producer(gemm.inputs[0], "Flatten", "Reshape", "Squeeze")
    x, order = _before_transpose(flatten.inputs[0])
    assert gemm.graph is flatten.graph
    before = static_shape(x)
    skip_unless(len(before) == 4)
    require(order[0] == 0, "a Transpose moves the batch")
    n, channels, height, width = before
    require(static_shape(flatten.outputs[0]) == (n, channels * height * width),
            f"'{flatten.name}' does not join channels, height and width")
    require(not attribute(gemm, "transA", 0), "transA is set")
    largest = limit(target, "dla.conv_kernel_max")
    require(max(height, width) <= largest, f"the map of {height}x{width} is larger than a kernel may be")
    matrix = constant(gemm.inputs[1], "the weight")
    matrix = matrix if attribute(gemm, "transB", 0) else matrix.T
    matrix = (matrix * np.asarray(attribute(gemm, "alpha", 1.0), matrix.dtype)).astype(matrix.dtype)
    outputs = matrix.shape[0]
    bias = None
    if len(gemm.inputs) > 2 and gemm.inputs[2] is not None:
        row = constant(gemm.inputs[2], "the bias")
        require(row.size in (1, outputs), "the bias differs along the batch")
        row = (row * np.asarray(attribute(gemm, "beta", 1.0), row.dtype)).astype(row.dtype)
        bias = np.broadcast_to(row.reshape(-1), (outputs,))
    followers = _activations_after(gemm, outputs)
    emit = Emitter(gemm, namer)
    # Columns are in the order of the flattened tensor; the kernel wants channels, height, width.
    kernel = matrix.reshape(outputs, *(before[axis] for axis in order[1:])).transpose(np.argsort(order))
    inputs = [x, emit.constant(np.ascontiguousarray(kernel), "kernel")]
    if bias is not None:
        inputs.append(emit.constant(np.ascontiguousarray(bias), "bias"))
    value = emit.one("Conv", "conv", inputs, (n, outputs, 1, 1), kernel_shape=[height, width])
    for node in followers:
        value = _on_map(emit, node, value, (n, outputs, 1, 1))
    last = (followers or [gemm])[-1]
    value = emit.reshape(value, (n, outputs))
    replace_nodes([gemm, *followers], emit.nodes, {last.outputs[0]: value})


def _before_transpose(value: ir.Value | None) -> tuple[ir.Value, tuple[int, ...]]:
    """The map in front of a Transpose, if one makes `value`, and the order of axes that it gave."""
    assert value is not None
    node = value.producer()
    if is_op(node, "Transpose") and node is not None and node.inputs[0] is not None:
        order = tuple(attribute(node, "perm", tuple(reversed(range(len(value.shape or ()))))))
        if len(order) == 4:
            return node.inputs[0], order
    return value, (0, 1, 2, 3)


def _activations_after(gemm: ir.Node, outputs: int) -> list[ir.Node]:
    """Activations that alone read what stands before them, in order."""
    found: list[ir.Node] = []
    value = gemm.outputs[0]
    while not value.is_graph_output():
        users = {use.node for use in value.uses()}
        node = users.pop() if len(users) == 1 else None
        if node is None or node.graph is not gemm.graph or not is_op(node, *_ACTIVATIONS):
            break
        if node.inputs[0] is not value:
            break
        others = [constant_array(v) for v in node.inputs[1:] if v is not None]
        if any(array is None for array in others):
            break
        slope = others[0] if node.op_type == "PRelu" else None
        if slope is not None and slope.size not in (1, outputs):
            break
        found.append(node)
        value = node.outputs[0]
    return found


def _on_map(emit: Emitter, node: ir.Node, value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    """The activation on N x K x 1 x 1."""
    operands = [v for v in node.inputs[1:] if v is not None]
    attributes = {name: attribute(node, name) for name in node.attributes}
    if node.op_type == "PRelu":
        slope = constant(node.inputs[1], "the slope")
        operands = [emit.constant(slope.reshape(-1, 1, 1), "slope")]
    if node.op_type == "Clip" and len(node.inputs) > 1 and node.inputs[1] is None:
        # A missing lower bound keeps its place.
        assert value.dtype is not None
        dtype = value.dtype.numpy()
        lowest = np.asarray(np.finfo(dtype).min, dtype)
        operands = [emit.constant(lowest, "low"), *operands]
    return emit.one(node.op_type, node.op_type.lower(), [value, *operands], shape, **attributes)
