"""Small classifiers made of depthwise convolutions: MobileNet-v1, MNASNet, ShuffleNet-v2, and SSD on MobileNet-v1.

Sources of the shapes: Howard 2017 (arXiv 1704.04861), Tan 2018 (1807.11626), Ma 2018 (1807.11164) as torchvision has
them (BSD-3); SSD-MobileNet-v1 300x300 as the TensorFlow detection zoo and MLPerf Inference have it (1917 anchors,
91 classes). The non-maximum suppression of MLPerf's engines is a plugin that no graph shows; it is left out.
"""

from __future__ import annotations

import onnx_ir as ir

from benchmarks.networks.graph import Network, Value, dims

_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
_MNASNET = ((3, 24, 3, 2, 3), (3, 40, 5, 2, 3), (6, 80, 5, 2, 3), (6, 96, 3, 1, 2), (6, 192, 5, 2, 4),
            (6, 320, 3, 1, 1))  # fmt: skip
_SHUFFLE = {1.0: (116, 232, 464, 1024), 1.5: (176, 352, 704, 1024)}


def mobilenet_v1_features(net: Network) -> list[Value]:
    """The output of every separable layer."""
    x = net.conv(net.input, 32, 3, 2, act="relu6", pad="tf")
    found = []
    for width, stride in _V1:
        x = net.conv(net.depthwise(x, 3, stride, act="relu6", pad="tf"), width, 1, act="relu6")
        found.append(x)
    return found


def mobilenet_v1(shape: tuple[int, ...]) -> ir.Model:
    """MobileNet-v1 1.0."""
    net = Network("mobilenet_v1", shape)
    return net.finish(net.head(mobilenet_v1_features(net)[-1], 1001))


def mnasnet(shape: tuple[int, ...], alpha: float) -> ir.Model:
    """MNASNet of that width, without squeeze-and-excite."""

    def width(channels: float) -> int:
        rounded = max(8, int(channels * alpha + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * channels * alpha else rounded + 8

    net = Network(f"mnasnet{alpha}", shape)
    x = net.conv(net.input, width(32), 3, 2)
    x = net.conv(net.depthwise(x), width(16), 1, act="")
    for expand, channels, kernel, stride, count in _MNASNET:
        for i in range(count):
            y = net.conv(x, dims(x)[1] * expand, 1)
            y = net.conv(net.depthwise(y, kernel, stride if i == 0 else 1), width(channels), 1, act="")
            x = net.add(x, y) if i else y
    return net.finish(net.head(net.conv(x, 1280, 1)))


def _shuffle(net: Network, x: Value) -> Value:
    n, c, h, w = dims(x)
    return net.reshape(net.transpose(net.reshape(x, n, 2, c // 2, h, w), 0, 2, 1, 3, 4), n, c, h, w)


def shufflenet_v2(shape: tuple[int, ...], scale: float) -> ir.Model:
    """ShuffleNet-v2 of that width."""
    net = Network(f"shufflenet_v2_{scale}", shape)
    *stages, last = _SHUFFLE[scale]
    x = net.pool(net.conv(net.input, 24, 3, 2), pad=1)
    for width, count in zip(stages, (4, 8, 4)):
        half = width // 2
        for i in range(count):
            if i == 0:
                left = net.conv(net.depthwise(x, 3, 2, act=""), half, 1)
                right, stride = x, 2
            else:
                left, right = net.split(x, half, half)
                stride = 1
            right = net.conv(net.depthwise(net.conv(right, half, 1), 3, stride, act=""), half, 1)
            x = _shuffle(net, net.concat(left, right))
    return net.finish(net.head(net.conv(x, last, 1)))


def ssd_mobilenet_v1(shape: tuple[int, ...]) -> ir.Model:
    """SSD heads on MobileNet-v1: boxes and class scores of all anchors."""
    net = Network("ssd_mobilenet_v1", shape)
    features = mobilenet_v1_features(net)
    maps = [features[10], features[12]]
    for squeeze, expand in ((256, 512), (128, 256), (128, 256), (64, 128)):
        maps.append(net.conv(net.conv(maps[-1], squeeze, 1, act="relu6"), expand, 3, 2, act="relu6", pad="tf"))
    return net.finish(*ssd_heads(net, maps, (3, 6, 6, 6, 6, 6), classes=91, kernel=1, stride=1))


def ssd_heads(
    net: Network, maps: list[Value], anchors: tuple[int, ...], *, classes: int, kernel: int, stride: int
) -> list[Value]:
    """Two convolutions a map, brought to anchors x (4 | classes) and joined."""
    joined = []
    for width in (4, classes):
        parts = []
        for x, count in zip(maps, anchors):
            y = net.transpose(net.conv(x, count * width, kernel, stride, act=""), 0, 2, 3, 1)
            parts.append(net.reshape(y, 1, dims(y)[1] * dims(y)[2] * count, width))
        joined.append(net.concat(*parts))
    return [joined[0], net.softmax(joined[1])]
