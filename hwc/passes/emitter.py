"""Writes the nodes of a larger rewrite one after the other, as calls that take values and return values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.graph.model import Namer, add_initializer, make_node


class Emitter:
    """Collects nodes that are in no graph yet. Their names begin with that of the node that they stand for.

    Args:
        source: the node that is rewritten; constants become initializers of its graph at once, so a rule asks all its
            questions before it makes one.
    """

    def __init__(self, source: ir.Node, namer: Namer) -> None:
        assert isinstance(source.graph, ir.Graph)
        self.nodes: list[ir.Node] = []
        self._source = source
        self._graph = source.graph
        self._namer = namer
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def nested(self) -> Emitter:
        """One for the nodes of a body: a list of its own, constants in the outer graph."""
        inner = Emitter(self._source, self._namer)
        inner._constants = self._constants
        return inner

    def fresh(self, what: str) -> str:
        """A new name."""
        return self._namer.fresh(f"{self._source.name}_{what}")

    def constant(self, array: np.ndarray, what: str) -> ir.Value:
        """An initializer; equal arrays share one."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = add_initializer(self._graph, self.fresh(what), array)
        return self._constants[key]

    def ints(self, *numbers: int) -> ir.Value:
        """A list of integers: axes, sizes, a shape."""
        return self.constant(np.array(numbers, np.int64), "ints")

    def many(
        self, op_type: str, what: str, inputs: Sequence[ir.Value], shapes: Sequence[Sequence[int]], **attributes: Any
    ) -> Sequence[ir.Value]:
        """A node with one output per shape, all of the first input's element type."""
        name = self.fresh(what)
        node = make_node(
            op_type,
            inputs,
            name=name,
            outputs=[self._namer.fresh(f"{name}_out{index}") for index in range(len(shapes))],
            attributes=attributes,
            dtype=inputs[0].dtype,
            shapes=list(shapes),
            sources=[self._source],
        )
        self.nodes.append(node)
        return node.outputs

    def one(
        self, op_type: str, what: str, inputs: Sequence[ir.Value], shape: Sequence[int], **attributes: Any
    ) -> ir.Value:
        """A node with one output."""
        return self.many(op_type, what, inputs, [shape], **attributes)[0]

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """The value in another shape."""
        return self.one("Reshape", "reshaped", [value, self.ints(*shape)], shape)

    def slice(
        self, value: ir.Value, axis: int, start: int, end: int, shape: Sequence[int], *, step: int = 1
    ) -> ir.Value:
        """value[start:end:step] along one axis."""
        operands = [self.ints(number) for number in (start, end, axis, step)]
        return self.one("Slice", "sliced", [value, *operands], shape)

    def concat(self, values: Sequence[ir.Value], axis: int, shape: Sequence[int]) -> ir.Value:
        """The values one behind the other; a single one as it is."""
        return values[0] if len(values) == 1 else self.one("Concat", "joined", values, shape, axis=axis)
