"""Classifiers of the years of big kernels and plain stacks: AlexNet, VGG, SqueezeNet, ResNet, DenseNet.

Sources of the shapes: torchvision's models (BSD-3), which follow Krizhevsky 2014 (arXiv 1404.5997), Simonyan 2014
(1409.1556), Iandola 2016 (1602.07360), He 2015 (1512.03385) and Huang 2016 (1608.06993); MLPerf's ResNet-50 v1.5 is
torchvision's (stride in the 3x3). TF-slim's resnet_v1 has the stride in the last unit of a block and resnet_v2 is the
pre-activation form (He 2016, 1603.05027).
"""

from __future__ import annotations

import onnx_ir as ir

from benchmarks.networks.graph import Network, Value, dims

_VGG = {
    11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4),
}  # fmt: skip
_RESNET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_DENSENET = {121: (32, 64, (6, 12, 24, 16)), 161: (48, 96, (6, 12, 36, 24)), 169: (32, 64, (6, 12, 32, 32)),
             201: (32, 64, (6, 12, 48, 32))}


def alexnet(shape: tuple[int, ...]) -> ir.Model:
    """AlexNet as torchvision has it."""
    net = Network("alexnet", shape)
    x = net.pool(net.conv(net.input, 64, 11, 4, pad=2))
    x = net.pool(net.conv(x, 192, 5))
    x = net.conv(net.conv(net.conv(x, 384), 256), 256)
    x = net.flatten(net.pool(x))
    return net.finish(net.linear(net.linear(net.linear(x, 4096), 4096), 1000, act=""))


def vgg(shape: tuple[int, ...], depth: int) -> ir.Model:
    """VGG-11, 13, 16 or 19; with batch normalisation it is the same graph at inference."""
    net = Network(f"vgg{depth}", shape)
    x = net.input
    for width, count in zip((64, 128, 256, 512, 512), _VGG[depth]):
        for _ in range(count):
            x = net.conv(x, width)
        x = net.pool(x, 2, 2)
    x = net.flatten(x)
    return net.finish(net.linear(net.linear(net.linear(x, 4096), 4096), 1000, act=""))


def squeezenet(shape: tuple[int, ...], version: str) -> ir.Model:
    """SqueezeNet 1.0 or 1.1."""
    net = Network(f"squeezenet{version}", shape)
    is_first = version == "1.0"
    x = net.conv(net.input, 96 if is_first else 64, 7 if is_first else 3, 2, pad="valid")
    pools = (0, 3, 7) if is_first else (0, 2, 4)
    for i, (squeeze, expand) in enumerate(((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256),
                                           (64, 256))):
        x = net.pool(x, ceil=True) if i in pools else x
        s = net.conv(x, squeeze, 1)
        x = net.concat(net.conv(s, expand, 1), net.conv(s, expand, 3))
    x = net.conv(x, 1000, 1)
    return net.finish(net.flatten(net.node("GlobalAveragePool", [x], [1, 1000, 1, 1])))


def residual_block(net: Network, x: Value, width: int, stride: int, *, deep: bool, group: int = 1, scale: int = 4,
                   early_stride: bool = False) -> Value:  # fmt: skip
    """One unit of ResNet: two 3x3, or 1x1-3x3-1x1 if `deep`; the stride in the first 1x1 if `early_stride`."""
    out = width * scale if deep else width
    short = x if stride == 1 and dims(x)[1] == out else net.conv(x, out, 1, stride, act="")
    if not deep:
        return net.add(net.conv(net.conv(x, width, 3, stride), out, act=""), short, "relu")
    inner = width * (2 if group > 1 else 1)  # ResNeXt 32x4d: 128 channels where ResNet has 64
    first, second = (stride, 1) if early_stride else (1, stride)
    y = net.conv(net.conv(x, inner, 1, first), inner, 3, second, group=group)
    return net.add(net.conv(y, out, 1, act=""), short, "relu")


def resnet_features(net: Network, depth: int, *, stages: int = 4, strides: tuple[int, ...] = (1, 2, 2, 2),
                    group: int = 1, deep: bool | None = None) -> list[Value]:  # fmt: skip
    """The output of every stage of a ResNet on the network's input."""
    x = net.pool(net.conv(net.input, 64, 7, 2), pad=1)
    found = []
    is_deep = depth >= 50 if deep is None else deep
    for width, count, stride in list(zip((64, 128, 256, 512), _RESNET[depth], strides))[:stages]:
        for i in range(count):
            x = residual_block(net, x, width, stride if i == 0 else 1, deep=is_deep, group=group)
        found.append(x)
    return found


def resnet(shape: tuple[int, ...], depth: int) -> ir.Model:
    """ResNet-18 to 152 as torchvision has them (v1.5: the stride is in the 3x3)."""
    net = Network(f"resnet{depth}", shape)
    return net.finish(net.head(resnet_features(net, depth)[-1]))


def slim_resnet_v1(shape: tuple[int, ...], depth: int) -> ir.Model:
    """TF-slim resnet_v1: stage by stage, the stride in the last unit."""
    net = Network(f"slim_resnet_v1_{depth}", shape)
    x = net.pool(net.conv(net.input, 64, 7, 2), pad="tf")
    for width, count, stride in zip((64, 128, 256, 512), _RESNET[depth], (2, 2, 2, 1)):
        for i in range(count):
            step = stride if i == count - 1 else 1
            short = x if dims(x)[1] == width * 4 and step == 1 else net.conv(x, width * 4, 1, step, act="")
            if dims(x)[1] == width * 4 and step > 1:
                short = net.pool(x, 1, step)
            y = net.conv(net.conv(net.conv(x, width, 1), width, 3, step), width * 4, 1, act="")
            x = net.add(y, short, "relu")
    return net.finish(net.head(x))


def slim_resnet_v2(shape: tuple[int, ...], depth: int) -> ir.Model:
    """TF-slim resnet_v2: batch normalisation and ReLU before each unit, the stride in the last unit of a stage."""
    net = Network(f"slim_resnet_v2_{depth}", shape)
    x = net.pool(net.conv(net.input, 64, 7, 2, act=""), pad="tf")
    for width, count, stride in zip((64, 128, 256, 512), _RESNET[depth], (2, 2, 2, 1)):
        for i in range(count):
            step = stride if i == count - 1 else 1
            ready = net.affine(x)
            if dims(x)[1] == width * 4:
                short = x if step == 1 else net.pool(x, 1, step)
            else:
                short = net.conv(ready, width * 4, 1, step, act="")
            y = net.conv(net.conv(net.conv(ready, width, 1), width, 3, step), width * 4, 1, act="")
            x = net.add(y, short)
    return net.finish(net.head(net.affine(x)))


def densenet(shape: tuple[int, ...], depth: int) -> ir.Model:
    """DenseNet as torchvision has it: every layer concatenates all features before it anew."""
    growth, stem, blocks = _DENSENET[depth]
    net = Network(f"densenet{depth}", shape)
    x = net.pool(net.conv(net.input, stem, 7, 2), pad=1)
    for index, count in enumerate(blocks):
        features = [x]
        for _ in range(count):
            joined = net.concat(*features) if len(features) > 1 else features[0]
            y = net.conv(net.conv(net.affine(joined), 4 * growth, 1), growth, 3, act="")
            features.append(y)
        x = net.concat(*features)
        if index < len(blocks) - 1:
            x = net.pool(net.conv(net.affine(x), dims(x)[1] // 2, 1, act=""), 2, 2, kind="Average")
    return net.finish(net.head(net.affine(x)))
