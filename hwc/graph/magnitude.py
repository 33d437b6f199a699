"""Bounds of every FP32 tensor's magnitude: proves that no element is NaN or infinite, whatever the inputs.

Each FP32 value gets a bound b with |element| <= b for all legal inputs, or the reason why it has none:

    constant             its largest magnitude, if all of it is finite
    Cast from integers   the largest magnitude of their type
    moves, Relu, Gelu    that of the input: |Gelu(x)| <= |x|
    Add, Sub, Mul        a + b, a b, rounded to nearest as FP32 rounds: rounding is monotonic, so it keeps <=
    Where, Concat        the largest of the parts
    MatMul, Gemm         a max_j sum_i |w_ij| for a constant matrix, else k a b for k terms
    LayerNormalization   sqrt(n) max|scale| + max|bias|: n deviations over their own root mean square
    Softmax, Tanh, ...   1, if the input has a bound

Integers hold no NaN, so a network that starts from integers (tokens, a mask, raw pixels) is bounded from its inputs on.
A float input is not: it may bring NaN, and everything that it reaches is unbounded. A bound beyond FP32's largest
value, 2**128 (1 - 2**-24), is an overflow that cannot be ruled out. Sums of k products may be added in any order; each
is off by a factor of (1 + 2**-24)**k at most (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, ch. 3).

Limit: FP32 of the main graph; arithmetic in FP16 or BF16 overflows earlier. No relation between values is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from hwc.graph.integer_range import type_range
from hwc.graph.match import attribute, is_op
from hwc.graph.model import constant_array

_MOVES = ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather", "Expand",
          "Tile", "Relu", "Neg", "Abs")  # fmt: skip
_SQUASHES = ("Softmax", "Tanh", "Sigmoid", "Erf")
_ABOUT_ONE = 1.01  # approximations of them may end a little above 1
_GELU_TERMS = 16  # and those of Gelu a little above its input
# Below it, squares that underflow could leave a deviation over an even smaller root.
_SMALLEST_EPSILON = 1e-30


# The bound of a value, or _Unbounded.
Bound = Callable[[ir.Value | None], float]


class _Unbounded(Exception):
    """Why a value has no bound."""


def magnitudes(graph: ir.Graph) -> dict[ir.Value, float | str]:
    """For each FP32 value of the main graph a bound of its magnitude, or in words why there is none."""
    known: dict[ir.Value, float | str] = {}

    def of(value: ir.Value | None) -> float:
        if value is None:
            raise _Unbounded("an input is left out")
        if value not in known:
            known[value] = _leaf(value)
        found = known[value]
        if isinstance(found, str):
            raise _Unbounded(found)
        return found

    for node in graph:
        for value in node.outputs:
            if value.dtype != ir.DataType.FLOAT or constant_array(value) is not None:
                continue
            try:
                known[value] = _require_finite(_result(node, of), node)
            except _Unbounded as reason:
                known[value] = str(reason)
    return known


def _leaf(value: ir.Value) -> float | str:
    array = constant_array(value)
    if value.dtype != ir.DataType.FLOAT:
        return f"{value.name} is {value.dtype}, not FLOAT"
    if array is None:
        return f"{value.name} may hold NaN or infinity"
    if not np.isfinite(array).all():
        return f"the constant {value.name} holds NaN or infinity"
    return float(np.abs(array).max(initial=0.0))


def _require_finite(bound: float, node: ir.Node) -> float:
    if not bound <= float(np.finfo(np.float32).max):
        raise _Unbounded(f"{node.name} ({node.op_type}) may overflow")
    return bound


def _result(node: ir.Node, of: Bound) -> float:
    kind, inputs = node.op_type, node.inputs
    if not is_op(node, kind):
        raise _Unbounded(f"{node.name} ({node.domain}.{kind}) is not followed")
    if kind in _MOVES:
        return of(inputs[0])
    if kind in _SQUASHES:
        of(inputs[0])
        return _ABOUT_ONE
    if kind == "Gelu":
        return _up(of(inputs[0]), _GELU_TERMS)
    if kind == "Concat":
        return max(of(value) for value in inputs)
    if kind == "Where":
        return max(of(value) for value in inputs[1:])
    if kind == "Cast":
        whole = type_range(inputs[0].dtype if inputs[0] is not None else None)
        return _nearest(float(max(-whole[0], whole[1]))) if whole is not None else of(inputs[0])
    if kind in ("Add", "Sub"):
        return _nearest(of(inputs[0]) + of(inputs[1]))
    if kind == "Mul":
        return _nearest(of(inputs[0]) * of(inputs[1]))
    if kind == "MatMul":
        return _product(inputs[0], inputs[1], of)
    if kind == "Gemm":
        return _gemm(node, of)
    if kind == "LayerNormalization" and len(node.outputs) == 1:
        return _normalized(node, of)
    raise _Unbounded(f"{node.name} ({kind}) is not followed")


def _product(left: ir.Value | None, right: ir.Value | None, of: Bound, axes: tuple[int, int] = (-1, -2)) -> float:
    """Of a product whose terms lie along `axes` of its two factors."""
    a, b, terms = of(left), of(right), _terms(left, axes[0])
    matrix = constant_array(right)
    if matrix is not None and matrix.ndim == 2:
        return _up(a * float(np.abs(matrix).sum(axis=axes[1], dtype=np.float64).max(initial=0.0)), terms)
    return _up(a * b * terms, terms)


def _gemm(node: ir.Node, of: Bound) -> float:
    axes = (0 if attribute(node, "transA", 0) else 1, 1 if attribute(node, "transB", 0) else 0)
    total = abs(attribute(node, "alpha", 1.0)) * _product(node.inputs[0], node.inputs[1], of, axes)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        total += abs(attribute(node, "beta", 1.0)) * of(node.inputs[2])
    return _up(total, 2)


def _normalized(node: ir.Node, of: Bound) -> float:
    x, shape = of(node.inputs[0]), node.inputs[0].shape if node.inputs[0] is not None else None
    axis = attribute(node, "axis", -1)
    sizes = list(shape)[axis:] if shape is not None else [None]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise _Unbounded(f"{node.name} ({node.op_type}) has no static shape")
    count = math.prod(int(size) for size in sizes if isinstance(size, int))
    if attribute(node, "epsilon", 1e-5) < _SMALLEST_EPSILON:
        raise _Unbounded(f"{node.name} ({node.op_type}) may divide zero by zero: its epsilon is too small")
    # The sum of squares is what overflows first: each deviation is at most twice the magnitude.
    _require_finite(_up(count * (2 * x) ** 2, count), node)
    bias = of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else 0.0
    return _up(math.sqrt(count) * of(node.inputs[1]) + bias, count)


def _terms(value: ir.Value | None, axis: int) -> int:
    size = value.shape[axis] if value is not None and value.shape is not None and len(value.shape) else None
    if not isinstance(size, int):
        raise _Unbounded(f"the shape of {value.name if value is not None else 'an input'} is not static")
    return size


def _nearest(bound: float) -> float:
    """Rounded as one FP32 operation rounds. The 53 bits of a double are enough to round twice without harm."""
    with np.errstate(over="ignore"):
        return float(np.float32(bound))


def _up(bound: float, terms: int) -> float:
    """Widened by the rounding of `terms` operations, twice as far as they can drift, and to a larger FP32 number."""
    with np.errstate(over="ignore"):
        return float(np.nextafter(np.float32(bound * (1 + (terms + 4) * 2.0**-23)), np.float32(np.inf)))
