"""Deconvolution (ConvTranspose): no padding, no groups, no dilation; square kernels and strides of 23 to 32 are off.

Limit: output_padding is judged as padding, since it, too, changes which elements of the full result are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.finding import Finding, Judge
from hwc.dla.tensors import static_dims
from hwc.graph.match import attribute
from hwc.graph.model import constant_array


def check_deconv(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A ConvTranspose of rank 4 with static shapes."""
    judge = Judge(node, board)
    weight = static_dims(node.inputs[1])
    if constant_array(node.inputs[1]) is None or weight is None:
        yield judge.find(
            "deconv.constant_weight", "dla.constant_weights", expected="constant weights", got="computed ones"
        )
        return
    group = int(attribute(node, "group", 1))
    strides = attribute(node, "strides", [1, 1])
    for what, sizes, fact in (
        ("kernel", weight[2:], "dla.deconv_kernel_max"), ("stride", strides, "dla.deconv_stride_max")
    ):
        if not _is_long(sizes, board):
            yield from judge.beyond(f"deconv.{what}", fact, list(sizes), low=1, what=f"a {what} of")
        low, high = board.number("dla.deconv_square_off_min"), board.number("dla.deconv_kernel_max")
        if sizes[0] == sizes[1] and low <= sizes[0] <= high:
            yield judge.find(
                f"deconv.square_{what}", "dla.deconv_square_off_min",
                expected=f"a square {what} below {low:.0f}", got=f"{sizes[0]}x{sizes[1]}",
            )
    pads = [*attribute(node, "pads", [0] * 4), *attribute(node, "output_padding", [0, 0])]
    automatic = attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID", "")
    if any(pads) or automatic or "output_shape" in node.attributes:
        yield judge.find(
            "deconv.padding", "dla.deconv_padding_max", expected="no padding",
            got="padding " + ("by auto_pad or output_shape" if automatic or "output_shape" in node.attributes
                              else "x".join(str(pad) for pad in pads)),
            rewrite="crop",
        )
    yield from judge.beyond("deconv.groups", "dla.deconv_groups_max", (group,), low=1, what="groups:")
    yield from judge.beyond(
        "deconv.dilation", "dla.deconv_dilation_max", attribute(node, "dilations", [1, 1]), low=1, what="a dilation of"
    )
    yield from judge.beyond(
        "deconv.channels", "dla.conv_maps_max", (weight[0], weight[1] * group), low=1, what="channels in and out:"
    )


def _is_long(sizes: Sequence[int], board: Board) -> bool:
    """1x64, 1x96, 1x128 and their transposes."""
    return min(sizes) == 1 and str(max(sizes)) in board.names("dla.deconv_kernel_long")
