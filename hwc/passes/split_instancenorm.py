"""Writes InstanceNormalization in operators that TensorRT for RTX compiles to fewer kernels, per shape.

With S elements a channel, x seen as [N, C, S] (a view), the result is one of

1. LayerNormalization over S, with the same epsilon
2. the moments of R chunks of K = S / R elements, combined (Chan, Golub, LeVeque 1979; here all chunks are equal):

       m_r = mean(x_r)       q_r = mean((x_r - m_r)^2)
       m = mean over r of m_r       v = mean over r of (q_r + (m_r - m)^2)       y = (x - m) / sqrt(v + epsilon)

   which is exact algebra, and the means over r are sums of R slices, which become part of a neighbouring kernel

then y * scale + bias per channel, where those are not 1 and 0. Neither form subtracts mean(x)^2 from mean(x^2): in ONNX
Runtime, two inputs of the LinkNet below came out at most 2.5e-5 and 1.7e-4 off a float64 computation, where the
original is 3.7e-5 and 2.0e-4 off.

Reason, counted in engines of TensorRT for RTX 1.7.1 for SM86: between two convolutions InstanceNormalization with its
activation is 3 kernels, one of them a layout change, and 5 from 32768 elements a row on, two of which only write zeros.
LayerNormalization leaves 1 or 2, chunks of at most 4 elements 1, longer chunks 2. A 3-D LinkNet with 34 norms goes from
143 kernels to 73 at 64^3 (for SM80, SM89 and SM120 too) and from 161 to 93 at 128^3; its activation memory from 17.6 to
18.2 MB and from 97.0 to 83.9 MB. `choose_chunks` has the limits, read off a sweep of such nets. What was counted is
kernels, not time.

Limit: static shapes and float32, since moments lose their digits in half precision. With one spatial axis long chunks
bring more kernels, with two only rows of 32768 elements and more gain.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import NoMatch, attribute, constant, require, skip_unless, static_shape, sweep
from hwc.graph.model import Namer, opset, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter
from hwc.passes.require_operator import require_operator

_TINY_CHUNK = 4  # a mean of so few elements is no reduction kernel but part of a pointwise one
_MAX_CHUNKS = 16  # every chunk is a Slice; 32 of them were sometimes compiled to 32 copies
# Rows of a reduction -> elements that one block still sums alone. Longer rows go to several blocks, whose partial
# sums need two kernels that write zeros; with many rows, there are blocks enough without that.
_LONGEST_ROW = {256: 2**31, 64: 16384, 1: 8192}
_SEVERAL_BLOCKS = 32768
_FEW_ROWS = 16


def split_instancenorm(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the two forms."""
    misses: list[NearMiss] = []
    rule = partial(_split, namer=Namer(model), version=opset(model), context=context, longest=_longest_row(model))
    return PassReport(sweep(model, ("InstanceNormalization",), rule, misses=misses), tuple(misses))


def splits_instancenorm(target: Target) -> bool:
    """Whether the target's runtime compiles the written-out form to fewer kernels.

    Counted for TensorRT for RTX only. OpenVINO (MVN) and TensorRT have kernels of their own for the operator, and a
    graph written out would hide it from them.
    """
    return target.engine == "tensorrt_rtx"


def _longest_row(model: ir.Model) -> int:
    """Elements of the longest row that any InstanceNormalization of the graph normalizes; 0 if none is static."""
    inputs = [node.inputs[0] for node in model.graph if node.op_type == "InstanceNormalization"]
    shapes = [x.shape for x in inputs if x is not None]
    known = [[d for d in shape[2:] if isinstance(d, int)] for shape in shapes if shape is not None]
    return max((int(np.prod(dims)) for dims in known), default=0)


def choose_chunks(rows: int, size: int, axes: int, longest: int) -> int:
    """The number of chunks R; 1 stands for LayerNormalization.

    Args:
        rows: N * C, how many rows are normalized.
        size: S, elements of a row.
        axes: how many spatial axes they come from.
        longest: elements of the longest row that the graph normalizes anywhere.

    Raises:
        NoMatch: neither form was counted to have fewer kernels.
    """
    require(size > 1, "a row has one element")
    divisors = [count for count in range(2, min(_MAX_CHUNKS, size // 2) + 1) if size % count == 0]
    for count in divisors:
        if size <= count * _TINY_CHUNK:
            return count
    if rows * size <= 16384 or (axes > 1 and rows <= 16 and size <= 4096):
        return 1
    require(
        axes == 3 or (axes == 2 and size >= _SEVERAL_BLOCKS),
        f"written out, rows of {size} elements on {axes} spatial axes have no fewer kernels",
    )
    # Counted on LinkNet3D at 64^3: its longest rows, 8 of 32768 elements, in chunks save 6 kernels of 79 and cost 3 %
    # of activation memory (17.63 to 18.24 MB). At 128^3 the longest are 262144, and memory falls.
    costs_memory = rows < _FEW_ROWS and size == longest <= _SEVERAL_BLOCKS
    require(not costs_memory, f"{rows} rows of {size} elements, the longest here, cost memory in chunks")
    for count in divisors:
        if size // count <= max(length for least, length in _LONGEST_ROW.items() if rows * count >= least):
            return count
    raise NoMatch(f"no divisor of {size} up to {_MAX_CHUNKS} leaves chunks that one block sums")


def _split(node: ir.Node, *, namer: Namer, version: int, context: PassContext, longest: int) -> None:
    skip_unless(isinstance(node.graph, ir.Graph))
    target = context.target
    require(splits_instancenorm(target), f"{target.engine} has a kernel of its own for InstanceNormalization")
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    require(x.dtype == ir.DataType.FLOAT, f"it is {x.dtype}, and moments need float32")
    require(context.precision == "fp32", f"{context.precision} is asked for, and moments need float32")
    batch, channels, *spatial = shape = static_shape(x, "its input")
    size = int(np.prod(spatial))
    count = choose_chunks(batch * channels, size, len(spatial), longest)
    require_operator("LayerNormalization" if count == 1 else "InstanceNormalization", version, context.target)
    require(version >= 10, f"Slice takes its bounds as inputs from opset 10 on, the model has {version}")
    scale, bias = constant(node.inputs[1], "the scale"), constant(node.inputs[2], "the bias")
    emit = Emitter(node, namer)
    epsilon = float(attribute(node, "epsilon", 1e-5))
    if count == 1:
        rows = (batch, channels, size)
        ones = emit.constant(np.ones(size, np.float32), "ones")
        y = emit.one("LayerNormalization", "layer", [emit.reshape(x, rows), ones], rows, axis=2, epsilon=epsilon)
    else:
        y = _emit_chunks(emit, emit.reshape(x, (batch, channels, count, size // count)), epsilon, version)
    y = emit.reshape(y, shape)
    per_channel = (channels, *[1] * len(spatial))
    if (scale != 1).any():
        y = emit.one("Mul", "scaled", [y, emit.constant(scale.reshape(per_channel), "scale")], shape)
    if bias.any():
        y = emit.one("Add", "biased", [y, emit.constant(bias.reshape(per_channel), "bias")], shape)
    replace_nodes([node], emit.nodes, {result: y})


def _emit_chunks(emit: Emitter, x: ir.Value, epsilon: float, version: int) -> ir.Value:
    """(x - m) / sqrt(v + epsilon) over the last two axes of x: [N, C, R, K]."""
    shape = static_shape(x)
    count = shape[2]
    each, whole = (*shape[:3], 1), (*shape[:2], 1, 1)
    part = emit.constant(np.array(1 / count, np.float32), "part")

    def mean_of_chunk(value: ir.Value, what: str) -> ir.Value:
        if version >= 18:  # the axes became an input
            return emit.one("ReduceMean", what, [value, emit.ints(3)], each, keepdims=1)
        return emit.one("ReduceMean", what, [value], each, axes=[3], keepdims=1)

    def mean(value: ir.Value, what: str) -> ir.Value:
        # Not ReduceMean: that stays a kernel of its own. Added in pairs, so that rounding errors grow with log2(R).
        parts = [emit.slice(value, 2, index, index + 1, whole) for index in range(count)]
        while len(parts) > 1:
            pairs = [emit.one("Add", "sum", parts[i:i + 2], whole) for i in range(0, len(parts) - 1, 2)]
            parts = pairs + parts[2 * len(pairs):]
        return emit.one("Mul", what, [parts[0], part], whole)

    means = mean_of_chunk(x, "chunk_means")
    off = emit.one("Sub", "off", [x, means], shape)
    within = mean_of_chunk(emit.one("Mul", "off_squared", [off, off], shape), "within")
    center = mean(means, "mean")
    between = emit.one("Sub", "between", [means, center], each)
    spread = emit.one("Add", "spread", [within, emit.one("Mul", "between_squared", [between, between], each)], each)
    guard = emit.constant(np.array(epsilon, np.float32), "epsilon")
    variance = emit.one("Add", "guarded", [mean(spread, "variance"), guard], whole)
    deviation = emit.one("Sqrt", "deviation", [variance], whole)
    return emit.one("Div", "normal", [emit.one("Sub", "centered", [x, center], shape), deviation], shape)
