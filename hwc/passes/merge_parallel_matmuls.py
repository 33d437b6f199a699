"""Merges matrix products of one value with several constant matrices into one product: attention's Q, K and V.

    [x W1 + b1, x W2 + b2, ...]  ->  Split(x [W1 | W2 | ...] + [b1 | b2 | ...])

x is read once, and one wide product fills more tiles than three narrow ones. MatMul with a constant matrix at the
right, each with its bias Add or none of them with one, and Gemm in its plain form (`canonicalize_gemm` comes first).
Gated by the estimate, since a Split moves the result once more where an engine cannot read a slice in place. With
TensorRT for RTX 1.7.1 for SM86 the merge costs no kernel, unlike that of Convs: onet has 14 instead of 16, transnetv2
79 instead of 80, minilm 79 either way (there `transpose_attention` comes first).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import NoMatch, attribute, constant, is_op, skip_unless, sweep
from hwc.graph.model import Namer, constant_array, make_node, opset
from hwc.passes.base import PassContext, PassReport
from hwc.passes.parallel_branches import Branch, find_branches, graph_order, make_split, replace_branches
from hwc.passes.require_gain import candidate_weight, require_gain


def merge_parallel_matmuls(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring. A rewrite is a group of products made one."""
    misses: list[NearMiss] = []
    rule = partial(_merge, order=graph_order(model), namer=Namer(model), version=opset(model), context=context)
    return PassReport(sweep(model, ("MatMul", "Gemm"), rule, misses=misses), tuple(misses))


def _merge(
    node: ir.Node, *, order: dict[ir.Node, int], namer: Namer, version: int, context: PassContext
) -> None:
    branches = find_branches(node, order, _read_branch)
    merged, columns = _merged_nodes(branches, namer)
    split = make_split(merged[-1].outputs[0], branches, columns, -1, version=version, namer=namer)
    before = [member for branch in branches for member in branch.nodes]
    require_gain(before, [*merged, split], context, node.graph)
    replace_branches(branches, [*merged, split], {b.result: v for b, v in zip(branches, split.outputs)})


def _read_branch(node: ir.Node) -> tuple[Hashable, Branch]:
    weight = constant(node.inputs[1], f"the weight of {node.name}")
    skip_unless(weight.ndim == 2)
    key = (node.op_type, weight.shape[0], weight.dtype.str)
    if node.op_type == "Gemm":
        for name, plain in (("alpha", 1.0), ("beta", 1.0), ("transA", 0), ("transB", 0)):
            if attribute(node, name, plain) != plain:
                raise NoMatch(f"{name} of {node.name} is {attribute(node, name)}")
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            _require_row(constant(node.inputs[2], f"the bias of {node.name}"), weight.shape[1], node.name)
        return (*key, False), Branch((node,))
    users = {use.node for use in node.outputs[0].uses()}
    if len(users) == 1 and not node.outputs[0].is_graph_output():
        (user,) = users
        if is_op(user, "Add") and _bias_of(user, node) is not None:
            bias = _bias_of(user, node)
            if bias is not None and bias.shape == (weight.shape[1],):
                return (*key, True), Branch((node, user))
    return (*key, False), Branch((node,))


def _bias_of(add: ir.Node, product: ir.Node) -> np.ndarray | None:
    return constant_array(add.inputs[1] if add.inputs[0] is product.outputs[0] else add.inputs[0])


def _require_row(bias: np.ndarray, columns: int, name: str | None) -> None:
    if bias.size not in (1, columns) or (bias.ndim == 2 and bias.shape[0] != 1):
        raise NoMatch(f"the bias of {name} is not a row")


def _merged_nodes(branches: Sequence[Branch], namer: Namer) -> tuple[list[ir.Node], list[int]]:
    """One product (and bias Add) for all branches, not in the graph, and the columns of each branch."""
    first = branches[0]
    weights = [constant(branch.head.inputs[1], "the weight") for branch in branches]
    columns = [int(weight.shape[1]) for weight in weights]
    if first.head.op_type == "Gemm":
        biases = [constant_array(b.head.inputs[2]) if len(b.head.inputs) > 2 else None for b in branches]
    else:
        biases = [_bias_of(b.nodes[1], b.head) if len(b.nodes) > 1 else None for b in branches]
    matrix = candidate_weight(namer.fresh(f"{first.head.name}_merged_weight"), np.concatenate(weights, axis=1))
    operands: list[ir.Value | None] = [first.head.inputs[0], matrix]
    row = None
    if any(bias is not None for bias in biases):
        zero = np.zeros(1, weights[0].dtype)
        parts = [np.broadcast_to((zero if b is None else b).reshape(-1), [n]) for n, b in zip(columns, biases)]
        row = candidate_weight(namer.fresh(f"{first.head.name}_merged_bias"), np.concatenate(parts))
    if first.head.op_type == "Gemm" and row is not None:
        operands.append(row)
    merged: list[ir.Node] = []
    for index, node in enumerate(first.nodes):
        shape = node.outputs[0].shape
        merged.append(
            make_node(
                node.op_type,
                operands if index == 0 else [merged[0].outputs[0], row],
                name=namer.fresh(f"{node.name}_merged"),
                outputs=[namer.fresh(f"{node.outputs[0].name}_merged")],
                dtype=node.outputs[0].dtype,
                shapes=[ir.Shape([*list(shape)[:-1], sum(columns)]) if shape is not None else None],
                sources=[branch.nodes[index] for branch in branches],
            )
        )
    return merged, columns
