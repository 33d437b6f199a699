"""Runs an ONNX graph in torch, so that gradients reach the weights, biases and scales of its INT8 form.

`TorchGraph` interprets the nodes in graph order; nothing is compiled. It computes any values from any others (only the
nodes between are run), takes replaced constants (the weights that training holds) and passes each quantized read
through a function (`reads`), so one class serves a single fusion group and the whole network.

Batches: exported graphs often have a batch of 1 written into a Reshape. With `batch` above 1, a leading 1 in the
constant shape of a Reshape, Expand or Resize reads as `batch`. That is a guess, so `can_batch` compares one batched run
with single ones before anybody relies on it.

Limit: no control flow; an operator that is not in `torch_layers.LAYERS` is refused by name when the graph is loaded
(or, with `allow_missing`, when a wanted value needs it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.errors import TargetError
from hwc.graph.model import constant_array
from hwc.precision.torch_layers import LAYERS, Unsupported

Tensor = Any  # torch.Tensor; torch is imported only where it is used
Reads = Mapping[str, tuple[frozenset[tuple[str, int]], Callable[[Tensor], Tensor]]]

_SHAPES = {"Reshape": 1, "Expand": 1, "Resize": 3}  # the operand that holds the sizes of the result


@dataclass(frozen=True)
class _Call:
    """One node, looked up once: operand names ("" where left out) and attributes as Python values."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


class TorchGraph:
    """An FP32 graph that can be run in torch, whole or in part.

    Args:
        model: every value and node has a unique name (`name_everything`).
        allow_missing: load a graph with operators that have no torch form; only a run that meets one is refused.

    Raises:
        TargetError: an operator has no torch form; names all of them.
    """

    def __init__(self, model: ir.Model, *, allow_missing: bool = False) -> None:
        import torch

        self.constants: dict[str, Tensor] = {}
        self.calls: list[_Call] = []
        for node in model.graph:
            for value in node.inputs:
                if value is not None and value.name not in self.constants:
                    array = constant_array(value)
                    if array is not None:
                        self.constants[str(value.name)] = torch.from_numpy(np.array(array, order="C"))
            if node.op_type != "Constant":
                self.calls.append(_call_of(node))
        self.missing = {call.op_type for call in self.calls if call.op_type not in LAYERS}
        if self.missing and not allow_missing:
            raise _refusal(self.missing)
        self.inputs = tuple(str(value.name) for value in model.graph.inputs if value.name not in self.constants)
        self.outputs = tuple(str(value.name) for value in model.graph.outputs)
        self._slices: dict[tuple[frozenset[str], tuple[str, ...]], list[tuple[_Call, tuple[str, ...]]]] = {}

    def run(
        self, feeds: Mapping[str, Tensor], wanted: Sequence[str] = (), *, constants: Mapping[str, Tensor] | None = None,
        reads: Reads | None = None, batch: int = 1,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The wanted values (the graph's outputs by default).

        Args:
            feeds: tensors by name; inner values may be given, and what makes them is then not run.
            constants: takes the place of initializers, by name.
            reads: value name -> (the uses that see f(value), f); all other uses see the value itself.
            batch: how many samples are stacked along the first axis of the feeds.

        Raises:
            TargetError: an operator on the way has no torch form, or a value cannot be reached from the feeds.
        """
        wanted = tuple(wanted) or self.outputs
        known = {**self.constants, **(constants or {})}
        values: dict[str, Tensor] = dict(feeds)
        seen: dict[str, Tensor] = {}
        for call, finished in self._slice(frozenset(feeds), wanted):
            operands = []
            for index, name in enumerate(call.inputs):
                operand = None if not name else values[name] if name in values else known[name]
                if reads is not None and name in reads and (call.name, index) in reads[name][0]:
                    if name not in seen:
                        seen[name] = reads[name][1](operand)
                    operand = seen[name]
                operands.append(operand)
            at = _SHAPES.get(call.op_type, 0) if batch > 1 else 0
            if at and len(operands) > at and call.inputs[at] in known:
                operands[at] = _widened(operands[at], batch)
            try:
                result = LAYERS[call.op_type](call.attributes, *operands)
            except Unsupported as error:
                raise _refusal({str(error)}) from None
            results = result if isinstance(result, (tuple, list)) else (result,)
            values.update((name, value) for name, value in zip(call.outputs, results) if name)
            for name in finished:
                values.pop(name, None)
                seen.pop(name, None)
        return {name: values[name] for name in wanted}

    def can_batch(self, samples: Sequence[Mapping[str, Tensor]], wanted: Sequence[str] = ()) -> bool:
        """Whether samples stacked along the first axis give what single ones do, within float noise."""
        import torch

        if len(samples) < 2 or any(tensor.dim() == 0 for tensor in samples[0].values()):
            return False
        pair = samples[:2]
        try:
            together = self.run({k: torch.cat([s[k] for s in pair]) for k in pair[0]}, wanted, batch=2)
        except RuntimeError:  # torch's word for shapes that do not fit
            return False
        for index, sample in enumerate(pair):
            for name, alone in self.run(sample, wanted).items():
                both = together[name]
                if both.dim() == 0 or both.shape[0] != 2 * alone.shape[0]:
                    return False
                part = both.chunk(2)[index]
                if not torch.allclose(part, alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max()) + 1e-7):
                    return False
        return True

    def _slice(self, feeds: frozenset[str], wanted: tuple[str, ...]) -> list[tuple[_Call, tuple[str, ...]]]:
        """The calls between feeds and wanted values, in order, each with the values that nobody reads after it."""
        key = (feeds, wanted)
        if key not in self._slices:
            needed, picked = set(wanted) - feeds, []
            for call in reversed(self.calls):
                if needed.isdisjoint(call.outputs):
                    continue
                picked.append(call)
                needed.difference_update(call.outputs)
                needed.update(n for n in call.inputs if n and n not in feeds and n not in self.constants)
            if needed:
                raise TargetError(
                    "a value cannot be computed from what is given", got=", ".join(sorted(needed)[:5]),
                    expected=f"reached from {', '.join(sorted(feeds)[:5])}", do="feed it too",
                )  # fmt: skip
            missing = {call.op_type for call in picked} & self.missing
            if missing:
                raise _refusal(missing)
            steps, read = [], set(wanted)
            for call in picked:
                last = tuple({name for name in call.inputs if name not in read and name not in self.constants})
                read.update(call.inputs)
                steps.append((call, last))
            self._slices[key] = steps[::-1]
        return self._slices[key]


def _call_of(node: ir.Node) -> _Call:
    attributes = {}
    for name, attr in node.attributes.items():
        value = attr.value
        attributes[name] = list(value) if isinstance(value, (tuple, list)) else value
    inputs = tuple(str(value.name) if value is not None and value.name else "" for value in node.inputs)
    outputs = tuple(str(value.name or "") for value in node.outputs)
    op_type = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    return _Call(str(node.name), op_type, inputs, outputs, attributes)


def _widened(shape: Tensor, batch: int) -> Tensor:
    shape = shape.clone()
    if shape.numel() and int(shape[0]) == 1:
        shape[0] = batch
    return shape


def _refusal(operators: Iterable[str]) -> TargetError:
    return TargetError(
        "gradients cannot flow through this graph", got=f"no torch form of {', '.join(sorted(operators))}",
        do="learn the rounding of each fusion group by itself, or switch learned rounding off",
    )  # fmt: skip
