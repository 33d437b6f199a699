"""Reads a chain of scalar arithmetic as a polynomial, so that one rule covers every order in which it may be written.

    Mul(0.5, Mul(x, Add(1, e)))   Mul(Mul(x, 0.5), Add(e, 1))   Div(Add(x, Mul(x, e)), 2)

are all 0.5 x + 0.5 x e in the variables (x, e): the terms {(1, 0): 0.5, (1, 1): 0.5}, keyed by exponents. A rule says
which terms it wants; the ways to associate, commute and divide are no concern of it.

Coefficients are compared with a relative tolerance: exporters write 1/sqrt(2) as 0.7071, and half precision keeps
three digits. Limit: constants must hold a single element, and at most `_DEPTH` operators are looked through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from hwc.graph.match import NoMatch, is_op, only_user, require, skip_unless
from hwc.graph.model import Namer, constant_array, make_node, replace_nodes

Terms = Mapping[tuple[int, ...], float]
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Neg")
_DEPTH = 12
_MAX_DEGREE = 4
# 0.7071 for 1/sqrt(2) is off by 1e-5, which is below what FP32 sums already differ by.
_TOLERANCE = {ir.DataType.FLOAT16: 1e-3, ir.DataType.BFLOAT16: 8e-3}


@dataclass(frozen=True)
class Expression:
    """The terms of a value in the variables asked for, and the nodes that compute it from them."""

    terms: Terms
    nodes: tuple[ir.Node, ...]


def scalar(value: ir.Value | None) -> float | None:
    """The value as a number if it is a constant of one floating-point element, else None."""
    array = constant_array(value)
    if array is None or array.size != 1 or value is None or value.dtype is None or not value.dtype.is_floating_point():
        return None
    return float(array.reshape(-1)[0])


def read_expression(value: ir.Value, variables: Sequence[ir.Value]) -> Expression | None:
    """The value as a polynomial in `variables`; None if it depends on anything else or is no polynomial."""
    nodes: dict[ir.Node, None] = {}
    terms = _read(value, variables, nodes, _DEPTH)
    return Expression(terms, tuple(nodes)) if terms is not None else None


def _read(
    value: ir.Value | None, variables: Sequence[ir.Value], nodes: dict[ir.Node, None], depth: int
) -> Terms | None:
    if value is None or depth == 0:
        return None
    for index, variable in enumerate(variables):
        if value is variable:
            return {tuple(int(i == index) for i in range(len(variables))): 1.0}
    number = scalar(value)
    if number is not None:
        return {(0,) * len(variables): number}
    node = value.producer()
    if node is None or not is_op(node, *_ARITHMETIC):
        return None
    operands = [_read(operand, variables, nodes, depth - 1) for operand in node.inputs]
    if any(operand is None for operand in operands):
        return None
    result = _combine(node.op_type, [operand for operand in operands if operand is not None])
    if result is not None:
        nodes[node] = None
    return result


def _combine(op_type: str, operands: Sequence[Terms]) -> Terms | None:
    first, *rest = operands
    constant = {key: value for key, value in rest[0].items() if any(key)} == {} if rest else False
    number = sum(rest[0].values()) if constant else 0.0
    if op_type == "Neg":
        return {key: -value for key, value in first.items()}
    if op_type in ("Add", "Sub"):
        sign = 1.0 if op_type == "Add" else -1.0
        total = dict(first)
        for key, value in rest[0].items():
            total[key] = total.get(key, 0.0) + sign * value
        return total
    if op_type == "Mul":
        return _multiply(first, rest[0])
    if op_type == "Div":
        return {key: value / number for key, value in first.items()} if constant and number else None
    if op_type == "Pow" and constant and number in (1.0, 2.0, 3.0, 4.0):
        power: Terms | None = first
        for _ in range(int(number) - 1):
            power = _multiply(power, first) if power is not None else None
        return power
    return None


def _multiply(a: Terms, b: Terms) -> Terms | None:
    product: dict[tuple[int, ...], float] = {}
    for left, x in a.items():
        for right, y in b.items():
            key = tuple(i + j for i, j in zip(left, right))
            if sum(key) > _MAX_DEGREE:
                return None
            product[key] = product.get(key, 0.0) + x * y
    return product


def is_equal(terms: Terms, wanted: Terms, dtype: ir.DataType | None) -> bool:
    """Whether all coefficients agree within the tolerance of the element type."""
    tolerance = _TOLERANCE.get(dtype, 2e-5) if dtype is not None else 2e-5
    return set(terms) == set(wanted) and all(math.isclose(terms[key], wanted[key], rel_tol=tolerance) for key in wanted)


def find_variable(value: ir.Value, *wanted: Terms) -> tuple[ir.Value, Expression, int]:
    """The value x for which `value` is one of the polynomials in x alone, how it is computed, and which one it is.

    Raises:
        NoMatch: near if the terms are those of the last `wanted` but a coefficient is off, far otherwise.
    """
    off: Terms | None = None
    queue, seen = [value], {value}
    # Nearest first, so that x is the last value before the arithmetic, even where arithmetic made x.
    for candidate in queue:
        expression = read_expression(value, (candidate,))
        if expression is not None and candidate is not value:
            for index, terms in enumerate(wanted):
                if is_equal(expression.terms, terms, value.dtype):
                    return candidate, expression, index
            if off is None and set(expression.terms) == set(wanted[-1]):
                off = expression.terms
        node = candidate.producer()
        if node is not None and is_op(node, *_ARITHMETIC) and len(queue) < 4 * _DEPTH:
            for operand in node.inputs:
                if operand is not None and operand not in seen and constant_array(operand) is None:
                    seen.add(operand)
                    queue.append(operand)
    if off is not None:
        raise _off(off, wanted[-1])
    raise NoMatch("", near=False)


def climb(start: ir.Value, variables: Sequence[ir.Value], *wanted: Terms) -> tuple[ir.Value, Expression]:
    """The first value above `start`, reached through its only readers, that is one of the `wanted` polynomials.

    Raises:
        NoMatch: as in `find_variable`; near as well if a value on the way is read twice or is a graph output.
    """
    value, off = start, None
    for _ in range(_DEPTH):
        try:
            node = only_user(value)
        except NoMatch as miss:
            if off is None:
                raise
            raise NoMatch(f"{_off(off, wanted[-1]).reason}, and {miss.reason}") from None
        if not is_op(node, *_ARITHMETIC):
            break
        value = node.outputs[0]
        expression = read_expression(value, variables)
        if expression is None:
            break
        if any(is_equal(expression.terms, terms, value.dtype) for terms in wanted):
            return value, expression
        if set(expression.terms) == set(wanted[-1]):
            off = expression.terms
    if off is not None:
        raise _off(off, wanted[-1])
    raise NoMatch("", near=False)


def _off(terms: Terms, wanted: Terms) -> NoMatch:
    key = max(wanted, key=lambda k: abs(terms[k] - wanted[k]) / (abs(wanted[k]) or 1.0))
    return NoMatch(f"a coefficient is {terms[key]:.6g}, expected {wanted[key]:.6g}")


def require_private(nodes: Sequence[ir.Node], top: ir.Value) -> None:
    """A near miss if anything but `top` that these nodes compute is read from outside."""
    inside = set(nodes)
    for node in nodes:
        for value in node.outputs:
            if value is top:
                continue
            require(not value.is_graph_output(), f"{value.name} is a graph output")
            require(all(use.node in inside for use in value.uses()), f"{value.name} is read elsewhere")


def replace_expression(
    nodes: Sequence[ir.Node],
    top: ir.Value,
    op_type: str,
    inputs: Sequence[ir.Value],
    namer: Namer,
    attributes: Mapping[str, float | int | str] | None = None,
) -> ir.Node:
    """Puts one operator in place of the nodes that compute `top` from the first input, which must have top's rank.

    Raises:
        NoMatch: near; a value in between is needed elsewhere, or a constant of higher rank changes the shape.
    """
    require_private(nodes, top)
    x, last = inputs[0], top.producer()
    require(x.shape is not None and top.shape is not None, f"the rank of {x.name} is not known")
    assert x.shape is not None and top.shape is not None and last is not None
    require(len(x.shape) == len(top.shape), f"a constant gives {top.name} a higher rank than {x.name}")
    skip_unless(x.dtype == top.dtype)
    new = make_node(
        op_type,
        inputs,
        name=namer.fresh(f"{last.name}_{op_type.lower()}"),
        outputs=[namer.fresh(f"{top.name}_{op_type.lower()}")],
        attributes=attributes,
        dtype=top.dtype,
        shapes=[top.shape],
    )
    ordered = [node for node in dict.fromkeys(nodes) if node is not last]
    replace_nodes([*ordered, last], [new], {top: new.outputs[0]})
    return new
