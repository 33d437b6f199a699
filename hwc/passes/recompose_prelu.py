"""Finds leaky rectifiers, max(x, 0) + a min(x, 0), in the arithmetic that exporters write for them.

1. Relu(x) - a Relu(-x)             any order, Neg anywhere (Keras, and hand-written torch)
2. Relu(x) + a (x - |x|) / 2        any order (TensorFlow ports of MTCNN)
3. Where(x > 0, x, a x)
4. Max(x, a x) where 0 <= a <= 1

A single number a gives LeakyRelu(alpha=a), a constant tensor PRelu(x, a), which takes one slope per channel. Engines
fuse these behind a Conv; written out, each is three to six passes over the feature map.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import NoMatch, is_op, only_user, require, skip_unless, sweep
from hwc.graph.model import Namer, add_initializer, constant_array
from hwc.passes.base import PassContext, PassReport
from hwc.passes.polynomial import replace_expression

_Product = tuple[np.ndarray, ir.Value, list[ir.Node]]


def recompose_prelu(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the four forms."""
    misses: list[NearMiss] = []
    count = sweep(model, ("Relu", "Where", "Max"), partial(_recompose, namer=Namer(model)), misses=misses)
    return PassReport(count, tuple(misses))


def _recompose(node: ir.Node, *, namer: Namer) -> None:
    read = {"Relu": _read_sum, "Where": _read_where, "Max": _read_max}[node.op_type]
    x, slope, nodes = read(node)
    top = nodes[-1].outputs[0]
    graph = node.graph
    assert graph is not None and x.dtype is not None
    if slope.size == 1 and (x.shape is None or slope.ndim <= len(x.shape)):
        replace_expression(nodes, top, "LeakyRelu", [x], namer, {"alpha": float(slope.reshape(-1)[0])})
        return
    require(x.shape is not None and slope.ndim <= len(x.shape), "the slope has a higher rank than its input")
    data = add_initializer(graph, namer.fresh(f"{top.name}_slope"), slope.astype(x.dtype.numpy()))
    try:
        replace_expression(nodes, top, "PRelu", [x, data], namer)
    except NoMatch:
        del graph.initializers[str(data.name)]
        raise


def _factors(value: ir.Value | None) -> _Product:
    """The value as constant * variable, through Mul, Div by a constant and Neg; the constant is 1 if there is none."""
    factor = np.asarray(1.0)
    nodes: list[ir.Node] = []
    assert value is not None
    while True:
        node = value.producer()
        if node is None:
            return factor, value, nodes
        if is_op(node, "Neg"):
            factor, step = -factor, node.inputs[0]
        elif is_op(node, "Mul") and constant_array(node.inputs[1]) is not None:
            factor, step = factor * constant_array(node.inputs[1]), node.inputs[0]
        elif is_op(node, "Mul") and constant_array(node.inputs[0]) is not None:
            factor, step = factor * constant_array(node.inputs[0]), node.inputs[1]
        elif is_op(node, "Div") and constant_array(node.inputs[1]) is not None:
            factor, step = factor / constant_array(node.inputs[1]), node.inputs[0]
        else:
            return factor, value, nodes
        assert step is not None
        nodes.insert(0, node)
        value = step


def _read_sum(relu: ir.Node) -> tuple[ir.Value, np.ndarray, list[ir.Node]]:
    """Forms 1 and 2, from the Relu that reads x itself."""
    x = relu.inputs[0]
    assert x is not None
    users = {use.node for use in relu.outputs[0].uses()}
    skip_unless(any(is_op(user, "Add", "Sub") for user in users))
    total = next(user for user in users if is_op(user, "Add", "Sub"))
    other = total.inputs[1] if total.inputs[0] is relu.outputs[0] else total.inputs[0]
    skip_unless(is_op(total, "Add") or total.inputs[0] is relu.outputs[0])
    factor, value, nodes = _factors(other)
    factor = factor if is_op(total, "Add") else -factor
    core = value.producer()
    if is_op(core, "Relu"):
        assert core is not None
        inner, source, below = _factors(core.inputs[0])
        skip_unless(source is x and inner.size == 1 and float(inner.reshape(-1)[0]) == -1.0)
        slope, nodes = -factor, [*below, core, *nodes]
    elif is_op(core, "Sub"):
        assert core is not None
        # x - |x| is 2 min(x, 0)
        absolute = core.inputs[1].producer() if core.inputs[1] is not None else None
        skip_unless(core.inputs[0] is x and is_op(absolute, "Abs"))
        assert absolute is not None
        skip_unless(absolute.inputs[0] is x)
        slope, nodes = 2.0 * factor, [absolute, core, *nodes]
    else:
        raise NoMatch("", near=False)
    only_user(relu.outputs[0])
    return x, slope, [relu, *nodes, total]


def _read_where(where: ir.Node) -> tuple[ir.Value, np.ndarray, list[ir.Node]]:
    condition, x, other = where.inputs
    compare = condition.producer() if condition is not None else None
    skip_unless(x is not None and is_op(compare, "Greater", "GreaterOrEqual"))
    assert compare is not None and x is not None
    slope, source, nodes = _factors(other)
    skip_unless(compare.inputs[0] is x and source is x and nodes)
    zero = constant_array(compare.inputs[1])
    skip_unless(zero is not None and zero.size == 1)
    assert zero is not None
    threshold = float(zero.reshape(-1)[0])
    require(threshold == 0.0, f"the threshold is {threshold:.6g}, expected 0")
    return x, slope, [compare, *nodes, where]


def _read_max(node: ir.Node) -> tuple[ir.Value, np.ndarray, list[ir.Node]]:
    skip_unless(len(node.inputs) == 2)
    for x, other in (node.inputs, reversed(node.inputs)):
        slope, source, nodes = _factors(other)
        if source is x and nodes and x is not None:
            # Outside 0..1 the maximum is the other branch: max(x, 2x) is 2x for positive x.
            require(bool(np.all((slope >= 0) & (slope <= 1))), "Max(x, a x) needs slopes between 0 and 1")
            return x, slope, [*nodes, node]
    raise NoMatch("", near=False)
