"""Leaves one spelling of elementary arithmetic, so that later patterns need to know one.

1. Sum(a, b, c)   -> Add(Add(a, b), c), from the left, as Sum is defined
2. Sub(x, c)      -> Add(x, -c), c constant; exact, since IEEE 754 subtraction is addition of the negative
3. Div(x, c)      -> Mul(x, 1/c), c constant and all powers of two; exact, since only exponents change

Limit: any other divisor stays. x / 6 and x * (1/6) differ in the last bit, and the user's file said x / 6. Floating
point only: integer division truncates.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import constant, require, skip_unless, sweep
from hwc.graph.model import Namer, add_initializer, constant_array, make_node, opset, replace_nodes
from hwc.passes.base import PassContext, PassReport


def canonicalize_arithmetic(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the three cases."""
    misses: list[NearMiss] = []
    rule = partial(_canonicalize, namer=Namer(model), version=opset(model))
    count = sweep(model, ("Sum", "Sub", "Div"), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _canonicalize(node: ir.Node, *, namer: Namer, version: int) -> None:
    if node.op_type == "Sum":
        _expand_sum(node, namer, version)
        return
    x, operand = node.inputs
    skip_unless(constant_array(operand) is not None and constant_array(x) is None)
    array = constant(operand, "the operand")
    skip_unless(np.issubdtype(array.dtype, np.floating))
    assert operand is not None and node.graph is not None
    if node.op_type == "Sub":
        op_type, changed = "Add", -array
    else:
        require(_are_powers_of_two(array), "the divisor is not a power of two, so the product would round differently")
        op_type, changed = "Mul", (1 / array).astype(array.dtype)
    kind = "negated" if node.op_type == "Sub" else "inverse"
    data = add_initializer(node.graph, namer.fresh(f"{operand.name}_{kind}"), changed)
    result = node.outputs[0]
    new = make_node(
        op_type,
        [x, data],
        name=namer.fresh(f"{node.name}_{op_type.lower()}"),
        outputs=[namer.fresh(f"{result.name}_{op_type.lower()}")],
        dtype=result.dtype,
        shapes=[result.shape],
    )
    replace_nodes([node], [new], {result: new.outputs[0]})


def _expand_sum(node: ir.Node, namer: Namer, version: int) -> None:
    skip_unless(len(node.inputs) > 1)
    require(version >= 7, f"Add broadcasts from opset 7 on, the model has {version}")
    total, adds = node.inputs[0], []
    result = node.outputs[0]
    for index, operand in enumerate(node.inputs[1:]):
        is_last = index == len(node.inputs) - 2
        adds.append(
            make_node(
                "Add",
                [total, operand],
                name=namer.fresh(f"{node.name}_add"),
                outputs=[namer.fresh(f"{result.name}_add")],
                dtype=result.dtype,
                shapes=[result.shape if is_last else None],
            )
        )
        total = adds[-1].outputs[0]
    assert total is not None
    replace_nodes([node], adds, {result: total})


def _are_powers_of_two(array: np.ndarray) -> bool:
    if array.size == 0 or not np.all(np.isfinite(array)) or np.any(array == 0):
        return False
    mantissa, _ = np.frexp(array.astype(np.float64))
    # The inverse of a subnormal is infinite, and that of a very large number subnormal.
    smallest = np.finfo(array.dtype).tiny if array.dtype.kind == "f" else 2.0**-126
    inverse = 1 / np.abs(array.astype(np.float64))
    largest = float(np.finfo(array.dtype).max) if array.dtype.kind == "f" else 2.0**127
    return bool(np.all(np.abs(mantissa) == 0.5) and np.all((inverse >= smallest) & (inverse <= largest)))
