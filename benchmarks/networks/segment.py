"""A 3-D U-Net and MobileNet-v2, for memory: networks whose first levels hold nearly all bytes of activations.

Shapes: Cicek 2016 (arXiv 1606.06650), with batch normalisation folded away as it is at inference: two 3x3x3
convolutions a level, the second of twice as many channels, transposed convolutions up, skips by concatenation; and
Sandler 2018 (1801.04381), MobileNet-v2 1.0.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from benchmarks.networks.graph import Network, Value, dims

_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def unet3d(shape: Sequence[int], *, width: int = 32, levels: int = 3, classes: int = 3) -> ir.Model:
    """1 x C x D x H x W, sides multiples of 2 ** levels."""
    net = Network("unet3d", tuple(shape))

    def block(x: Value, *channels: int) -> Value:
        for count in channels:
            x = net.conv(x, count, 3)
        return x

    x, skips = net.input, []
    for level in range(levels):
        skips.append(block(x, width << level, width << level + 1))
        x = net.pool(skips[-1], 2, 2)
    x = block(x, width << levels, width << levels + 1)
    for level in reversed(range(levels)):
        x = net.concat(net.deconv(x, dims(x)[1], 2, 2, act=""), skips[level])
        x = block(x, width << level + 1, width << level + 1)
    return net.finish(net.conv(x, classes, 1, act=""))


def mobilenet_v2(shape: Sequence[int]) -> ir.Model:
    """MobileNet-v2 1.0."""
    net = Network("mobilenet_v2", tuple(shape))
    x = net.conv(net.input, 32, 3, 2, act="relu6")
    for expand, channels, count, first in _V2:
        for i in range(count):
            wide = net.conv(x, dims(x)[1] * expand, 1, act="relu6") if expand > 1 else x
            wide = net.depthwise(wide, 3, first if i == 0 else 1, act="relu6")
            y = net.conv(wide, channels, 1, act="")
            x = net.add(x, y) if i else y
    return net.finish(net.head(net.conv(x, 1280, 1, act="relu6")))
