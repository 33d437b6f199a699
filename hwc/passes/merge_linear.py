"""Merges two linear layers with nothing between them into one, where that is less work.

    (x W1 + b1) W2 + b2  =  x (W1 W2) + (b1 W2 + b2)

W1 W2 and b1 W2 are summed in float64 and rounded once. The one layer needs in * out products a row, the two need
in * mid + mid * out: a bottleneck (mid below in * out / (in + out)) is a factorization that somebody meant, and stays.
Beyond that the estimate decides. The last two layers of english_g2 (512 -> 256 -> 97: the end of its recurrent part and
the prediction) become 49 664 products for 155 904, and one kernel fewer, 79 -> 78 behind `chunk_lstm`, in the engine
that TensorRT for RTX 1.7.1 builds for SM86.

A layer is MatMul with a constant matrix at the right, with or without an Add of a constant row, or a plain Gemm
(`canonicalize_gemm` comes first). Limit: weights that another node reads stay, or they would be stored twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import NoMatch, attribute, constant, is_op, only_user, require, skip_unless, sweep
from hwc.graph.model import Namer, constant_array, make_node, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.require_gain import candidate_weight, require_gain


@dataclass(frozen=True)
class _Linear:
    """x W + b: the product, and the Add where the bias has a node of its own."""

    nodes: tuple[ir.Node, ...]
    weight: np.ndarray
    bias: np.ndarray | None

    @property
    def result(self) -> ir.Value:
        return self.nodes[-1].outputs[0]


def merge_linear(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring. A chain of three becomes one in two rewrites."""
    misses: list[NearMiss] = []
    rule = partial(_merge, namer=Namer(model), context=context)
    return PassReport(sweep(model, ("MatMul", "Gemm"), rule, misses=misses), tuple(misses))


def _merge(node: ir.Node, *, namer: Namer, context: PassContext) -> None:
    source = node.inputs[0]
    assert source is not None
    producer = source.producer()
    product = _product_of(producer) if is_op(producer, "Add") else producer
    skip_unless(is_op(product, "MatMul", "Gemm") and _weight(product) is not None and _weight(node) is not None)
    assert product is not None and producer is not None
    first = _read(product)
    # Its Add may be one of a computed value, or of a matrix.
    skip_unless(first.nodes[-1] is producer)
    only_user(source)
    second = _read(node)
    (rows, middle), columns = first.weight.shape, second.weight.shape[1]
    merged, apart = rows * columns, rows * middle + middle * columns
    require(merged <= apart, f"one layer is {merged} products a row, the two are {apart}")

    nodes = _merged_nodes(first, second, namer)
    before = [*first.nodes, *second.nodes]
    require_gain(before, nodes, context, node.graph)
    replace_nodes(before, nodes, {second.result: nodes[-1].outputs[0]})


def _weight(node: ir.Node | None) -> np.ndarray | None:
    array = constant_array(node.inputs[1]) if node is not None else None
    return array if array is not None and array.ndim == 2 and array.dtype.kind == "f" else None


def _product_of(add: ir.Node | None) -> ir.Node | None:
    """The MatMul in front of an Add, on either side."""
    makers = [value.producer() for value in add.inputs if value is not None] if add is not None else []
    return next((maker for maker in makers if is_op(maker, "MatMul")), None)


def _read(product: ir.Node) -> _Linear:
    """The layer that begins with this product; its Add belongs to it if a constant row is added and nothing else
    reads the product."""
    name, columns = product.name, constant(product.inputs[1], "the weight").shape[1]
    weight = product.inputs[1]
    assert weight is not None
    require(len(weight.uses()) == 1, f"{weight.name} is read by {len(weight.uses())} nodes")
    array = constant(weight, "the weight")
    if product.op_type == "Gemm":
        for option, plain in (("alpha", 1.0), ("beta", 1.0), ("transA", 0), ("transB", 0)):
            require(attribute(product, option, plain) == plain, f"{option} of {name} is {attribute(product, option)}")
        bias = None
        if len(product.inputs) > 2 and product.inputs[2] is not None:
            bias = _row(constant(product.inputs[2], f"the bias of {name}"), columns)
            require(bias is not None, f"the bias of {name} is not a row")
        return _Linear((product,), array, bias)
    try:
        add = only_user(product.outputs[0])
    except NoMatch:
        return _Linear((product,), array, None)
    if is_op(add, "Add"):
        other = add.inputs[1] if add.inputs[0] is product.outputs[0] else add.inputs[0]
        shape = product.outputs[0].shape
        given = constant_array(other)
        # A bias of higher rank than the product would give the result its rank.
        if given is not None and shape is not None and given.ndim <= len(shape):
            bias = _row(given, columns)
            if bias is not None:
                return _Linear((product, add), array, bias)
    return _Linear((product,), array, None)


def _row(bias: np.ndarray, columns: int) -> np.ndarray | None:
    is_row = bias.size == 1 or (bias.size == columns and bias.shape[-1] == columns)
    return np.broadcast_to(bias.reshape(-1), (columns,)) if is_row else None


def _merged_nodes(first: _Linear, second: _Linear, namer: Namer) -> list[ir.Node]:
    """The one layer, in no graph yet."""
    dtype = first.weight.dtype
    wide = second.weight.astype(np.float64)
    row = None
    with np.errstate(over="ignore"):  # an overflow is a near miss below
        matrix = (first.weight.astype(np.float64) @ wide).astype(dtype)
        if first.bias is not None or second.bias is not None:
            row = np.zeros(second.weight.shape[1])
            row = row + first.bias.astype(np.float64) @ wide if first.bias is not None else row
            row = (row + second.bias if second.bias is not None else row).astype(dtype)
    require(np.isfinite(matrix).all() and (row is None or np.isfinite(row).all()), "the merged weights overflow")
    head, tail = first.nodes[0], second.nodes[0]
    operands = [head.inputs[0], candidate_weight(namer.fresh(f"{tail.name}_merged_weight"), matrix)]
    bias = None if row is None else candidate_weight(namer.fresh(f"{tail.name}_merged_bias"), row)
    is_gemm = "Gemm" in (head.op_type, tail.op_type)
    if is_gemm and bias is not None:
        operands.append(bias)
    result = second.result

    def layer(op_type: str, inputs: list[ir.Value | None]) -> ir.Node:
        name = namer.fresh(f"{tail.name}_merged")
        return make_node(op_type, inputs, name=name, outputs=[namer.fresh(f"{result.name}_merged")],
                         dtype=result.dtype, shapes=[result.shape])

    nodes = [layer("Gemm" if is_gemm else "MatMul", operands)]
    if bias is not None and not is_gemm:
        nodes.append(layer("Add", [nodes[0].outputs[0], bias]))
    return nodes
