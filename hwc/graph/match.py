"""Matching by asking: a rule looks at one node and either rewrites it or says why not.

A rule is a function of one node. It first asks everything it needs through the questions below; each raises `NoMatch`
when the answer is no, and only then does the rule touch the graph. `sweep` runs a rule over all nodes and keeps the
reasons. A `near` miss (the pattern is there, a condition is not) goes into the report; a far one (another
operator altogether) does not, or every report would be a list of the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.model import constant_array


class NoMatch(Exception):
    """This rule does not apply to this node."""

    def __init__(self, reason: str, *, near: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.near = near


def require(condition: Any, reason: str) -> None:
    """A near miss unless the condition holds."""
    if not condition:
        raise NoMatch(reason)


def skip_unless(condition: Any) -> None:
    """A far miss unless the condition holds: this is simply another pattern."""
    if not condition:
        raise NoMatch("", near=False)


def constant(value: ir.Value | None, what: str) -> np.ndarray:
    """The value's data; a near miss if it is computed at run time."""
    array = constant_array(value)
    if array is None:
        raise NoMatch(f"{what} is not a constant")
    return array


def producer(value: ir.Value | None, *op_types: str) -> ir.Node:
    """The node that makes the value, of one of these types in the default domain; else a far miss."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type not in op_types or node.domain not in ("", "ai.onnx"):
        raise NoMatch("", near=False)
    return node


def only_user(value: ir.Value, what: str = "") -> ir.Node:
    """The one node that reads the value; a near miss if there are more, or if it is a graph output."""
    users = {use.node for use in value.uses()}
    require(not value.is_graph_output(), f"{what or value.name} is a graph output")
    require(len(users) == 1, f"{what or value.name} is read by {len(users)} nodes")
    return users.pop()


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether the node is one of these operators of the default domain."""
    return node is not None and node.op_type in op_types and node.domain in ("", "ai.onnx")


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """The attribute as a Python value (int, float, str, list) or `default` if absent."""
    attr = node.attributes.get(name)
    if attr is None:
        return default
    value = attr.value
    return list(value) if isinstance(value, (tuple, list)) else value


def static_shape(value: ir.Value | None, what: str = "") -> tuple[int, ...]:
    """The shape as integers; a near miss if it is unknown or dynamic."""
    if value is None or value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        raise NoMatch(f"the shape of {what or (value.name if value is not None else 'an input')} is not static")
    return tuple(int(dim) for dim in value.shape)  # type: ignore[arg-type]


def sweep(
    model: ir.Model, op_types: tuple[str, ...], rule: Callable[[ir.Node], None], *, misses: list[NearMiss]
) -> int:
    """Runs `rule` on every node of these types, main graph first, subgraphs included; returns the number of rewrites.

    Nodes that an earlier rewrite removed are passed over. Appends the near misses.
    """
    count = 0
    for node in list(model.graph.all_nodes()):
        if node.graph is None or not is_op(node, *op_types):
            continue
        name = node.name or node.op_type
        try:
            rule(node)
            count += 1
        except NoMatch as miss:
            if miss.near:
                misses.append(NearMiss(name, miss.reason))
    return count
