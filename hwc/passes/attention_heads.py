"""Reads multi-head self-attention as exporters write it, whatever way they cut the projections into heads.

    P = softmax(f(Q K^T)),   O = P V,   Q, K, V = heads of x W + b

From Softmax it goes up through elementwise operators (the mask, a scale) to the product Q K^T, down through the guard
that sets NaN to zero to the product P V, and from each factor up to the projection. What lies between a projection and
its heads is not matched operator by operator: the positions of the projection's elements are moved through the same
operators, and each head element (b, h, s, j) must come from row (b, s). Its column is then known, so one product per
factor, one for all three with a Split, and any order of heads are one case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hwc.graph.match import NoMatch, attribute, constant, is_op, only_user, require, skip_unless, static_shape
from hwc.graph.model import constant_array

_SHAPE_ONLY = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
_MOVES = (*_SHAPE_ONLY, "Transpose", "Split", "Gather")
_ON_SCORES = ("Add", "Sub", "Mul", "Div", "Where")
_OTHER_LAYOUT = "is not laid out as [batch, heads, rows, width]"


@dataclass(frozen=True)
class Projection:
    """The heads of Q, K or V: `weight` is [heads, width, inputs] and `bias` [heads, width], scales folded in.

    Args:
        nodes: all that makes the heads from x.
    """

    x: ir.Value
    weight: np.ndarray
    bias: np.ndarray | None
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class Attention:
    """One attention: the product of scores, the product with V, and the [batch, rows, heads * width] that comes out.

    Args:
        joining: nodes from the product with V, excluded, to `result`.
    """

    projections: tuple[Projection, Projection, Projection]
    scores: ir.Node
    product: ir.Node
    joining: tuple[ir.Node, ...]
    result: ir.Value
    batch: int
    heads: int
    rows: int
    width: int

    @property
    def x(self) -> ir.Value:
        return self.projections[0].x

    @property
    def making(self) -> tuple[ir.Node, ...]:
        """What makes the heads of Q, K and V, each node once."""
        return tuple(dict.fromkeys(node for one in self.projections for node in one.nodes))


def read_attention(softmax: ir.Node, version: int) -> Attention:
    """The attention around a Softmax; `version` is that of the default opset.

    Raises:
        NoMatch: far if there are no two products around it, near if they are not self-attention of this form.
    """
    scores = _find_scores(softmax.inputs[0])
    skip_unless(scores is not None)
    assert scores is not None
    probabilities = _skip_guard(softmax)
    users = [use for use in probabilities.uses() if is_op(use.node, "MatMul") and use.idx == 0]
    skip_unless(users)
    product = users[0].node
    shape = static_shape(scores.outputs[0])
    require(len(shape) == 4, f"{scores.name} has {len(shape)} axes, not batch, heads, rows, columns")
    batch, heads, rows, columns = shape[0], shape[1], shape[2], shape[3]
    axis = attribute(softmax, "axis", -1 if version >= 13 else 1)
    require(axis in (-1, 3), f"the axis of {softmax.name} is {axis}")
    require(rows == columns, f"{rows} rows look at {columns}")
    width = static_shape(product.outputs[0])[-1]
    query, key = (_read_projection(read, transposed=index == 1) for index, read in enumerate(scores.inputs))
    value = _read_projection(product.inputs[1], transposed=False)
    require(query.x is key.x is value.x, f"Q, K and V of {scores.name} are not computed from one value")
    sizes = {one.weight.shape for one in (query, key, value)}
    require(len(sizes) == 1, f"Q, K and V of {scores.name} have other sizes: {sorted(sizes)}")
    require(query.weight.shape[:2] == (heads, width), f"{product.outputs[0].name} {_OTHER_LAYOUT}")
    joining, result = _read_joining(product.outputs[0], (batch, heads, rows, width))
    found = Attention((query, key, value), scores, product, joining, result, batch, heads, rows, width)
    inside = {*found.making, scores, product}
    skip_unless(all(node.graph is softmax.graph for node in inside))
    for node in found.making:
        for made in node.outputs:
            require(not made.is_graph_output(), f"{made.name} is a graph output")
            require(all(use.node in inside for use in made.uses()), f"{made.name} is read elsewhere")
    only_user(probabilities)
    only_user(scores.outputs[0])
    return found


def _find_scores(value: ir.Value | None) -> ir.Node | None:
    """The product of two computed values above a Softmax, through elementwise operators of the same shape."""
    node = value.producer() if value is not None else None
    if is_op(node, "MatMul"):
        assert node is not None
        return node if all(constant_array(read) is None for read in node.inputs) else None
    if not is_op(node, *_ON_SCORES):
        return None
    assert node is not None and value is not None
    found = (_find_scores(read) for read in node.inputs if read is not None and read.shape == value.shape)
    return next((scores for scores in found if scores is not None), None)


def _skip_guard(softmax: ir.Node) -> ir.Value:
    """Where(IsNaN(p), 0, p) behind the Softmax p, or p."""
    value = softmax.outputs[0]
    for use in value.uses():
        node = use.node
        if is_op(node, "Where") and use.idx == 2 and node.inputs[0] is not None:
            test = node.inputs[0].producer()
            if is_op(test, "IsNaN") and test is not None and test.inputs[0] is value:
                return node.outputs[0]
    return value


def _read_projection(value: ir.Value | None, *, transposed: bool) -> Projection:
    name = value.name if value is not None else "an input"
    path: list[ir.Value] = []
    scale = 1.0
    while value is not None and is_op(value.producer(), *_MOVES, "Mul", "Div"):
        node = value.producer()
        assert node is not None
        path.append(value)
        value, factor = (node.inputs[0], 1.0) if is_op(node, *_MOVES) else _read_scale(node)
        scale *= factor
    linear = value.producer() if value is not None else None
    x, weight, bias, nodes = _read_linear(linear, name)
    shape = static_shape(value)
    require(len(shape) == 3, f"{value.name if value is not None else name} has {len(shape)} axes")
    places: np.ndarray = np.arange(np.prod(shape)).reshape(shape)
    for moved in reversed(path):
        places = _move(moved, places)
    require(places.ndim == 4 and places.size, f"{name} {_OTHER_LAYOUT}")
    if transposed:
        places = places.swapaxes(2, 3)
    columns = places[0, :, 0, :]
    rows = np.arange(shape[0] * shape[1]).reshape(shape[0], 1, shape[1], 1) * shape[2]
    fits = places.shape[0] == shape[0] and places.shape[2] == shape[1] and columns.max() < shape[2]
    require(fits and np.array_equal(places, rows + columns[None, :, None, :]), f"{name} {_OTHER_LAYOUT}")
    scaled = (weight.T[columns].astype(np.float64) * scale).astype(weight.dtype)
    held = None if bias is None else (bias[columns].astype(np.float64) * scale).astype(bias.dtype)
    makers = [producer for one in path if (producer := one.producer()) is not None]
    return Projection(x, scaled, held, (*nodes, *reversed(makers)))


def _read_scale(node: ir.Node) -> tuple[ir.Value | None, float]:
    """The value that a Mul or Div scales by one number, and the number."""
    for index in (1, 0) if node.op_type == "Mul" else (1,):
        array = constant_array(node.inputs[index])
        number = float(array.reshape(-1)[0]) if array is not None and array.size == 1 else 0.0
        if number:
            return node.inputs[1 - index], number if node.op_type == "Mul" else 1 / number
    raise NoMatch(f"{node.name} does not scale by one number")


def _read_linear(node: ir.Node | None, name: str | None) -> tuple[
    ir.Value, np.ndarray, np.ndarray | None, tuple[ir.Node, ...]
]:
    """x, weight, bias and nodes of x W or x W + b."""
    add = node if is_op(node, "Add") else None
    bias = None
    if add is not None:
        place = 0 if constant_array(add.inputs[0]) is not None else 1
        bias = constant(add.inputs[place], f"the bias of {add.name}")
        product = add.inputs[1 - place]
        node = product.producer() if product is not None else None
    require(is_op(node, "MatMul"), f"{name} is not a linear projection")
    assert node is not None
    weight = constant(node.inputs[1], f"the weight of {node.name}")
    require(weight.ndim == 2, f"the weight of {node.name} has {weight.ndim} axes")
    if bias is not None:
        require(bias.shape[-1:] == weight.shape[1:] == (bias.size,), f"the bias of {name} is not a row")
        bias = bias.reshape(-1)
    x = node.inputs[0]
    assert x is not None
    return x, weight, bias, (node,) if add is None else (node, add)


def _move(value: ir.Value, places: np.ndarray) -> np.ndarray:
    """The places after the node that makes `value`."""
    node = value.producer()
    assert node is not None
    if is_op(node, "Transpose"):
        return places.transpose(attribute(node, "perm", None))
    if is_op(node, "Split"):
        axis = attribute(node, "axis", 0)
        start = sum(static_shape(part)[axis] for part in node.outputs[: node.outputs.index(value)])
        return places.take(range(start, start + static_shape(value)[axis]), axis)
    if is_op(node, "Gather"):
        return places.take(constant(node.inputs[1], f"the index of {node.name}"), attribute(node, "axis", 0))
    return places.reshape(static_shape(value))  # shapes only, and scales


def _read_joining(value: ir.Value, shape: tuple[int, int, int, int]) -> tuple[tuple[ir.Node, ...], ir.Value]:
    """The nodes that put the heads side by side again, and the value that a matrix product then reads."""
    batch, heads, rows, width = shape
    require(static_shape(value) == shape, f"{value.name} {_OTHER_LAYOUT}")
    places = np.arange(np.prod(shape)).reshape(shape)
    joined = places.transpose(0, 2, 1, 3).reshape(batch, rows, heads * width)
    nodes: list[ir.Node] = []
    while is_op(node := only_user(value), *_SHAPE_ONLY, "Transpose"):
        nodes.append(node)
        value = node.outputs[0]
        places = _move(value, places)
    require(np.array_equal(places, joined), f"the heads behind {nodes[0].name if nodes else value.name} are not joined")
    require(is_op(node, "MatMul"), f"{value.name} is not read by a matrix product")
    return tuple(nodes), value
