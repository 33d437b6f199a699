"""Which tensors may share one storage: views, results in place, parts of a concatenation, parts of a split.

A root is one stretch of bytes with one lifetime; each tensor is (root, offset). Three rules, each applied in order of
execution and only where legal:

    view       Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout, a Transpose that only moves sizes of 1: the
               result is the input's bytes. Always a gain.
    in place   an element-wise result takes the bytes of an operand of its own size and type that nobody reads later.
               No other tensor on those bytes may be alive at that tick, and the root must not hold a graph input,
               which is the caller's. Always a gain.
    part       Concat: operands are made where they end up. Split, Slice with step 1: results are read where they are.
               Only along an axis with nothing but sizes of 1 before it, where parts are contiguous. This can keep a
               large root alive for a small part, so it is done only if bytes times ticks do not grow.

A graph output never shares a root with a graph input or with another output: both belong to the caller.

Limits: the rules say what is legal, not what an engine does. Whether part sharing lowers the peak of a graph is decided
by who calls (hwc/schedule/lifetimes.py takes the set of rules with the lowest bound).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import onnx_ir as ir

from hwc.graph.model import constant_array

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")
POINTWISE = frozenset({
    "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu",
    "Mish", "Softplus", "Softsign", "ThresholdedRelu", "Swish", "Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Mean",
    "Pow", "Sqrt", "Exp", "Log", "Erf", "Neg", "Abs", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos",
    "Where", "And", "Or", "Not", "BatchNormalization",
})  # fmt: skip


@dataclass
class Tensor:
    """A tensor of the graph: its bytes, its own lifetime in ticks, and whose it is."""

    name: str
    size: int
    start: int
    end: int
    is_input: bool = False
    is_output: bool = False


@dataclass
class Root:
    """One stretch of bytes; `members` are (tensor, offset in bytes)."""

    size: int
    members: list[tuple[Tensor, int]] = field(default_factory=list)

    @property
    def start(self) -> int:
        return min(tensor.start for tensor, _ in self.members)

    @property
    def end(self) -> int:
        return max(tensor.end for tensor, _ in self.members)

    @property
    def cost(self) -> int:
        """Bytes times ticks."""
        return self.size * (self.end - self.start)


class Storage:
    """The roots of one graph under a set of rules; every tensor starts as a root of its own."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.places = {tensor.name: (Root(tensor.size, [(tensor, 0)]), 0) for tensor in tensors}

    def roots(self) -> list[Root]:
        """Each root once, in order of its first tensor."""
        return list({id(root): root for root, _ in self.places.values()}.values())

    def apply(self, node: ir.Node, tick: int, rules: frozenset[str]) -> None:
        """Lets the node's results share storage where a rule of `rules` ("view", "in place", "part") allows it."""
        if node.domain not in ("", "ai.onnx"):
            return
        if "view" in rules and _is_view(node):
            self._view(node)
        elif "in place" in rules and node.op_type in POINTWISE:
            self._in_place(node, tick)
        elif "part" in rules and node.op_type == "Concat":
            self._concat(node)
        elif "part" in rules and node.op_type in ("Split", "Slice"):
            self._split(node)

    def _tensor(self, value: ir.Value | None) -> Tensor | None:
        return self.tensors.get(str(value.name)) if value is not None else None

    def _may_join(self, root: Root, tensor: Tensor) -> bool:
        """The caller's tensors: an output shares with no input and no other output."""
        return not tensor.is_output or not any(other.is_input or other.is_output for other, _ in root.members)

    def _join(self, tensor: Tensor, root: Root, offset: int) -> None:
        root.members.append((tensor, offset))
        self.places[tensor.name] = (root, offset)

    def _view(self, node: ir.Node) -> None:
        source, result = self._tensor(node.inputs[0]), self._tensor(node.outputs[0])
        if source is None or result is None or source.size != result.size:
            return
        root, offset = self.places[source.name]
        if self._may_join(root, result):
            self._join(result, root, offset)

    def _in_place(self, node: ir.Node, tick: int) -> None:
        result = self._tensor(node.outputs[0])
        if result is None:
            return
        operands = [(value, self._tensor(value)) for value in node.inputs if value is not None]
        for value, source in operands:
            if source is None or source.end != tick + 1 or source.is_output or source.size != result.size:
                continue
            if value.dtype != node.outputs[0].dtype or _dims(value) != _dims(node.outputs[0]):
                continue
            root, offset = self.places[source.name]
            others = [other for other in (t for _, t in operands) if other is not None and other.name != source.name]
            if any(self.places[other.name][0] is root for other in others):
                continue  # another operand may lie shifted on the same bytes
            is_free = not any(
                tensor is not source and tensor.end > tick and _meet(offset, source.size, place, tensor.size)
                for tensor, place in root.members
            )
            if is_free and not any(t.is_input for t, _ in root.members) and self._may_join(root, result):
                self._join(result, root, offset)
                return

    def _concat(self, node: ir.Node) -> None:
        result = self._tensor(node.outputs[0])
        parts = [self._tensor(value) for value in node.inputs]
        if result is None or any(part is None for part in parts) or not _is_outermost(node.outputs[0], _axis(node)):
            return
        known = [part for part in parts if part is not None]
        roots = [self.places[part.name][0] for part in known]
        if len({id(root) for root in roots}) < len(roots) or sum(part.size for part in known) != result.size:
            return
        for part, root in zip(known, roots):
            if root.size != part.size or any(t.is_input or t.is_output for t, _ in root.members):
                return
        own = self.places[result.name][0]
        start = min(own.start, *(root.start for root in roots))
        end = max(own.end, *(root.end for root in roots))
        if result.size * (end - start) > own.cost + sum(root.cost for root in roots):
            return
        offset = 0
        for part, root in zip(known, roots):
            for tensor, place in root.members:
                self._join(tensor, own, offset + place)
            offset += part.size

    def _split(self, node: ir.Node) -> None:
        source = self._tensor(node.inputs[0])
        cuts = _cuts(node)
        if source is None or not cuts:
            return
        root, base = self.places[source.name]
        results = [(tensor, cut) for value, cut in cuts if (tensor := self._tensor(value)) is not None]
        if not all(self._may_join(root, tensor) for tensor, _ in results):
            return
        if any(tensor.is_output for tensor, _ in results) and len(results) > 1:
            return
        end = max([root.end, *(tensor.end for tensor, _ in results)])
        if root.size * (end - root.end) > sum(tensor.size * (tensor.end - tensor.start) for tensor, _ in results):
            return
        for tensor, cut in results:
            self._join(tensor, root, base + cut)


def _meet(begin: int, size: int, other: int, other_size: int) -> bool:
    return begin < other + other_size and other < begin + size


def _dims(value: ir.Value) -> tuple[int, ...] | None:
    if value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        return None
    return tuple(int(dim) for dim in value.shape)  # type: ignore[arg-type]


def _axis(node: ir.Node) -> int:
    found = node.attributes.get("axis")
    return found.as_int() if found is not None else 0


def _is_view(node: ir.Node) -> bool:
    if node.op_type == "Dropout":
        return len([value for value in node.outputs if value.name]) == 1
    if node.op_type == "Transpose":
        source = _dims(node.inputs[0]) if node.inputs[0] is not None else None
        order = node.attributes.get("perm")
        if source is None or order is None:
            return False
        moved = [axis for axis in order.as_ints() if source[axis] != 1]
        return moved == sorted(moved)
    return node.op_type in VIEWS


def _is_outermost(value: ir.Value, axis: int) -> bool:
    """Whether pieces along the axis are contiguous: nothing but sizes of 1 before it."""
    dims = _dims(value)
    return dims is not None and math.prod(dims[:axis % len(dims)]) == 1


def _cuts(node: ir.Node) -> list[tuple[ir.Value, int]]:
    """(result, offset in bytes) of each contiguous piece that the node takes; empty if it takes others."""
    source = node.inputs[0]
    dims = _dims(source) if source is not None else None
    if source is None or dims is None or source.dtype is None or source.dtype.itemsize < 1:
        return []
    if node.op_type == "Slice":
        found = _slice_start(node, dims)
        if found is None:
            return []
        axis, start = found
        row = math.prod(dims[axis + 1:]) * int(source.dtype.itemsize)
        return [(node.outputs[0], start * row)] if _is_outermost(source, axis) else []
    axis = _axis(node) % len(dims)
    row = math.prod(dims[axis + 1:]) * int(source.dtype.itemsize)
    pieces: list[tuple[ir.Value, int]] = []
    at = 0
    for value in node.outputs:
        own = _dims(value)
        if own is None:
            return []
        pieces.append((value, at * row))
        at += own[axis]
    return pieces if at == dims[axis] and _is_outermost(source, axis) else []


def _slice_start(node: ir.Node, dims: tuple[int, ...]) -> tuple[int, int] | None:
    """(axis, first index) of a Slice along one axis by step 1 with constant bounds."""
    given = [constant_array(value) if value is not None else None for value in node.inputs[1:]]
    if len(given) < 2 or given[0] is None or given[1] is None or len(given[0]) != 1:
        return None
    if len(given) > 2 and node.inputs[3] is not None and given[2] is None:
        return None
    if len(given) > 3 and node.inputs[4] is not None and (given[3] is None or int(given[3][0]) != 1):
        return None
    axis = int(given[2][0]) % len(dims) if len(given) > 2 and given[2] is not None else 0
    start = int(given[0][0])
    return axis, min(max(start + dims[axis] if start < 0 else start, 0), dims[axis])
