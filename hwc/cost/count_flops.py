"""Floating-point operations of one node, from the shapes of its values.

A multiply-add counts as two. Per operator family, with E = elements of the output and I = elements of the input:

    Conv            2 * E * (C_in / groups) * prod(kernel), + E with a bias; dilation changes nothing
    ConvTranspose   2 * I * (C_out / groups) * prod(kernel), + E with a bias
    Gemm, MatMul    2 * E * K, + E with a C operand
    pools           E * prod(kernel); the global ones I
    reductions      I
    normalisations  8 * I (two sums, a difference, a square, a scale, a shift); BatchNormalization, being affine, 2 * I
    Softmax         5 * I (maximum, difference, exponential, sum, quotient)
    LSTM, GRU, RNN  2 * steps * batch * directions * gates * hidden * (input + hidden)
    element-wise    E, or 10 * E where a transcendental function is evaluated
    data movement   0

Limit: a dimension that has no size, symbolic or unknown, counts as what `sizes` says, else as 1. Operators with a body
(If, Loop, Scan) run it an unknown number of times, so they are refused rather than guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import onnx_ir as ir

from hwc.errors import UsageError

MATRIX_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
RECURRENT_OPS = frozenset({"LSTM", "GRU", "RNN"})
# These change how a tensor is read, not what is stored; engines turn them into a change of strides.
VIEW_OPS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Constant", "Shape", "Size"})
MOVE_OPS = frozenset(
    {"Transpose", "Concat", "Split", "Slice", "Pad", "Gather", "GatherElements", "GatherND", "Expand", "Tile", "Cast",
     "DepthToSpace", "SpaceToDepth", "ConstantOfShape", "Range", "ScatterND", "ScatterElements", "OneHot",
     "ReverseSequence", "NonZero", "Compress", "EyeLike", "Trilu"}
)
CHEAP_POINTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Neg", "Abs", "Relu", "LeakyRelu", "PRelu", "Clip",
     "ThresholdedRelu", "HardSigmoid", "HardSwish", "Sign", "Floor", "Ceil", "Round", "Reciprocal", "Where", "And",
     "Or", "Xor", "Not", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Mod", "BitShift", "BitwiseAnd",
     "BitwiseOr", "BitwiseXor", "BitwiseNot", "IsNaN", "IsInf", "QuantizeLinear", "DequantizeLinear", "CastLike",
     "Shrink"}
)
TRANSCENDENTAL = frozenset(
    {"Sigmoid", "Tanh", "Exp", "Log", "Pow", "Sqrt", "Erf", "Gelu", "Elu", "Selu", "Celu", "Mish", "Swish", "Softplus",
     "Softsign", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"}
)
POINTWISE_OPS = CHEAP_POINTWISE | TRANSCENDENTAL
_NORMALIZATIONS = frozenset(
    {"InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization",
     "MeanVarianceNormalization", "LpNormalization", "LRN"}
)
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_TRANSCENDENTAL_FLOPS = 10  # an assumption: one special-function result and its range reduction
Sizes = Mapping[str, int]


class MatrixShape(NamedTuple):
    """A node as `products` independent matrix products of (m x k) by (k x n)."""

    products: int
    m: int
    n: int
    k: int


def dimensions(value: ir.Value | None, sizes: Sizes, node: ir.Node) -> tuple[int, ...]:
    """The value's shape in elements.

    Raises:
        UsageError: the rank is not known.
    """
    if value is None or value.shape is None:
        raise UsageError(
            "the cost of a node needs the shapes around it",
            where=f"{node.op_type} '{node.name}', value '{value.name if value is not None else '(absent)'}'",
            do="run shape inference first, or give the input shapes with --input-shapes",
        )
    # Some exporters write an open dimension as -1.
    known = (dim if isinstance(dim, int) else sizes.get(str(dim.value), 1) for dim in value.shape)
    return tuple(dim if dim >= 0 else 1 for dim in known)


def elements(value: ir.Value | None, sizes: Sizes, node: ir.Node) -> int:
    """Number of elements; raises as `dimensions` does."""
    return math.prod(dimensions(value, sizes, node))


def matrix_shape(node: ir.Node, sizes: Sizes) -> MatrixShape:
    """The implicit matrix product of a Conv, ConvTranspose, Gemm or MatMul; raises as `dimensions` does."""
    left, right = node.inputs[0], node.inputs[1]
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = dimensions(right, sizes, node)
        attr = node.attributes.get("group")
        group = int(attr.as_int()) if attr is not None else 1
        kernel = math.prod(weight[2:])
        if node.op_type == "Conv":
            out = dimensions(node.outputs[0], sizes, node)
            return MatrixShape(group, out[0] * math.prod(out[2:]), weight[0] // group, weight[1] * kernel)
        into = dimensions(left, sizes, node)
        return MatrixShape(group, into[0] * math.prod(into[2:]), weight[1] * kernel, weight[0] // group)
    a, out = dimensions(left, sizes, node), dimensions(node.outputs[0], sizes, node)
    if node.op_type == "Gemm":
        attr = node.attributes.get("transA")
        return MatrixShape(1, out[0], out[1], a[0] if attr is not None and attr.as_int() else a[1])
    b = dimensions(right, sizes, node)
    if len(b) <= 2:  # one matrix for the whole batch: the batch joins m
        n = b[1] if len(b) == 2 else 1
        return MatrixShape(1, math.prod(out) // max(n, 1), n, a[-1])
    m = out[-2] if len(a) > 1 else 1
    return MatrixShape(max(math.prod(out) // max(m * b[-1], 1), 1), m, b[-1], a[-1])


def count_flops(node: ir.Node, sizes: Sizes | None = None) -> int:
    """Operations of one run of the node; formulas in the module docstring.

    Args:
        sizes: symbol -> size, for dimensions that are not fixed.

    Raises:
        UsageError: a shape is not known, or the node runs a body an unknown number of times.
    """
    sizes = sizes or {}
    kind = node.op_type
    if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
        raise UsageError(f"{kind} '{node.name}' runs a body, which has no static cost", do="fold or unroll it first")
    if kind in VIEW_OPS or kind in MOVE_OPS:
        return 0
    if kind in MATRIX_OPS:
        shape = matrix_shape(node, sizes)
        has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
        bias = elements(node.outputs[0], sizes, node) if has_bias else 0
        return 2 * shape.products * shape.m * shape.n * shape.k + bias
    if kind in RECURRENT_OPS:
        steps, batch = dimensions(node.inputs[0], sizes, node)[:2]
        directions, gates_hidden, width = dimensions(node.inputs[1], sizes, node)
        return 2 * steps * batch * directions * gates_hidden * (width + gates_hidden // _GATES[kind])
    read = elements(node.inputs[0], sizes, node) if node.inputs else 0
    if kind in _NORMALIZATIONS:
        return 8 * read
    if kind == "BatchNormalization":
        return 2 * read
    if kind in ("Softmax", "LogSoftmax", "Hardmax"):
        return 5 * read
    if kind.startswith(("Reduce", "Global", "ArgM", "CumSum", "TopK")):
        return read
    written = elements(node.outputs[0], sizes, node) if node.outputs else 0
    if kind in ("MaxPool", "AveragePool", "LpPool"):
        attr = node.attributes.get("kernel_shape")
        return written * math.prod(attr.as_ints() if attr is not None else (1,))
    if kind in TRANSCENDENTAL:
        return _TRANSCENDENTAL_FLOPS * written
    return max(len([v for v in node.inputs if v is not None]) - 1, 1) * written if kind in CHEAP_POINTWISE else written
