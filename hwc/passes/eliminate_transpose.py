"""Removes transpositions that cancel.

1. Transpose with the identity permutation, or one that moves only axes of size 1 without changing the shape -> input
2. Transpose(Transpose(x)) -> one with perm[i] = inner[outer[i]], or none if that is the identity
3. Transpose - elementwise ... - Transpose, the second undoing the first -> the elementwise operators on x itself

Limit: a transposition is moved only where it then disappears, never to a place that merely looks better; operators
between the two must be elementwise with one operand (or a scalar constant) and have no other reader.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import NoMatch, attribute, is_op, only_user, require, skip_unless, sweep
from hwc.graph.model import Namer, bypass, can_bypass, constant_array, mark_origin
from hwc.passes.base import PassContext, PassReport

_UNARY = (
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign",
    "Gelu", "Mish", "Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Floor", "Ceil", "Round", "Sign", "Reciprocal", "Not",
    "Cast", "Clip", "Identity", "ThresholdedRelu",
)  # fmt: skip
_BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")


def eliminate_transpose(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the three cases."""
    misses: list[NearMiss] = []
    names = Namer(model)
    count = sweep(model, ("Transpose",), lambda node: _eliminate(node, names), misses=misses)
    return PassReport(count, tuple(misses))


def _perm(node: ir.Node) -> list[int]:
    perm = attribute(node, "perm")
    if perm is None:
        value = node.inputs[0]
        if value is None or value.shape is None:
            raise NoMatch("the rank of its input is not known")
        return list(range(len(value.shape)))[::-1]
    return list(perm)


def _moves_nothing(perm: list[int], value: ir.Value | None) -> bool:
    if perm == sorted(perm):
        return True
    if value is None or value.shape is None:
        return False
    dims = list(value.shape)
    wide = [axis for axis in perm if dims[axis] != 1]
    return wide == sorted(wide) and [dims[axis] for axis in perm] == dims


def _eliminate(node: ir.Node, names: Namer) -> None:
    perm, source = _perm(node), node.inputs[0]
    assert source is not None
    if _moves_nothing(perm, source):
        require(can_bypass(node, source), "it gives a graph output its name")
        bypass(node, source)
        return
    between: list[ir.Node] = []
    value = source
    while (step := value.producer()) is not None and step.graph is node.graph and (at := _operand(step)) is not None:
        between.append(step)
        value = step.inputs[at]  # type: ignore[assignment]
    skip_unless(is_op(step, "Transpose") and step is not None and step.graph is node.graph)
    assert step is not None
    inner = _perm(step)
    total = [inner[axis] for axis in perm]
    root = step.inputs[0]
    assert root is not None
    if not between:
        _merge(node, step, total, root)
        return
    require(_moves_nothing(total, root), "the two transpositions with elementwise operators between do not cancel")
    for inside in between:
        only_user(inside.outputs[0])
    _cancel(node, step, between, root, names)


def _operand(node: ir.Node) -> int | None:
    """Which input an elementwise operator works on, if it has only one that matters."""
    if is_op(node, *_UNARY):
        return 0
    if is_op(node, *_BINARY) and len(node.inputs) == 2:
        for index in (0, 1):
            other = constant_array(node.inputs[1 - index])
            if other is not None and other.ndim == 0:
                return index
    return None


def _merge(node: ir.Node, inner: ir.Node, total: list[int], root: ir.Value) -> None:
    if _moves_nothing(total, root) and can_bypass(node, root):
        bypass(node, root)
        return
    # With another reader the inner one stays, but two passes over the data in a row become one all the same.
    node.replace_input_with(0, root)
    node.attributes["perm"] = ir.AttrInt64s("perm", total)
    mark_origin(node, [node, inner])


def _cancel(node: ir.Node, first: ir.Node, between: list[ir.Node], root: ir.Value, names: Namer) -> None:
    at = _operand(between[-1])
    assert at is not None
    between[-1].replace_input_with(at, root)
    for step in between:
        value = step.outputs[0]
        value.shape = ir.Shape(list(root.shape)) if root.shape is not None else None
        # The layout is another, so the tensor is another; the last one is what the second Transpose made.
        value.name = names.fresh(f"{value.name}_untransposed")
        mark_origin(step, [step, first, node])
    last, name = between[0].outputs[0], node.outputs[0].name
    bypass(node, last)
    last.name = name
