"""Finds tensors whose channels can be scaled together without changing what the network computes.

If every producer of a tensor can multiply channel c by s_c > 0 in its weights and every consumer can divide by it, the
function stays. Operators that commute with such a scale (Relu, pools, PRelu, ...) and additions tie tensors into one
class with one vector s; so a whole residual chain is one class. Conv, depthwise Conv, ConvTranspose and Gemm end it.
Any other reader or maker, a graph input or output, a shared weight, freezes the class.

Clip from 0 to m commutes only while nothing is clipped: Clip(s x) = s Clip(x) holds for 0 <= s x <= m. With `clips`
such a class is let through, marked `ceiling` = m: the caller has to keep 1 <= s_c <= m / (largest value seen in channel
c). For values within what was seen the function stays; beyond, channel c saturates at m / s_c, as the integers of a
channel with a range of its own would.

Source: Nagel et al., "Data-Free Quantization", 2019 (arXiv:1906.04721), section 4.1, extended to chains with additions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import onnx_ir as ir

from hwc.graph.match import attribute, is_op
from hwc.graph.model import constant_array

_HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
                "Identity")  # fmt: skip
_LAYERS = ("Conv", "ConvTranspose", "Gemm")


@dataclass
class ChannelClass:
    """Tensors that share one scale per channel (axis 1), and the layers at both ends.

    `ceiling` is the least upper bound of the Clips inside; infinite without any.
    """

    tensors: list[str] = field(default_factory=list)
    producers: list[ir.Node] = field(default_factory=list)
    consumers: list[ir.Node] = field(default_factory=list)
    channels: int = 0
    ceiling: float = math.inf


def find_channel_classes(model: ir.Model, *, clips: bool) -> tuple[ChannelClass, ...]:
    """The classes that may be scaled, in graph order; none of them is frozen."""
    parent: dict[ir.Value, ir.Value] = {}

    def root(value: ir.Value) -> ir.Value:
        while parent.setdefault(value, value) is not value:
            value = parent[value]
        return value

    ceilings: dict[ir.Value, float] = {}
    for node in model.graph:
        tied = _tied(node, clips)
        for other in tied[1:]:
            parent[root(other)] = root(tied[0])
        if tied and node.op_type == "Clip":
            ceilings[tied[0]] = float(constant_array(node.inputs[2]))  # type: ignore[arg-type]
    classes: dict[ir.Value, ChannelClass] = {}
    frozen: set[ir.Value] = {root(v) for v in (*model.graph.inputs, *model.graph.outputs)}
    for value in [v for node in model.graph for v in node.outputs]:
        top = root(value)
        shape = value.shape
        if shape is None or len(shape) < 2 or not isinstance(shape[1], int) or value.dtype != ir.DataType.FLOAT:
            frozen.add(top)
            continue
        found = classes.setdefault(top, ChannelClass(channels=shape[1]))
        found.tensors.append(str(value.name))
        found.ceiling = min(found.ceiling, ceilings.get(value, math.inf))
        maker = value.producer()
        if maker is not None and is_op(maker, *_LAYERS):
            found.producers.append(maker)
            if not _is_own_layer(maker):
                frozen.add(top)
        elif maker is None or value not in _tied(maker, clips):
            frozen.add(top)
        for use in value.uses():
            if is_op(use.node, *_LAYERS) and use.idx == 0:
                found.consumers.append(use.node)
                if not _is_own_layer(use.node):
                    frozen.add(top)
            elif value not in _tied(use.node, clips):
                frozen.add(top)
        if found.channels != shape[1]:
            frozen.add(top)
    for value, limit in ceilings.items():
        if root(value) in classes:
            classes[root(value)].ceiling = min(classes[root(value)].ceiling, limit)
    return tuple(c for top, c in classes.items() if top not in frozen and c.producers and c.consumers)


def is_depthwise(node: ir.Node) -> bool:
    """Whether each channel has a kernel of its own and makes one channel."""
    weight = node.inputs[1]
    if node.op_type != "Conv" or weight is None or weight.shape is None:
        return False
    return int(attribute(node, "group", 1)) == weight.shape[0] and weight.shape[1] == 1


def _tied(node: ir.Node, clips: bool) -> list[ir.Value]:
    """The computed values of a node that must carry the same scale; empty if the node does not commute with one."""
    if node.domain not in ("", "ai.onnx") or not node.inputs or node.inputs[0] is None or len(node.outputs) != 1:
        return []
    data, result = node.inputs[0], node.outputs[0]
    if node.op_type in _HOMOGENEOUS:
        return [data, result] if all(constant_array(v) is not None for v in node.inputs[1:]) else []
    if node.op_type == "Clip":
        low = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
        high = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
        is_ramp = low is not None and high is not None and float(low) == 0.0 and float(high) > 0.0
        return [data, result] if clips and is_ramp else []
    if node.op_type in ("Add", "Sum"):
        values = [value for value in node.inputs if value is not None]
        same = all(v.shape is not None and v.shape == result.shape and constant_array(v) is None for v in values)
        return [*values, result] if same else []
    if node.op_type in ("Reshape", "Flatten", "Squeeze"):
        before, after = data.shape, result.shape
        if before is None or after is None or len(before) < 2 or len(after) < 2 or before[:2] != after[:2]:
            return []
        return [data, result] if all(d == 1 for d in (*before[2:], *after[2:])) else []
    return []


def _is_own_layer(node: ir.Node) -> bool:
    """Whether weight and bias are constants of this node alone, in a form that can be scaled."""
    operands = [value for value in node.inputs[1:] if value is not None]
    if any(not v.is_initializer() or v.is_graph_input() or len(v.uses()) != 1 for v in operands):
        return False
    if len(operands) > 1 and (operands[1].shape is None or len(operands[1].shape) != 1):
        return False
    if node.op_type == "Gemm":
        return not attribute(node, "transA", 0)
    return int(attribute(node, "group", 1)) == 1 or is_depthwise(node)
