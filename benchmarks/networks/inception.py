"""Inception networks as TF-slim has them: v1 (GoogLeNet), v3 and Inception-ResNet-v2.

Sources of the shapes: Szegedy 2014 (arXiv 1409.4842), 2015 (1512.00567) and 2016 (1602.07261), in the form of
tensorflow/models research/slim (Apache-2.0).
"""

from __future__ import annotations

import onnx_ir as ir

from benchmarks.networks.graph import Network, Value, dims

_V1 = ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), "pool", (192, 96, 208, 16, 48, 64),
       (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64),
       (256, 160, 320, 32, 128, 128), "pool2", (256, 160, 320, 32, 128, 128),
       (384, 192, 384, 48, 128, 128))  # fmt: skip


def inception_v1(shape: tuple[int, ...]) -> ir.Model:
    """GoogLeNet; the 5x5 branch has a 3x3, as in TF-slim."""
    net = Network("inception_v1", shape)
    x = net.pool(net.conv(net.input, 64, 7, 2), pad="tf")
    x = net.pool(net.conv(net.conv(x, 64, 1), 192), pad="tf")
    for block in _V1:
        if isinstance(block, str):
            x = net.pool(x, 3 if block == "pool" else 2, 2, pad="tf")
            continue
        a, b0, b1, c0, c1, d = block
        pooled = net.pool(x, 3, 1, pad="tf")
        x = net.concat(
            net.conv(x, a, 1), net.conv(net.conv(x, b0, 1), b1), net.conv(net.conv(x, c0, 1), c1),
            net.conv(pooled, d, 1),
        )  # fmt: skip
    return net.finish(net.head(x, 1001))


def _stem(net: Network) -> Value:
    x = net.conv(net.conv(net.input, 32, 3, 2, pad="valid"), 32, pad="valid")
    x = net.pool(net.conv(x, 64))
    return net.pool(net.conv(net.conv(x, 80, 1, pad="valid"), 192, pad="valid"))


def _chain(net: Network, x: Value, *layers: tuple[object, ...]) -> Value:
    for width, kernel, *rest in layers:
        x = net.conv(x, width, kernel, *rest)  # type: ignore[arg-type]
    return x


def inception_v3(shape: tuple[int, ...]) -> ir.Model:
    """Inception v3 without the auxiliary head."""
    net = Network("inception_v3", shape)
    x = _stem(net)
    for width in (32, 64, 64):
        pooled = net.conv(net.pool(x, 3, 1, kind="Average", pad=1), width, 1)
        x = net.concat(net.conv(x, 64, 1), _chain(net, x, (48, 1), (64, 5)), _chain(net, x, (64, 1), (96, 3), (96, 3)),
                       pooled)  # fmt: skip
    reduced = net.conv(net.conv(net.conv(x, 64, 1), 96), 96, 3, 2, pad="valid")
    x = net.concat(net.conv(x, 384, 3, 2, pad="valid"), reduced, net.pool(x))
    row, column = (1, 7), (7, 1)
    for c in (128, 160, 160, 192):
        pooled = net.conv(net.pool(x, 3, 1, kind="Average", pad=1), 192, 1)
        x = net.concat(
            net.conv(x, 192, 1), _chain(net, x, (c, 1), (c, row), (192, column)),
            _chain(net, x, (c, 1), (c, column), (c, row), (c, column), (192, row)), pooled,
        )  # fmt: skip
    left = net.conv(net.conv(x, 192, 1), 320, 3, 2, pad="valid")
    right = net.conv(_chain(net, x, (192, 1), (192, row), (192, column)), 192, 3, 2, pad="valid")
    x = net.concat(left, right, net.pool(x))
    for _ in range(2):
        b = net.conv(x, 384, 1)
        c = _chain(net, x, (448, 1), (384, 3))
        pooled = net.conv(net.pool(x, 3, 1, kind="Average", pad=1), 192, 1)
        x = net.concat(net.conv(x, 320, 1), net.conv(b, 384, (1, 3)), net.conv(b, 384, (3, 1)),
                       net.conv(c, 384, (1, 3)), net.conv(c, 384, (3, 1)), pooled)  # fmt: skip
    return net.finish(net.head(x, 1001))


def inception_resnet_v2(shape: tuple[int, ...]) -> ir.Model:
    """Inception-ResNet-v2: 10 x 35x35, 20 x 17x17 and 10 x 8x8 residual blocks."""
    net = Network("inception_resnet_v2", shape)
    x = _stem(net)
    pooled = net.conv(net.pool(x, 3, 1, kind="Average", pad=1), 64, 1)
    x = net.concat(net.conv(x, 96, 1), _chain(net, x, (48, 1), (64, 5)), _chain(net, x, (64, 1), (96, 3), (96, 3)),
                   pooled)  # fmt: skip
    for _ in range(10):
        mixed = net.concat(net.conv(x, 32, 1), _chain(net, x, (32, 1), (32, 3)),
                           _chain(net, x, (32, 1), (48, 3), (64, 3)))  # fmt: skip
        x = net.add(net.conv(mixed, dims(x)[1], 1, act=""), x, "relu")
    reduced = net.conv(_chain(net, x, (256, 1), (256, 3)), 384, 3, 2, pad="valid")
    x = net.concat(net.conv(x, 384, 3, 2, pad="valid"), reduced, net.pool(x))
    for _ in range(20):
        mixed = net.concat(net.conv(x, 192, 1), _chain(net, x, (128, 1), (160, (1, 7)), (192, (7, 1))))
        x = net.add(net.conv(mixed, dims(x)[1], 1, act=""), x, "relu")
    parts = [
        net.conv(net.conv(x, 256, 1), 384, 3, 2, pad="valid"), net.conv(net.conv(x, 256, 1), 288, 3, 2, pad="valid"),
        net.conv(_chain(net, x, (256, 1), (288, 3)), 320, 3, 2, pad="valid"), net.pool(x),
    ]  # fmt: skip
    x = net.concat(*parts)
    for _ in range(10):
        mixed = net.concat(net.conv(x, 192, 1), _chain(net, x, (192, 1), (224, (1, 3)), (256, (3, 1))))
        x = net.add(net.conv(mixed, dims(x)[1], 1, act=""), x, "relu")
    return net.finish(net.head(net.conv(x, 1536, 1), 1001))
