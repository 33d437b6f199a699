"""Per-channel affine maps y = scale * x + shift: reading them off nodes, and moving them through other nodes.

A BatchNormalization, and a Mul, Div, Add or Sub with one constant, is such a map. What moves data (Transpose, Reshape,
...) carries a map along; an average commutes with any (unless it counts padded zeros), a maximum with one whose
scales are all >= 0. Anything else, above all Relu, lets none pass exactly. All arithmetic is in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hwc.graph.match import NoMatch, attribute, constant, is_op, require, skip_unless
from hwc.graph.model import constant_array

_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift. Both are float64 arrays of x's rank, each dimension 1 or x's own."""

    scale: np.ndarray
    shift: np.ndarray

    @property
    def has_shift(self) -> bool:
        return bool(np.any(self.shift))


def read_affine(node: ir.Node) -> tuple[ir.Value, Affine]:
    """The map that a BatchNormalization, or a Mul, Div, Add or Sub with one constant, is.

    Returns:
        Its input and the map. A near miss if the constant varies along more than one axis, or stretches the input.
    """
    if is_op(node, "BatchNormalization"):
        return read_batchnorm(node)
    skip_unless(is_op(node, "Mul", "Div", "Add", "Sub"))
    left, right = node.inputs
    held, source = (right, left) if constant_array(right) is not None else (left, right)
    skip_unless(held is not None and source is not None and constant_array(source) is None)
    assert held is not None and source is not None
    skip_unless(constant_array(held) is not None and held.dtype is not None and held.dtype.is_floating_point())
    require(source.shape is not None, f"the rank of {source.name} is not known")
    shape = list(source.shape)  # type: ignore[arg-type]
    c = constant(held, "the operand").astype(np.float64)
    skip_unless(c.ndim <= len(shape))
    c = c.reshape((1,) * (len(shape) - c.ndim) + c.shape)
    wide = [axis for axis in range(c.ndim) if c.shape[axis] > 1]
    skip_unless(len(wide) <= 1 and all(shape[axis] == c.shape[axis] for axis in wide))
    one, zero = np.ones_like(c), np.zeros_like(c)
    if node.op_type == "Add":
        return source, Affine(one, c)
    if node.op_type == "Mul":
        return source, Affine(c, zero)
    if node.op_type == "Sub":
        return source, Affine(one, -c) if held is right else Affine(-one, c)
    skip_unless(held is right)
    require(np.all(c != 0), "the divisor has a zero")
    return source, Affine(1.0 / c, zero)


def read_batchnorm(node: ir.Node) -> tuple[ir.Value, Affine]:
    """The input and the map of an inference BatchNormalization."""
    require(not attribute(node, "training_mode", 0), "training_mode is set")
    require(attribute(node, "spatial", 1), "spatial=0 normalizes per element")
    require(not any(extra.uses() or extra.is_graph_output() for extra in node.outputs[1:]), "its statistics are read")
    source = node.inputs[0]
    require(source is not None and source.shape is not None, "the rank of its input is not known")
    assert source is not None and source.shape is not None
    what = ("scale", "bias", "mean", "variance")
    gamma, beta, mean, variance = (constant(v, n).astype(np.float64) for v, n in zip(node.inputs[1:], what))
    spread = variance + attribute(node, "epsilon", 1e-5)
    require(np.all(spread > 0), "variance + epsilon is not positive")
    scale = gamma / np.sqrt(spread)
    rank = len(source.shape)
    return source, Affine(on_axis(scale, 1, rank), on_axis(beta - mean * scale, 1, rank))


def on_axis(vector: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """The vector laid along one axis of an array of that rank."""
    return vector.reshape([-1 if i == axis else 1 for i in range(rank)])


def along_axis(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """The array as a vector of `size` along `axis`; a near miss if it varies along another."""
    rest = tuple(i for i in range(array.ndim) if i != axis)
    first = array[tuple(slice(None) if i == axis else slice(0, 1) for i in range(array.ndim))]
    require(np.array_equal(np.broadcast_to(first, array.shape), array), "the map is not per channel of the layer")
    require(first.shape[axis] in (1, size), f"{first.shape[axis]} channels meet a layer of {size}")
    return np.broadcast_to(first.squeeze(rest), (size,)) if rest else np.broadcast_to(first, (size,))


def compose(first: Affine, then: Affine) -> Affine:
    """The map x -> then(first(x))."""
    return Affine(first.scale * then.scale, first.shift * then.scale + then.shift)


def through(user: ir.Node, affine: Affine) -> Affine:
    """The map behind `user` that equals `affine` before it."""
    if is_op(user, "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"):
        return through_pool(user, affine)
    if is_op(user, "Transpose"):
        perm = attribute(user, "perm", list(range(affine.scale.ndim))[::-1])
        return Affine(np.transpose(affine.scale, perm), np.transpose(affine.shift, perm))
    if is_op(user, *_RESHAPES):
        before, after = _per_sample(user.inputs[0]), _per_sample(user.outputs[0])
        require(np.prod(before) == np.prod(after), f"{user.op_type} mixes samples of the batch")
        for array in (affine.scale, affine.shift):
            require(array.shape[0] == 1, "the map differs within the batch")
        scale, shift = (np.broadcast_to(a, before).reshape(after) for a in (affine.scale, affine.shift))
        return Affine(scale, shift)
    raise NoMatch(f"before {user.op_type} it cannot be folded forward exactly", near=False)


def through_pool(pool: ir.Node, affine: Affine) -> Affine:
    """The same map, if the pool commutes with it."""
    require(max(affine.scale.shape[2:], default=1) == 1 and max(affine.shift.shape[2:], default=1) == 1,
            f"the map varies within a window of {pool.op_type}")
    if "Max" in pool.op_type:
        require(all(not v.uses() and not v.is_graph_output() for v in pool.outputs[1:]), "MaxPool's indices are read")
        require(np.all(affine.scale >= 0), "a negative scale does not commute with MaxPool")
    elif pool.op_type == "AveragePool" and attribute(pool, "count_include_pad", 0) and affine.has_shift:
        padded = any(attribute(pool, "pads", [])) or attribute(pool, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
        require(not padded and not attribute(pool, "ceil_mode", 0), "AveragePool counts padded zeros")
    return affine


def _per_sample(value: ir.Value | None) -> tuple[int, ...]:
    """The shape with the first dimension set to 1: what one sample of the batch looks like."""
    require(value is not None and value.shape is not None and len(value.shape) > 0, "a rank is not known")
    assert value is not None and value.shape is not None
    rest = list(value.shape)[1:]
    require(all(isinstance(dim, int) for dim in rest), f"the shape of {value.name} is not static")
    return (1, *(int(dim) for dim in rest))  # type: ignore[arg-type]
