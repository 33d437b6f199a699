"""Merges Convs that read one value with the same geometry into one Conv with all their output channels.

    [Conv(x, W1), Conv(x, W2), ...]  ->  Split(Conv(x, [W1; W2; ...]))

x is then read once, and narrow Convs fill the tiles of the matrix units together: Inception's three 1x1 Convs of 96, 16
and 64 channels become one of 176. An equal activation behind each goes along, before the Split. Where the results are
neighbours in one Concat over channels, the merged result takes their places there and no Split is needed.

Limit: group = 1, weights constant; branches whose activations differ are merged among equals only. Gated by the
estimate, since a Split moves the whole result once more where an engine cannot read a slice in place. TensorRT for RTX
cannot, so there only the form without a Split is allowed. Counted with 1.7.1 for SM86, the merge with a Split makes

    Inception-v1    78 -> 89 kernels,    35.1 -> 12.1 MB of activations
    Inception-v2    82 -> 97             36.5 -> 18.5
    TransNetV2      79 -> 83            214.7 -> 264.5

since each output of a Split is a kernel that copies it. The memory that Inception would save is what it needs to run
its branches side by side: with no auxiliary streams both forms of Inception-v1 take 12.1 MB.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import NoMatch, attribute, constant, is_op, require, sweep
from hwc.graph.model import Namer, constant_array, make_node, opset, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.clip_bounds import clip_bounds
from hwc.passes.parallel_branches import Branch, find_branches, graph_order, make_split, replace_branches
from hwc.passes.require_gain import candidate_weight, require_gain

_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Gelu", "Mish")


def merge_parallel_convs(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring. A rewrite is a group of Convs made one."""
    misses: list[NearMiss] = []
    rule = partial(_merge, order=graph_order(model), namer=Namer(model), version=opset(model), context=context)
    return PassReport(sweep(model, ("Conv",), rule, misses=misses), tuple(misses))


def copies_slices(target: Target) -> bool:
    """Whether the target's builder makes each output of a Split of channels a kernel of its own, which copies it.

    Counted for TensorRT for RTX, see the module docstring; elsewhere the estimate decides.
    """
    return target.engine == "tensorrt_rtx"


def _merge(
    node: ir.Node, *, order: dict[ir.Node, int], namer: Namer, version: int, context: PassContext
) -> None:
    branches = find_branches(node, order, _read_branch)
    require(attribute(node, "group", 1) == 1, f"the Convs have {attribute(node, 'group', 1)} groups")
    concat = _common_concat(branches)
    graph = node.graph
    if concat is None:
        engine = context.target.engine
        require(not copies_slices(context.target), f"{engine} would copy each of {len(branches)} slices in a kernel")
        merged, channels = _merged_nodes(branches, namer)
        split = make_split(merged[-1].outputs[0], branches, channels, 1, version=version, namer=namer)
        require_gain(_nodes(branches), [*merged, split], context, graph)
        replace_branches(branches, [*merged, split], {b.result: v for b, v in zip(branches, split.outputs)})
        return
    # The weights follow the order of the Concat; the place in the graph is still that of the first branch.
    results = [branch.result for branch in branches]
    ordered = sorted(branches, key=lambda branch: list(concat.inputs).index(branch.result))
    merged, _ = _merged_nodes(ordered, namer)
    place = list(concat.inputs).index(ordered[0].result)
    inputs = [value for value in concat.inputs if value not in results]
    inputs.insert(place, merged[-1].outputs[0])
    after, last = list(merged), merged[-1].outputs[0]
    if len(inputs) > 1:
        joined = make_node(
            "Concat",
            inputs,
            name=namer.fresh(f"{concat.name}_merged"),
            outputs=[namer.fresh(f"{concat.outputs[0].name}_merged")],
            attributes={"axis": 1},
            dtype=concat.outputs[0].dtype,
            shapes=[concat.outputs[0].shape],
        )
        require_gain([*_nodes(branches), concat], [*merged, joined], context, graph)
        replace_nodes([concat], [joined], {concat.outputs[0]: joined.outputs[0]})
        replace_branches(branches, after, {})
    else:
        require_gain([*_nodes(branches), concat], after, context, graph)
        replace_branches(branches, after, {concat.outputs[0]: last}, [concat])


def _nodes(branches: Sequence[Branch]) -> list[ir.Node]:
    return [node for branch in branches for node in branch.nodes]


def _read_branch(conv: ir.Node) -> tuple[Hashable, Branch]:
    """The Conv and its activation, if that is its only reader; the key is all that must agree."""
    weight = constant(conv.inputs[1], f"the weight of {conv.name}")
    axes = weight.ndim - 2
    geometry = (
        weight.shape[1:],
        weight.dtype.str,
        tuple(attribute(conv, "strides", [1] * axes)),
        tuple(attribute(conv, "pads", [0] * (2 * axes))),
        tuple(attribute(conv, "dilations", [1] * axes)),
        attribute(conv, "auto_pad", "NOTSET"),
        attribute(conv, "group", 1),
    )
    if len(conv.inputs) > 2 and conv.inputs[2] is not None:
        constant(conv.inputs[2], f"the bias of {conv.name}")
    users = {use.node for use in conv.outputs[0].uses()}
    if len(users) != 1 or conv.outputs[0].is_graph_output():
        return (geometry, None), Branch((conv,))
    (user,) = users
    if not is_op(user, *_ACTIVATIONS):
        return (geometry, None), Branch((conv,))
    parameters: Hashable = tuple(sorted((name, str(attribute(user, name))) for name in user.attributes))
    if user.op_type == "Clip":
        try:
            parameters = clip_bounds(user)
        except NoMatch:
            return (geometry, None), Branch((conv,))
    return (geometry, (user.op_type, parameters)), Branch((conv, user))


def _common_concat(branches: Sequence[Branch]) -> ir.Node | None:
    """The Concat over channels in which all results are neighbours and which alone reads them; else None."""
    concats: set[ir.Node] = set()
    for branch in branches:
        uses = branch.result.uses()
        if len(uses) != 1 or branch.result.is_graph_output():
            return None
        concats.update(use.node for use in uses)
    if len(concats) != 1:
        return None
    (concat,) = concats
    rank = len(branches[0].result.shape) if branches[0].result.shape is not None else None
    if not is_op(concat, "Concat") or attribute(concat, "axis") not in (1, 1 - rank if rank else 1):
        return None
    places = sorted(list(concat.inputs).index(branch.result) for branch in branches)
    return concat if places == list(range(places[0], places[0] + len(places))) else None


def _merged_nodes(branches: Sequence[Branch], namer: Namer) -> tuple[list[ir.Node], list[int]]:
    """One Conv (and activation) for all branches, not in the graph, and the output channels of each branch."""
    first = branches[0]
    weights = [constant(branch.head.inputs[1], "the weight") for branch in branches]
    channels = [int(weight.shape[0]) for weight in weights]
    inputs: list[ir.Value | None] = [first.head.inputs[0]]
    inputs.append(candidate_weight(namer.fresh(f"{first.head.name}_merged_weight"), np.concatenate(weights)))
    biases = [constant_array(b.head.inputs[2]) if len(b.head.inputs) > 2 else None for b in branches]
    if any(bias is not None for bias in biases):
        # A branch without a bias gets zeros, which costs nothing next to a second Conv.
        filled = [np.zeros(n, weights[0].dtype) if bias is None else bias for n, bias in zip(channels, biases)]
        inputs.append(candidate_weight(namer.fresh(f"{first.head.name}_merged_bias"), np.concatenate(filled)))
    merged: list[ir.Node] = []
    for index, node in enumerate(first.nodes):
        shape = node.outputs[0].shape
        wide = ir.Shape([shape[0], sum(channels), *list(shape)[2:]]) if shape is not None else None
        merged.append(
            make_node(
                node.op_type,
                inputs if index == 0 else [merged[0].outputs[0], *node.inputs[1:]],
                name=namer.fresh(f"{node.name}_merged"),
                outputs=[namer.fresh(f"{node.outputs[0].name}_merged")],
                attributes={name: attribute(node, name) for name in node.attributes},
                dtype=node.outputs[0].dtype,
                shapes=[wide],
                sources=[branch.nodes[index] for branch in branches],
            )
        )
    return merged, channels
