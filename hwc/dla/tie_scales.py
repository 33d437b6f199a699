"""Gives one scale to the tensors that DLA wants alike in INT8: the largest of the scales that they have.

Tied are the input and output of a pool, the operands of an addition (product, maximum, ...), all inputs and the output
of a join; ties chain, so that a pool behind a join shares the join's scale. Only layers that the plan puts on DLA tie.

This is what TensorRT does by itself to ranges from a calibrator; a table that is checked before it is shipped, or one
that becomes dynamic ranges, has to do it here. It costs resolution: a tensor of range 1 tied to one of range 8 keeps an
eighth of its steps. Limit: one scale per tensor; scales per channel are refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import onnx_ir as ir

from hwc.artifacts import QuantTable
from hwc.dla.tensors import computed_inputs
from hwc.errors import UsageError

_POOLS = ("MaxPool", "AveragePool")
_OPERANDS = ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Div")


def tied_tensors(node: ir.Node) -> list[ir.Value]:
    """The tensors of a node that must have one scale; empty if it ties none."""
    if node.op_type in _POOLS:
        return [value for value in (node.inputs[0], node.outputs[0]) if value is not None]
    if node.op_type == "Concat":
        return [value for value in (*node.inputs, node.outputs[0]) if value is not None]
    operands = computed_inputs(node) if node.op_type in _OPERANDS else []
    return operands if len(operands) > 1 else []


def tie_scales(model: ir.Model, table: QuantTable, dla_layers: Collection[str]) -> tuple[QuantTable, dict[str, float]]:
    """The table with tied scales, and by what factor each tensor's scale grew, where it did.

    Raises:
        UsageError: a tensor to be tied has no scale, or one per channel.
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        leader.setdefault(name, name)
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for node in model.graph:
        if node.name not in dla_layers:
            continue
        names = [str(value.name) for value in tied_tensors(node)]
        for name in names[1:]:
            leader[find(name)] = find(names[0])
    largest: dict[str, float] = {}
    for name in leader:
        scale = table.tensors.get(name)
        if scale is None or len(scale.scale) != 1:
            raise UsageError(
                f"tensor '{name}' has {'no scale' if scale is None else 'one scale per channel'}",
                expected="one scale for each tensor that DLA ties", do="calibrate again for this graph",
            )
        root = find(name)
        largest[root] = max(largest.get(root, 0.0), scale.scale[0])
    tensors, grown = dict(table.tensors), {}
    for name in leader:
        own, common = table.tensors[name].scale[0], largest[find(name)]
        if common != own:
            tensors[name] = dataclasses.replace(table.tensors[name], scale=(common,))
            grown[name] = common / own
    return dataclasses.replace(table, tensors=tensors), grown
