"""Which part of a node's inputs makes a given part of its output, one spatial axis at a time.

Every operator here works on each spatial axis by itself, so a box of the output needs a box of the input, and the
rules are one-dimensional. For output rows [lo, hi) of an axis of n input rows (s stride, d dilation, k kernel, p
padding at the beginning):

    Conv, pools       [lo s - p, (hi - 1) s - p + (k - 1) d + 1), cut to [0, n): what was cut off is this tile's own
                      padding, so a tile at the border keeps the padding of the whole and one inside has none. This
                      also covers ceil_mode of MaxPool.
    ConvTranspose     rows i whose window [i s - p, i s - p + (k - 1) d] meets [lo, hi); `pads` then crop the result
    Resize            a whole factor, nearest or linear: one more row on each side for linear; what is made is a
                      multiple of the factor and is cropped
    element-wise      the same rows; an operand of size 1 on the axis is read whole. Also BatchNormalization, Softmax
                      and Concat along channels, Quantize- and DequantizeLinear, and InstanceNormalization once its
                      mean and variance are known

`tiled_inputs` says which inputs are cut and refuses the rest by `NoMatch`: anything that mixes positions otherwise,
ONNX's align_corners, cubic, and sizes that are not static.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from hwc.cost.count_flops import POINTWISE_OPS
from hwc.graph.match import NoMatch, attribute, constant, require, skip_unless, static_shape
from hwc.graph.padding import explicit_pads

Range = tuple[int, int]
_WINDOWS = ("Conv", "MaxPool", "AveragePool", "ConvTranspose")
_SOFTMAX = ("Softmax", "LogSoftmax")
_PER_POSITION = (*_SOFTMAX, "BatchNormalization", "InstanceNormalization", "Identity", "Cast")
_SHIFTING = {"half_pixel": 0.5, "pytorch_half_pixel": 0.5, "asymmetric": 0.0}
# These have operands that are no tensors of the map, or give more than the map.
_QUANTIZE = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Ranges:
    """What one axis of one tile of a node needs and makes.

    Args:
        inputs: rows needed, by position among the node's inputs.
        made: rows that the node makes from them: those asked, or more where `made` must be cropped.
        before, after: padding of the tile, or what a ConvTranspose crops.
        extra: output_padding of a ConvTranspose.
    """

    inputs: dict[int, Range] = field(default_factory=dict)
    made: Range = (0, 0)
    before: int = 0
    after: int = 0
    extra: int = 0


def tiled_inputs(node: ir.Node) -> tuple[int, ...]:
    """Positions of the inputs that are cut into tiles with the output; the other inputs are read whole.

    Raises:
        NoMatch: the node cannot be computed tile by tile.
    """
    kind = node.op_type
    skip_unless(node.domain in ("", "ai.onnx") and len(node.inputs) > 0)
    require(not any(v.uses() or v.is_graph_output() for v in node.outputs[1:]), "its other outputs are read")
    out = static_shape(node.outputs[0], "its output")
    rank = len(out) - 2
    require(rank >= 1, "its output has no spatial axis")
    if kind in _WINDOWS:
        _check_window(node)
        return (0,)
    if kind == "Resize":
        _factors(node)
        return (0,)
    if kind in _PER_POSITION or kind in _QUANTIZE:
        require(static_shape(node.inputs[0]) == out, "its output has another shape")
        require(not attribute(node, "training_mode", 0), "it is in training mode")
        if kind in _SOFTMAX:
            require(attribute(node, "axis", -1) % len(out) == 1, "it does not run along channels")
        if kind in _QUANTIZE:
            scale = static_shape(node.inputs[1], "the scale")
            require(not scale or scale == (1,) or (len(scale) == 1 and attribute(node, "axis", 1) == 1),
                    "its scale varies in space")  # fmt: skip
        return (0,)
    if kind == "Concat":
        require(attribute(node, "axis") % len(out) < 2, "it joins along a spatial axis")
        return tuple(range(len(node.inputs)))
    require(kind in POINTWISE_OPS, f"{kind} is not computed position by position")
    found = []
    for position, value in enumerate(node.inputs):
        if value is None:
            continue
        shape = static_shape(value, f"input {position}")
        if all(dim == 1 for dim in shape[-rank:]):
            continue
        require(len(shape) == len(out), "an operand of lower rank varies in space")
        found.append(position)
    require(found, "no input varies in space")
    return tuple(found)


def ranges_of(node: ir.Node, axis: int, lo: int, hi: int) -> Ranges:
    """What output rows [lo, hi) of spatial axis `axis` (0 is the first) need.

    Args:
        node: one that `tiled_inputs` took.
    """
    kind = node.op_type
    if kind in ("Conv", "MaxPool", "AveragePool"):
        return _window(node, axis, lo, hi)
    if kind == "ConvTranspose":
        return _transposed(node, axis, lo, hi)
    if kind == "Resize":
        return _resized(node, axis, lo, hi)
    inputs = {}
    for position in tiled_inputs(node):
        size = static_shape(node.inputs[position])[axis + 2]
        whole = static_shape(node.outputs[0])[axis + 2]
        inputs[position] = (lo, hi) if size == whole else (0, 1)
    return Ranges(inputs, (lo, hi))


def kernel_of(node: ir.Node) -> list[int]:
    """Window sizes of a Conv, ConvTranspose or pool."""
    found = attribute(node, "kernel_shape")
    return [int(k) for k in (found or static_shape(node.inputs[1], "the weight")[2:])]


def _numbers(node: ir.Node, name: str) -> list[int]:
    return [int(number) for number in attribute(node, name, [1] * len(kernel_of(node)))]


def _check_window(node: ir.Node) -> None:
    size = static_shape(node.inputs[0], "its input")[2:]
    kernel = kernel_of(node)
    if node.op_type != "ConvTranspose":
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, _numbers(node, "dilations"))]
        pads = explicit_pads(node, size, kernel)
        require(all(pad < span for pad, span in zip(pads, spans * 2)), "a window lies wholly in the padding")
    if node.op_type == "AveragePool":
        require(not attribute(node, "ceil_mode", 0), "ceil_mode of an average counts what hangs over the edge")
    if node.op_type == "ConvTranspose":
        require(attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "", "VALID"), "its padding is automatic")
        require(attribute(node, "output_shape") is None, "its padding follows from output_shape")


def _window(node: ir.Node, axis: int, lo: int, hi: int) -> Ranges:
    size = static_shape(node.inputs[0])[2:]
    kernel = kernel_of(node)
    pads = explicit_pads(node, size, kernel)
    stride, span = _numbers(node, "strides")[axis], (kernel[axis] - 1) * _numbers(node, "dilations")[axis] + 1
    first, last = lo * stride - pads[axis], (hi - 1) * stride - pads[axis] + span
    start, end = min(max(first, 0), size[axis] - 1), max(min(last, size[axis]), 1)
    return Ranges({0: (start, end)}, (lo, hi), start - first, last - end)


def _transposed(node: ir.Node, axis: int, lo: int, hi: int) -> Ranges:
    n = static_shape(node.inputs[0])[axis + 2]
    pad = int(attribute(node, "pads", [0] * 2 * len(kernel_of(node)))[axis])
    stride, reach = _numbers(node, "strides")[axis], (kernel_of(node)[axis] - 1) * _numbers(node, "dilations")[axis]
    start = min(max(min(-(-(lo + pad - reach) // stride), (lo + pad) // stride), 0), n - 1)
    end = max(min((hi - 1 + pad) // stride + 1, n), start + 1)
    crop, reached = lo + pad - start * stride, (end - 1) * stride + reach + 1 - pad
    return Ranges({0: (start, end)}, (lo, hi), crop, max(reached - hi, 0), max(hi - reached, 0))


def _factors(node: ir.Node) -> list[int]:
    """Whole factor per spatial axis of a Resize."""
    shape, out = static_shape(node.inputs[0], "its input"), static_shape(node.outputs[0])
    mode = attribute(node, "mode", "nearest")
    require(mode in ("nearest", "linear"), f"its mode is {mode}")
    where = attribute(node, "coordinate_transformation_mode", "half_pixel")
    require(where in _SHIFTING, f"its coordinates are {where}")
    if where == "pytorch_half_pixel":
        require(min(out[2:]) > 1, "an axis of size 1 is a case of its own")
    require(not attribute(node, "antialias", 0) and attribute(node, "axes") is None, "it names axes, or antialiases")
    require(shape[:2] == out[:2] and all(b % a == 0 for a, b in zip(shape, out)), "its factor is not whole")
    factors = [b // a for a, b in zip(shape[2:], out[2:])]
    scales = node.inputs[2] if len(node.inputs) > 2 else None
    if scales is not None and static_shape(scales) != (0,):
        stated = [float(number) for number in constant(scales, "its scales")[2:]]
        if stated != [float(factor) for factor in factors]:
            raise NoMatch("its stated scales are not the whole factors of its sizes")
    return factors


def _resized(node: ir.Node, axis: int, lo: int, hi: int) -> Ranges:
    factor, n = _factors(node)[axis], static_shape(node.inputs[0])[axis + 2]
    shift = _SHIFTING[attribute(node, "coordinate_transformation_mode", "half_pixel")]

    def below(row: int) -> int:
        return int((row + shift) / factor - shift + n) - n  # rounds down below zero too

    start, end = max(below(lo), 0), min(below(hi - 1) + 2, n)
    return Ranges({0: (start, end)}, (start * factor, end * factor))


def resize_factors(node: ir.Node) -> list[int]:
    """Whole factor per spatial axis of a Resize that `tiled_inputs` took."""
    return _factors(node)
