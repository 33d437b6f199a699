"""Convolution, and Gemm or MatMul by a constant, which DLA runs as a convolution over 1x1 maps.

The convolution buffer (CBUF) has 16 banks of 32 KiB. One kernel and the rows of input that it covers must fit, with
b = 1 byte for INT8 and 2 for FP16 per element, C input channels, W input columns, kernel kh x kw, dilation d:

    weight banks = ceil( roundUp(C * kh * kw * b, 128) / 32768 )
    row entries  = ceil( ceil(C * b / 32) * W / 4 )
    data banks   = ceil( row entries * ((kh - 1) * d + 1) / 256 )
    weight banks + data banks <= 16

Source: TensorRT's developer guide 8.4, chapter 12, whose formula takes all C channels, grouped or not. TensorRT 8.6 and
newer make this check; older ones fail when the loadable is compiled, so nothing may be sent to them that breaks it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.finding import Finding, Judge
from hwc.dla.tensors import static_dims
from hwc.graph.match import attribute
from hwc.graph.model import constant_array
from hwc.graph.padding import explicit_pads

_ENTRY_BYTES = 32  # of the formula: a row is cut into entries of 4 x 32 bytes
_ENTRIES_PER_BANK = 256


def cbuf_banks(
    channels: int, width: int, kernel: tuple[int, int], dilation: int, *, is_int8: bool, bank_bytes: int
) -> tuple[int, int]:
    """Banks for one kernel and banks for its input rows, by the formula of the module docstring."""
    item = 1 if is_int8 else 2
    weight = math.ceil(math.ceil(channels * kernel[0] * kernel[1] * item / 128) * 128 / bank_bytes)
    entries = math.ceil(math.ceil(channels * item / _ENTRY_BYTES) * width / 4)
    return weight, math.ceil(entries * ((kernel[0] - 1) * dilation + 1) / _ENTRIES_PER_BANK)


def check_conv(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A Conv of rank 4 with static shapes."""
    judge = Judge(node, board)
    x, weight = static_dims(node.inputs[0]), static_dims(node.inputs[1])
    if constant_array(node.inputs[1]) is None or weight is None or x is None:
        yield judge.find(
            "conv.constant_weight", "dla.constant_weights", expected="constant weights", got="computed ones"
        )
        return
    kernel = (weight[2], weight[3])
    pads = explicit_pads(node, x[2:], kernel)
    begins, ends = tuple(pads[:2]), tuple(pads[2:])
    dilations = attribute(node, "dilations", [1, 1])
    yield from judge.beyond(
        "conv.kernel", "dla.conv_kernel_max", kernel, low=1, what="a kernel of", rewrite="smaller kernel"
    )
    yield from judge.beyond("conv.padding", "dla.conv_padding_max", pads, low=0, what="padding")
    if any(pad >= size for pad, size in zip(pads, [*kernel, *kernel])):
        yield judge.find(
            "conv.padding_below_kernel", "dla.conv_padding_max", expected="padding smaller than the kernel",
            got=f"padding {_times(begins)} and {_times(ends)}, kernel {_times(kernel)}", rewrite="pad",
        )
    if begins != ends:
        yield from judge.allowed(
            "conv.equal_padding", "dla.asymmetric_padding", expected="equal padding before and after",
            got=f"padding {_times(begins)} before and {_times(ends)} after", rewrite="equal padding",
        )
    yield from judge.beyond(
        "conv.stride", "dla.conv_stride_max", attribute(node, "strides", [1, 1]), low=1, what="a stride of"
    )
    yield from judge.beyond("conv.dilation", "dla.conv_dilation_max", dilations, low=1, what="a dilation of")
    yield from judge.beyond("conv.maps", "dla.conv_maps_max", (weight[0],), low=1, what="output maps:")
    yield from judge.beyond(
        "conv.groups", "dla.conv_groups_max", (int(attribute(node, "group", 1)),), low=1, what="groups:"
    )
    yield from _check_buffer(judge, x[1], x[3], kernel, int(dilations[0]))


def check_matrix(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A Gemm or MatMul of rank 2."""
    judge = Judge(node, board)
    x, weight = static_dims(node.inputs[0]), static_dims(node.inputs[1])
    if constant_array(node.inputs[1]) is None or weight is None or x is None or attribute(node, "transA", 0):
        yield judge.find(
            "matrix.constant", "dla.constant_weights", expected="a constant second operand, no transA",
            got="two computed operands" if constant_array(node.inputs[1]) is None else "transA = 1",
        )
        return
    if len(x) != 2 or len(weight) != 2:
        yield judge.find(
            "matrix.rank", "dla.layer_types", expected="a matrix by a matrix",
            got=f"{_times(x)} by {_times(weight)}", rewrite="rank 4",
        )
        return
    outputs = weight[0] if attribute(node, "transB", 0) else weight[1]
    yield from judge.beyond("conv.maps", "dla.conv_maps_max", (outputs,), low=1, what="outputs:")
    yield from _check_buffer(judge, x[1], 1, (1, 1), 1)


def _check_buffer(
    judge: Judge, channels: int, width: int, kernel: tuple[int, int], dilation: int
) -> Iterator[Finding]:
    board = judge.board
    limit = int(board.number("dla.cbuf_banks"))
    weights, data = cbuf_banks(
        channels, width, kernel, dilation, is_int8=board.is_int8, bank_bytes=int(board.number("dla.cbuf_bank_bytes"))
    )
    if weights + data > limit:
        yield judge.find(
            "conv.buffer", "dla.cbuf_banks", expected=f"at most {limit} banks of the convolution buffer",
            got=f"{weights} for a kernel and {data} for its input rows", rewrite="smaller kernel",
        )


def _times(values: tuple[int, ...]) -> str:
    return "x".join(str(value) for value in values)
