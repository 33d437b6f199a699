"""Flattens channel-last in front of a matrix product, with the rows of the weight in the same order.

    Gemm(Flatten(x), W)  ->  Gemm(Reshape(Transpose(x)), W'),   x: [N, C, H, W], Transpose to [N, H, W, C]

    W'[(h, w, c), k] = W[(c, h, w), k]

Each sum has the same terms in another order. One or three spatial axes are the same case. The rewrite adds a Transpose
to the graph, but convolutions and pools of the engine keep their tensors channel-last, so there it is a view, and what
goes is the kernel that brought the tensor to channel-first order for Flatten.

Reason, counted with TensorRT for RTX 1.7.1 for SM86: one kernel less each in VGG-19 (27 to 26, large constants folded),
AlexNet (20 to 19) and ZFNet-512 (20 to 19), with the same activation memory. In a sweep of convolutions and pools with
elementwise operators behind them, 3 to 512 channels, it was one less or the same; a small product of a single row is
compiled together with the layout change and gains nothing.

Limit: only behind such operators: behind InstanceNormalization there was one kernel more, behind Concat no gain. The
flattened tensor and the weight have one reader.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import attribute, constant, is_op, only_user, producer, require, skip_unless, sweep
from hwc.graph.model import Namer, add_initializer, constant_array, make_node, replace_nodes
from hwc.passes.base import PassContext, PassReport

_CHANNEL_LAST = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
_ELEMENTWISE = ("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "Elu", "HardSwish", "HardSigmoid", "Add",
                "Mul", "BatchNormalization")
_SMALL_WEIGHT = 2**17  # elements


def permute_flatten_gemm(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the formula."""
    misses: list[NearMiss] = []
    rule = partial(_permute, namer=Namer(model), target=context.target)
    return PassReport(sweep(model, ("Gemm", "MatMul"), rule, misses=misses), tuple(misses))


def keeps_channels_last(target: Target) -> bool:
    """Whether the target's runtime holds activations channel-last, so that a channel-first Flatten costs a kernel.

    Counted for TensorRT for RTX only. OpenVINO chooses layouts by blocks of channels, and TensorRT chooses them per
    layer by timing.
    """
    return target.engine == "tensorrt_rtx"


def _permute(node: ir.Node, *, namer: Namer, target: Target) -> None:
    skip_unless(isinstance(node.graph, ir.Graph))
    flatten = producer(node.inputs[0], "Flatten", "Reshape")
    x, flat, weight = flatten.inputs[0], flatten.outputs[0], node.inputs[1]
    assert x is not None and weight is not None and node.graph is not None
    skip_unless(x.shape is not None and 3 <= len(x.shape) <= 5 and flat.shape is not None and len(flat.shape) == 2)
    assert x.shape is not None and flat.shape is not None
    sizes = list(x.shape)[1:]
    require(all(isinstance(size, int) for size in sizes), f"the shape of {x.name} is not static behind the batch")
    channels, *spatial = [int(size) for size in sizes if isinstance(size, int)]
    count = channels * math.prod(spatial)
    skip_unless(flat.shape[1] == count and channels > 1 and count > channels and not attribute(node, "transA", 0))
    require(keeps_channels_last(target), f"{target.engine} is not known to keep activations channel-last")
    require(_is_channel_last(x), f"{x.name} does not come from a convolution or a pool")
    only_user(flat)
    matrix = constant(weight, "the weight")
    require(len(weight.uses()) == 1, f"{weight.name} is read by {len(weight.uses())} nodes")
    single = x.shape[0] == 1
    require(not single or matrix.size > _SMALL_WEIGHT, f"one row times {matrix.size} weights gains nothing")

    rank, transposed = len(x.shape), bool(attribute(node, "transB", 0))
    last = [*range(2, rank), 1]
    rows = matrix.T if transposed else matrix
    # The rows seen as [C, H, W], and the columns behind them.
    moved = rows.reshape(channels, *spatial, -1).transpose([*(axis - 1 for axis in last), rank - 1])
    moved = moved.reshape(rows.shape)
    permuted = np.ascontiguousarray(moved.T if transposed else moved)

    def emit(op: str, what: str, inputs: list[ir.Value], shape: ir.Shape, **attributes: object) -> ir.Node:
        name = namer.fresh(f"{flatten.name}_{what}")
        return make_node(op, inputs, name=name, outputs=[name], attributes=attributes, dtype=x.dtype,
                         shapes=[shape], sources=[flatten])

    turned = emit("Transpose", "channels_last", [x], ir.Shape([x.shape[0], *spatial, channels]), perm=[0, *last])
    # 0 copies the batch, whatever it is.
    shape = add_initializer(node.graph, namer.fresh(f"{flatten.name}_shape"), np.array([0, count], np.int64))
    rowed = emit("Reshape", "rows", [turned.outputs[0], shape], flat.shape)
    held = add_initializer(node.graph, namer.fresh(f"{weight.name}_channels_last"), permuted)
    node.replace_input_with(1, held)
    replace_nodes([flatten], [turned, rowed], {flat: rowed.outputs[0]})


def _is_channel_last(value: ir.Value) -> bool:
    """Whether convolutions and pools make the value, but for elementwise operators on the way."""
    node = value.producer()
    if not is_op(node, *_ELEMENTWISE):
        return is_op(node, *_CHANNEL_LAST)
    assert node is not None
    computed = [read for read in node.inputs if read is not None and constant_array(read) is None]
    return bool(computed) and all(_is_channel_last(read) for read in computed)
