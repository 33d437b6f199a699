"""What each kernel of an engine has to do, in elements and operations, before any device or precision is named.

A fusion group is one kernel, with the exceptions that TensorRT documents or that its logs show:

* MaxPool behind a convolution joins it in INT8 only (issue 2518), so it is a kernel of its own in floats;
* x * f(x) behind a convolution joins it in FP16, and is a pointwise kernel of its own otherwise: published layer lists
  of YOLO engines name it "PWN(PWN(Sigmoid), Mul)" in FP32; for INT8 it is an assumption that the fit bore out;
* BatchNormalization with nothing to fold into joins the activation behind it (one pointwise kernel);
* 1x1 convolutions of one tensor with equal stride and activation run as one (horizontal fusion);
* Reshape and its like cost nothing, nor does Split or Slice along the first axis that is not 1: they are views;
* a part of a Concat is written in place by its producer, unless the part is a view, an input, or was already placed in
  another Concat: then one copy kernel each. This is why DenseNet, where every layer concatenates all parts anew, runs
  n (n + 1) / 2 copies a block.

`list_work` knows no precision, `split_work` applies the rules that depend on it. Nothing here is a time:
`price_kernels` makes it one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from hwc.artifacts import FusionGroup
from hwc.cost.count_flops import MATRIX_OPS, VIEW_OPS, Sizes, count_flops, dimensions, elements, matrix_shape
from hwc.errors import UsageError
from hwc.graph.model import constant_array

_CUT_OPS = ("Split", "Slice")
_HOST_ELEMENTS = 64  # an integer tensor up to this size is arithmetic on shapes, which engines do on the host
NO_POOL = (0, 0, 0)
GATE_JOINS = ("fp16",)


@dataclass(frozen=True)
class Work:
    """One kernel, or several until `split_work` has seen the precision.

    Activations and weights are counted in elements, since the precision gives them their bytes.

    Args:
        groups: ids of the fusion groups that it does the work of: one, or those that run as one.
        kind: "conv", "depthwise", "gemm" (one row: a matrix times a vector), "plain" or "copy".
        products, m, n, k: independent matrix products of (m x k) by (k x n); 0 for "plain" and "copy".
        plain_ops: operations outside the matrix product.
        read, weights, written: elements that cross the kernel's border.
        is_small_filter: a 3x3 of stride 1, which Winograd's algorithm can do.
        is_gated: whether x * f(x) follows the matrix product.
        pool: (elements read, written, operations) of a MaxPool at the end; (0, 0, 0) without one.
    """

    groups: tuple[str, ...]
    kind: str
    products: int = 0
    m: int = 0
    n: int = 0
    k: int = 0
    plain_ops: int = 0
    read: int = 0
    weights: int = 0
    written: int = 0
    is_small_filter: bool = False
    is_gated: bool = False
    pool: tuple[int, int, int] = NO_POOL

    @property
    def matrix_ops(self) -> int:
        """Operations of the matrix product, a multiply-add as two."""
        return 2 * self.products * self.m * self.n * self.k


def list_work(model: ir.Model, groups: Sequence[FusionGroup], *, sizes: Sizes | None = None) -> tuple[Work, ...]:
    """The kernels of the groups, in their order; groups that cost nothing have none.

    Args:
        model: with all shapes known, as `infer_shapes` leaves it.
        groups: as `form_fusion_groups` made them for this model.
        sizes: symbol -> size, for dimensions that are not fixed; the others count as 1.

    Raises:
        UsageError: a shape is not known, a node runs a body, or a group names a node that the model lacks.
    """
    known = sizes or {}
    by_name = {node.name: node for node in model.graph}
    members: dict[str, list[ir.Node]] = {}
    for group in groups:
        missing = [name for name in group.nodes if name not in by_name]
        if missing:
            raise UsageError(f"group {group.id} names a node that is not in the graph", got=missing[0])
        members[group.id] = [by_name[name] for name in group.nodes]
    copies = _count_copies(model, known)
    found: list[Work] = []
    joined: dict[object, int] = {}
    absorbed = _affine_pairs(members)
    for group in groups:
        nodes = members[group.id]
        if group.id in absorbed:
            continue
        nodes = [*(n for first, second in absorbed.items() if second == group.id for n in members[first]), *nodes]
        if nodes[0].op_type == "Concat" and len(nodes) == 1:
            found += [Work((group.id,), "copy", read=size, written=size) for size in copies.get(nodes[0], ())]
            continue
        work = _work_of(group.id, nodes, known)
        if work is None:
            continue
        sibling = _sibling_key(nodes)
        if sibling is not None and sibling in joined:
            first = found[joined[sibling]]
            found[joined[sibling]] = replace(
                first, groups=(*first.groups, group.id), n=first.n + work.n, weights=first.weights + work.weights,
                written=first.written + work.written, plain_ops=first.plain_ops + work.plain_ops,
            )  # fmt: skip
            continue
        if sibling is not None:
            joined[sibling] = len(found)
        found.append(work)
    return tuple(found)


def split_work(
    works: Iterable[Work], precision: str, gate_joins: Sequence[str] = GATE_JOINS
) -> tuple[Work, ...]:
    """The kernels in that precision ("fp32", "fp16" or "int8"): what does not join its convolution stands apart.

    Args:
        gate_joins: precisions in which x * f(x) joins its convolution.
    """
    found = []
    for work in works:
        made = work.products * work.m * work.n
        if work.is_gated and precision not in gate_joins and work.kind in ("conv", "depthwise"):
            found.append(replace(work, plain_ops=0, written=made, is_gated=False))
            found.append(Work(work.groups, "plain", plain_ops=work.plain_ops, read=made, written=work.written))
        elif work.pool != NO_POOL and precision != "int8":
            read, written, operations = work.pool
            found.append(replace(work, written=read, pool=NO_POOL))
            found.append(Work(work.groups, "plain", plain_ops=operations, read=read, written=written))
        else:
            found.append(replace(work, plain_ops=work.plain_ops + work.pool[2], pool=NO_POOL, is_gated=False))
    return tuple(found)


def _affine_pairs(members: Mapping[str, Sequence[ir.Node]]) -> dict[str, str]:
    """Groups that are one BatchNormalization -> the pointwise group that alone reads it."""
    group_of = {node: name for name, nodes in members.items() for node in nodes}
    pairs = {}
    for name, nodes in members.items():
        if len(nodes) != 1 or nodes[0].op_type != "BatchNormalization":
            continue
        users = {use.node for use in nodes[0].outputs[0].uses()}
        if len(users) == 1 and (reader := next(iter(users))) in group_of:
            head = members[group_of[reader]][0]
            if head is reader and head.op_type in ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Mul"):
                pairs[name] = group_of[reader]
    return pairs


def _sibling_key(nodes: Sequence[ir.Node]) -> object | None:
    """What two 1x1 convolutions must share to run as one; None for any other group."""
    head = nodes[0]
    if head.op_type != "Conv" or head.inputs[0] is None or head.inputs[1] is None or head.inputs[1].shape is None:
        return None
    shape = dimensions(head.inputs[1], {}, head)
    group = head.attributes.get("group")
    if any(size != 1 for size in shape[2:]) or (group is not None and group.as_int() != 1):
        return None
    if any(node.op_type in ("Add", "MaxPool", "Sum") for node in nodes):
        return None
    strides = head.attributes.get("strides")
    return head.inputs[0], tuple(strides.as_ints()) if strides is not None else (), tuple(n.op_type for n in nodes[1:])


def _root(value: ir.Value) -> tuple[ir.Value, bool]:
    """The tensor that holds the value's elements, and whether a cut lies between."""
    is_cut = False
    while True:
        node = value.producer()
        if node is None or not node.inputs or node.inputs[0] is None:
            return value, is_cut
        if node.op_type in VIEW_OPS:
            value = node.inputs[0]
        elif _is_view_cut(node):
            value, is_cut = node.inputs[0], True
        else:
            return value, is_cut


def _is_view_cut(node: ir.Node) -> bool:
    """Split or Slice along the first axis that is larger than 1, whose parts lie together in memory."""
    if node.op_type not in _CUT_OPS or node.inputs[0] is None or node.inputs[0].shape is None:
        return False
    before, after = dimensions(node.inputs[0], {}, node), dimensions(node.outputs[0], {}, node)
    changed = [axis for axis, (a, b) in enumerate(zip(before, after)) if a != b]
    return len(changed) <= 1 and all(size == 1 for size in before[: changed[0] if changed else 0])


def _count_copies(model: ir.Model, sizes: Sizes) -> dict[ir.Node, list[int]]:
    """Per Concat: the elements of each part that has to be copied."""
    placed: set[ir.Value] = set()
    copies: dict[ir.Node, list[int]] = {}
    for node in model.graph:
        if node.op_type != "Concat":
            continue
        for value in node.inputs:
            if value is None:
                continue
            root, is_cut = _root(value)
            producer = root.producer()
            is_made = producer is not None and producer.op_type != "Constant"
            if is_cut or root in placed or not is_made or root.is_graph_output():
                copies.setdefault(node, []).append(elements(value, sizes, node))
            placed.add(root)
    return copies


def _work_of(name: str, nodes: Sequence[ir.Node], sizes: Sizes) -> Work | None:
    for node in nodes:
        if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
            raise UsageError(f"{node.op_type} '{node.name}' runs a body an unknown number of times")
    busy = [n for n in nodes if n.op_type not in VIEW_OPS and not _is_view_cut(n) and not _is_host(n, sizes)]
    if not busy:
        return None
    pool = NO_POOL
    head = busy[0]
    if len(busy) > 1 and busy[-1].op_type == "MaxPool" and any(n.op_type in MATRIX_OPS for n in busy):
        last = busy[-1]
        pool = (elements(last.inputs[0], sizes, last), elements(last.outputs[0], sizes, last), count_flops(last, sizes))
    read, weights, written = _border(busy, sizes)
    heads = [n for n in busy if n.op_type in MATRIX_OPS]
    others = sum(count_flops(n, sizes) for n in busy if n not in heads and not (pool is not NO_POOL and n is busy[-1]))
    if not heads:
        is_copy = all(n.op_type in ("Transpose", "Concat", "Slice", "Split", "Gather", "Cast", "Pad") for n in busy)
        return Work((name,), "copy" if is_copy else "plain", plain_ops=others, read=read, weights=weights,
                    written=written)  # fmt: skip
    head = heads[0]
    shape = matrix_shape(head, sizes)
    if shape.products > 1 and shape.n == 1 and head.op_type in ("Conv", "ConvTranspose"):
        kind = "depthwise"
    else:
        kind = "gemm" if shape.m == 1 else "conv"
    return Work(
        (name,), kind, products=shape.products, m=shape.m, n=shape.n, k=shape.k, plain_ops=others, read=read,
        weights=weights, written=written, is_small_filter=_is_small_filter(head, sizes), pool=pool,
        is_gated=any(n.op_type in ("Sigmoid", "Tanh", "Erf", "HardSigmoid", "Swish", "Mish") for n in busy),
    )  # fmt: skip


def _is_small_filter(node: ir.Node, sizes: Sizes) -> bool:
    if node.op_type != "Conv" or node.inputs[1] is None:
        return False
    weight = dimensions(node.inputs[1], sizes, node)
    strides = node.attributes.get("strides")
    group = node.attributes.get("group")
    is_one = strides is None or all(s == 1 for s in strides.as_ints())
    return weight[2:] == (3, 3) and is_one and weight[1] >= 16 and (group is None or group.as_int() == 1)


def _is_host(node: ir.Node, sizes: Sizes) -> bool:
    small = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
    results = [v for i, v in enumerate(node.outputs) if i == 0 or v.uses() or v.is_graph_output()]
    return all(v.dtype in small and elements(v, sizes, node) <= _HOST_ELEMENTS for v in results) and all(
        v is None or v.shape is None or elements(v, sizes, node) <= _HOST_ELEMENTS for v in node.inputs
    )


def _border(nodes: Sequence[ir.Node], sizes: Sizes) -> tuple[int, int, int]:
    """Elements read, elements of constants read, and elements that somebody outside reads; every tensor once."""
    inside, seen = set(nodes), set()
    read = weights = written = 0
    for node in nodes:
        results = [v for i, v in enumerate(node.outputs) if i == 0 or v.uses() or v.is_graph_output()]
        made = sum(elements(v, sizes, node) for v in results)
        for value in node.inputs:
            if value is None or value in seen or value.producer() in inside:
                continue
            seen.add(value)
            size = elements(value, sizes, node)
            if value.const_value is not None or (value.producer() is not None and _is_constant(value)):
                weights += size
            else:
                read += min(size, made) if node.op_type in ("Slice", "Split", "Gather", "GatherND") else size
        for value in results:
            if value.is_graph_output() or not value.uses() or any(use.node not in inside for use in value.uses()):
                written += elements(value, sizes, node)
    return read, weights, written


def _is_constant(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "Constant" and constant_array(value) is not None
