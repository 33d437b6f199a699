"""Recognises a written-out standardization over some axes, the core of layer and instance normalization:

    m = mean(x)    d = x - m    v = mean(d^2)    z = d / sqrt(v + epsilon)

d may be computed twice, d^2 be Pow or Mul, and the quotient a Div, or a Mul by Reciprocal(Sqrt) or by Pow(-1/2). Both
means must be over the same axes with keepdims. Limit: E[x^2] - m^2 is not recognised, since it rounds differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hwc.graph.match import NoMatch, attribute, constant, is_op, only_user, producer, require, skip_unless
from hwc.graph.model import constant_array
from hwc.passes.polynomial import scalar


@dataclass(frozen=True)
class Standardized:
    """z = (x - mean) / sqrt(variance + epsilon) over `axes`, which are sorted and count from the front."""

    x: ir.Value
    z: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    nodes: tuple[ir.Node, ...]


def rank_of(value: ir.Value) -> int:
    """The number of dimensions; a near miss if it is not known."""
    if value.shape is None:
        raise NoMatch(f"the rank of {value.name} is not known")
    return len(value.shape)


def reduced_axes(node: ir.Node) -> tuple[int, ...]:
    """The axes of a Reduce operator, sorted, counted from the front; attribute up to opset 17, input after.

    Raises:
        NoMatch: near; the axes are computed, or the rank of the input is not known.
    """
    assert node.inputs[0] is not None
    rank = rank_of(node.inputs[0])
    axes: Sequence[int] | None = attribute(node, "axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = [int(axis) for axis in constant(node.inputs[1], "the list of axes").reshape(-1)]
    if not axes:
        axes = () if attribute(node, "noop_with_empty_axes", 0) else range(rank)
    return tuple(sorted(int(axis) % rank for axis in axes))


def read_standardized(root: ir.Node) -> Standardized:
    """The pattern around its square root (a Sqrt, or a Pow to 1/2 or -1/2).

    Raises:
        NoMatch: far where this is no such pattern, near where it is one with a condition unmet.
    """
    exponent = 0.5 if root.op_type == "Sqrt" else scalar(root.inputs[1])
    skip_unless(exponent in (0.5, -0.5))
    shifted = producer(root.inputs[0], "Add")
    variance, epsilon = _with_scalar(shifted)
    second_mean = producer(variance, "ReduceMean")
    square = producer(second_mean.inputs[0], "Pow", "Mul")
    if square.op_type == "Pow":
        skip_unless(scalar(square.inputs[1]) == 2.0 or _is_integer_two(square.inputs[1]))
    else:
        skip_unless(square.inputs[0] is square.inputs[1])
    difference = producer(square.inputs[0], "Sub")
    first_mean = producer(difference.inputs[1], "ReduceMean")
    x = difference.inputs[0]
    skip_unless(x is not None and first_mean.inputs[0] is x)
    axes = reduced_axes(first_mean)
    require(axes == reduced_axes(second_mean), "mean and variance are over different axes")
    for mean in (first_mean, second_mean):
        require(attribute(mean, "keepdims", 1), f"{mean.name} drops the axes")

    nodes = [first_mean, difference, square, second_mean, shifted, root]
    quotient = only_user(root.outputs[0])
    inverse = exponent == -0.5
    if is_op(quotient, "Reciprocal") and not inverse:
        nodes.append(quotient)
        quotient, inverse = only_user(quotient.outputs[0]), True
    skip_unless(is_op(quotient, "Mul" if inverse else "Div"))
    numerator = quotient.inputs[0] if quotient.inputs[1] is nodes[-1].outputs[0] else quotient.inputs[1]
    skip_unless(inverse or quotient.inputs[1] is root.outputs[0])
    nodes += _second_difference(numerator, difference, x)
    assert x is not None
    return Standardized(x, quotient.outputs[0], axes, epsilon, (*nodes, quotient))


def _second_difference(numerator: ir.Value | None, difference: ir.Node, x: ir.Value | None) -> list[ir.Node]:
    """The nodes that compute x - m once more for the numerator; empty where the first one is read."""
    if numerator is difference.outputs[0]:
        return []
    again = producer(numerator, "Sub")
    skip_unless(again.inputs[0] is x)
    if again.inputs[1] is difference.inputs[1]:
        return [again]
    mean = producer(again.inputs[1], "ReduceMean")
    first = producer(difference.inputs[1], "ReduceMean")
    skip_unless(mean.inputs[0] is x and reduced_axes(mean) == reduced_axes(first))
    return [mean, again]


def _with_scalar(node: ir.Node) -> tuple[ir.Value, float]:
    """The variable and the constant of an Add; a far miss if there is no scalar constant."""
    for variable, other in (node.inputs, reversed(node.inputs)):
        number = scalar(other)
        if number is not None and variable is not None:
            return variable, number
    raise NoMatch("", near=False)


def _is_integer_two(value: ir.Value | None) -> bool:
    # Pow takes an integer exponent beside a floating-point base, and exporters use that.
    array = constant_array(value)
    return array is not None and array.size == 1 and float(array.reshape(-1)[0]) == 2.0


@dataclass(frozen=True)
class Affine:
    """z * scale + bias as far as it is there: `top` is the last value of it, z itself where nothing follows."""

    top: ir.Value
    scale: np.ndarray | None
    bias: np.ndarray | None
    nodes: tuple[ir.Node, ...]


def read_affine(z: ir.Value) -> Affine:
    """The constant scale and bias behind `z`."""
    top, nodes = z, []
    found: list[np.ndarray | None] = []
    for op_type in ("Mul", "Add"):
        array = None
        users = {use.node for use in top.uses()}
        if len(users) == 1 and not top.is_graph_output():
            (user,) = users
            if is_op(user, op_type):
                array = constant_array(user.inputs[1] if user.inputs[0] is top else user.inputs[0])
                if array is not None and top.shape is not None and array.ndim > len(top.shape):
                    array = None
                if array is not None:
                    nodes.append(user)
                    top = user.outputs[0]
        found.append(array)
    return Affine(top, found[0], found[1], tuple(nodes))
