"""What merging branches that read one value has in common: finding them, and giving each its slice of the result.

    a = f(x, W1)   b = f(x, W2)      ->      ab = f(x, [W1 | W2])   a, b = Split(ab)

The merged nodes stand where the first branch stood: they need x and constants only, and every reader comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hwc.graph.match import NoMatch, skip_unless
from hwc.graph.model import Namer, make_node, replace_nodes
from hwc.passes.require_gain import candidate_weight


@dataclass(frozen=True)
class Branch:
    """One branch: its nodes in order, from the one that reads the shared value to the one that makes `result`."""

    nodes: tuple[ir.Node, ...]

    @property
    def head(self) -> ir.Node:
        return self.nodes[0]

    @property
    def result(self) -> ir.Value:
        return self.nodes[-1].outputs[0]


def graph_order(model: ir.Model) -> dict[ir.Node, int]:
    """Position of every node, subgraphs included; taken before the pass adds nodes."""
    return {node: index for index, node in enumerate(model.graph.all_nodes())}


def find_branches(
    head: ir.Node, order: dict[ir.Node, int], read: Callable[[ir.Node], tuple[Hashable, Branch]]
) -> list[Branch]:
    """All branches that agree with the one that starts at `head`, in graph order; at least two.

    Args:
        read: the key on which branches must agree, and the branch; raises NoMatch if the node starts none.

    Raises:
        NoMatch: far; `head` has no sibling, or is not the first of them, which stands for all.
    """
    shared = head.inputs[0]
    skip_unless(shared is not None)
    assert shared is not None
    siblings = {
        use.node for use in shared.uses() if use.idx == 0 and use.node.op_type == head.op_type and use.node in order
    }
    siblings = {node for node in siblings if node.graph is head.graph and node.domain == head.domain}
    skip_unless(len(siblings) > 1)
    key, _ = read(head)
    branches = []
    for node in sorted(siblings, key=order.__getitem__):
        try:
            other, branch = read(node)
        except NoMatch:
            continue
        if other == key:
            branches.append(branch)
    skip_unless(len(branches) > 1 and branches[0].head is head)
    return branches


def make_split(
    source: ir.Value, branches: Sequence[Branch], sizes: Sequence[int], axis: int, *, version: int, namer: Namer
) -> ir.Node:
    """A Split of `source` with one output per branch, not yet in a graph; the sizes are an input from opset 13 on."""
    name = namer.fresh(f"{branches[0].head.name}_split")
    inputs: list[ir.Value] = [source]
    attributes: dict[str, object] = {"axis": axis}
    if version >= 13:
        inputs.append(candidate_weight(namer.fresh(f"{name}_sizes"), np.asarray(sizes, np.int64)))
    else:
        attributes["split"] = list(sizes)
    return make_node(
        "Split",
        inputs,
        name=name,
        outputs=[namer.fresh(f"{branch.result.name}_part") for branch in branches],
        attributes=attributes,
        dtype=source.dtype,
        shapes=[branch.result.shape for branch in branches],
    )


def replace_branches(
    branches: Sequence[Branch], merged: Sequence[ir.Node], values: dict[ir.Value, ir.Value],
    extra: Sequence[ir.Node] = (),
) -> None:
    """Puts `merged` where the first branch starts and removes all branches, `extra` (their only readers) with them."""
    first = branches[0].head
    old = [node for branch in branches for node in branch.nodes if node is not first]
    # `replace_nodes` inserts behind the last one listed, which here has to be the first one in the graph.
    replace_nodes([*old, *extra, first], merged, values)
