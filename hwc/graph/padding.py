"""The explicit padding of a Conv or pool: what `pads` says, or what `auto_pad` comes to at a known size.

SAME: out = ceil(in / stride), total = max((out - 1) stride + (k - 1) dilation + 1 - in, 0), the odd one at the end
for SAME_UPPER and at the beginning for SAME_LOWER (https://onnx.ai/onnx/operators/onnx__Conv.html).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from hwc.graph.match import attribute


def explicit_pads(node: ir.Node, size: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Padding as ONNX orders it: all beginnings, then all ends. `size` is the input's, spatial axes only."""
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return [int(pad) for pad in attribute(node, "pads", [0] * (2 * len(kernel)))]
    if mode == "VALID":
        return [0] * (2 * len(kernel))
    strides = attribute(node, "strides", [1] * len(kernel))
    dilations = attribute(node, "dilations", [1] * len(kernel))
    low, high = [], []
    for length, k, stride, dilation in zip(size, kernel, strides, dilations):
        total = max((-(-length // stride) - 1) * stride + (k - 1) * dilation + 1 - length, 0)
        small, large = total // 2, total - total // 2
        low.append(small if mode == "SAME_UPPER" else large)
        high.append(large if mode == "SAME_UPPER" else small)
    return low + high
