"""Computes a cheap tensor again where it is read late, so that it need not be kept over the peak.

At the node where most bytes are alive, a buffer that was made before and is read only after is a guest. If its maker
is cheap, a copy of the maker is put before the first late reader, and the late readers take that. This is kept only
if the peak falls, or fewer nodes reach it: a copy keeps its own inputs alive longer, which may cost more than it saves.
Repeated until no guest can go. "Cheap" is a share of the whole graph's estimated time.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from hwc.graph.model import Namer, make_node
from hwc.reduce.live_bytes import VIEWS, bytes_along, flow_of, is_weight, root_of, size_of

SHARE = 0.02
_TRIES = 64


def recompute_cheap(
    model: ir.Model, node_seconds: Callable[[ir.Node], float], *, share: float = SHARE
) -> tuple[ir.Model, tuple[str, ...]]:
    """(a model of lower peak, names of the nodes that it runs twice); `model` itself if there is none.

    Args:
        node_seconds: estimated time of a node.
        share: of the whole graph's time that one copy may cost.

    Raises:
        UsageError: a shape is not static.
    """
    limit = share * sum(node_seconds(node) for node in model.graph)
    names: list[str] = []
    score, moment = _score(model)
    tries = _TRIES
    improved = True
    while improved and tries:
        improved = False
        for name in _guests(model, moment):
            maker = next(node for node in model.graph if node.name == name)
            if node_seconds(maker) > limit or not tries:
                continue
            tries -= 1
            other = model.clone()
            _copy_late(other, name, moment)
            found, at = _score(other)
            if found < score:
                model, score, moment, improved = other, found, at, True
                names.append(name)
                break
    return model, tuple(names)


def _score(model: ir.Model) -> tuple[tuple[int, int], int]:
    """((peak, how many nodes reach it), the first that does)."""
    along = bytes_along(flow_of(model))
    peak = max(along, default=0)
    return (peak, along.count(peak)), along.index(peak) if along else 0


def _guests(model: ir.Model, moment: int) -> list[str]:
    """Makers of buffers that are alive at that node and not read by it, largest buffer first."""
    place = {node: index for index, node in enumerate(model.graph)}
    found = []
    for node, index in place.items():
        value = node.outputs[0] if len(node.outputs) == 1 else None
        if index >= moment or value is None or value.is_graph_output() or node.op_type in VIEWS:
            continue
        readers = [place.get(use.node, -1) for use in value.uses()]
        has_views = any(use.node.op_type in VIEWS for use in value.uses())
        waits = max(readers, default=0) > moment and moment not in readers and min(readers) >= 0
        is_constant = node.inputs and node.inputs[0] is not None and is_weight(root_of(node.inputs[0]))
        if waits and not has_views and not is_constant:
            found.append((-size_of(value), index, str(node.name)))
    return [name for _, _, name in sorted(found)]


def _copy_late(model: ir.Model, name: str, moment: int) -> None:
    nodes = list(model.graph)
    maker = next(node for node in nodes if node.name == name)
    value = maker.outputs[0]
    namer = Namer(model)
    copy = make_node(
        maker.op_type, list(maker.inputs), name=namer.fresh(f"{name}_again"),
        outputs=[namer.fresh(f"{value.name}_again")], attributes=dict(maker.attributes), dtype=value.dtype,
        shapes=[value.shape], sources=[maker], domain=maker.domain,
    )  # fmt: skip
    place = {node: index for index, node in enumerate(nodes)}
    late = [(use.node, use.idx) for use in value.uses() if place[use.node] > moment]
    model.graph.insert_before(min((node for node, _ in late), key=place.__getitem__), copy)
    for node, position in late:
        node.replace_input_with(position, copy.outputs[0])
