"""YOLO networks at their deployment form: v7, v8 and 11.

Sources of the shapes: the model files of WongKinYiu/yolov7 (cfg/deploy/yolov7.yaml) and ultralytics (yolov8.yaml,
yolo11.yaml), whose printed GFLOPs the tests compare with. Widths and repeats of v8 and 11 are multiples rounded as
there: channels to 8, repeats to the nearest. The engines of the rows end before non-maximum suppression.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from benchmarks.networks.graph import Network, Value, dims

SCALES = {  # depth, width, most channels
    "n": (0.50, 0.25, 1024), "s": (0.50, 0.50, 1024), "m": (0.50, 1.00, 512), "l": (1.00, 1.00, 512),
    "x": (1.00, 1.50, 512),
}  # fmt: skip
_V8N = (0.33, 0.25, 1024)


def _c(net: Network, x: Value, width: int, kernel: int = 3, stride: int = 1, group: int = 1) -> Value:
    return net.conv(x, width, kernel, stride, act="silu", group=group)


def _bottleneck(net: Network, x: Value, width: int, inner: int, shortcut: bool) -> Value:
    y = _c(net, _c(net, x, inner), width)
    return net.add(x, y) if shortcut else y


def _c3k(net: Network, x: Value, width: int, shortcut: bool = True) -> Value:
    half = width // 2
    y = _c(net, x, half, 1)
    for _ in range(2):
        y = _bottleneck(net, y, half, half, shortcut)
    return _c(net, net.concat(y, _c(net, x, half, 1)), width, 1)


def _c2f(net: Network, x: Value, width: int, count: int, *, kind: str, ratio: float = 0.5, shortcut: bool = True) -> (
    Value
):
    inner = int(width * ratio)
    parts = net.split(_c(net, x, 2 * inner, 1), inner, inner)
    for _ in range(count):
        last = parts[-1]
        if kind == "c3k":
            parts.append(_c3k(net, last, inner))
        else:
            parts.append(_bottleneck(net, last, inner, inner if kind == "c2f" else inner // 2, shortcut))
    return _c(net, net.concat(*parts), width, 1)


def _sppf(net: Network, x: Value, width: int) -> Value:
    parts = [_c(net, x, dims(x)[1] // 2, 1)]
    for _ in range(3):
        parts.append(net.pool(parts[-1], 5, 1, pad=2))
    return _c(net, net.concat(*parts), width, 1)


def _attention(net: Network, x: Value) -> Value:
    n, c, h, w = dims(x)
    heads = c // 64
    key = 32
    qkv = net.reshape(net.conv(x, c + 2 * key * heads, 1, act=""), n, heads, 2 * key + 64, h * w)
    q, k, v = net.split(qkv, key, key, 64, axis=2)
    scores = net.matmul(net.transpose(q, 0, 1, 3, 2), k)
    scaled = net.node("Mul", [scores, net.constant(key**-0.5, np.float32)], dims(scores))
    mixed = net.reshape(net.matmul(v, net.transpose(net.softmax(scaled), 0, 1, 3, 2)), n, c, h, w)
    placed = net.depthwise(net.reshape(v, n, c, h, w), act="")
    return net.conv(net.add(mixed, placed), c, 1, act="")


def _c2psa(net: Network, x: Value, count: int) -> Value:
    width = dims(x)[1]
    a, b = net.split(_c(net, x, width, 1), width // 2, width // 2)
    for _ in range(count):
        b = net.add(b, _attention(net, b))
        b = net.add(b, net.conv(_c(net, b, width, 1), width // 2, 1, act=""))
    return _c(net, net.concat(a, b), width, 1)


def _detect(net: Network, maps: list[Value], *, light: bool) -> Value:
    boxes_width = max(16, dims(maps[0])[1] // 4, 64)
    class_width = max(dims(maps[0])[1], 80)
    boxes, scores = [], []
    for x in maps:
        b = net.conv(_c(net, _c(net, x, boxes_width), boxes_width), 64, 1, act="")
        if light:
            s = x
            for _ in range(2):
                s = _c(net, _c(net, s, dims(s)[1], group=dims(s)[1]), class_width, 1)
        else:
            s = _c(net, _c(net, x, class_width), class_width)
        s = net.conv(s, 80, 1, act="")
        joined = net.concat(b, s)
        flat = net.reshape(joined, 1, 144, math.prod(dims(joined)[2:]))
        boxes.append(flat)
    every = net.concat(*boxes, axis=2)
    b, s = net.split(every, 64, 80)
    count = dims(b)[2]
    weights = net.softmax(net.transpose(net.reshape(b, 1, 4, 16, count), 0, 2, 1, 3), axis=1)
    distance = net.reshape(net.conv(weights, 1, 1, act=""), 1, 4, count)
    lower, upper = net.split(distance, 2, 2)
    scores = net.act(s, "sigmoid")
    return net.concat(net.concat(net.add(lower, upper), net.add(upper, lower)), scores)


def yolo11(shape: tuple[int, ...], size: str) -> ir.Model:
    """YOLO11 n, s, m, l or x."""
    depth, scale, most = SCALES[size]
    net = Network(f"yolo11{size}", shape)
    is_large = size in "mlx"

    def w(channels: int) -> int:
        return math.ceil(min(channels, most) * scale / 8) * 8

    count = max(round(2 * depth), 1)

    def block(x: Value, channels: int, deep: bool, ratio: float = 0.5) -> Value:
        return _c2f(net, x, w(channels), count, kind="c3k" if deep or is_large else "c3k2", ratio=ratio)

    x = _c(net, _c(net, net.input, w(64), 3, 2), w(128), 3, 2)
    x = _c(net, block(x, 256, False, 0.25), w(256), 3, 2)
    p3 = block(x, 512, False, 0.25)
    p4 = block(_c(net, p3, w(512), 3, 2), 512, True)
    x = block(_c(net, p4, w(1024), 3, 2), 1024, True)
    p5 = _c2psa(net, _sppf(net, x, w(1024)), count)
    n4 = block(net.concat(net.upsample(p5), p4), 512, False)
    o3 = block(net.concat(net.upsample(n4), p3), 256, False)
    o4 = block(net.concat(_c(net, o3, w(256), 3, 2), n4), 512, False)
    o5 = block(net.concat(_c(net, o4, w(512), 3, 2), p5), 1024, True)
    return net.finish(_detect(net, [o3, o4, o5], light=True))


def yolov8n(shape: tuple[int, ...]) -> ir.Model:
    """YOLOv8 nano."""
    depth, scale, most = _V8N
    net = Network("yolov8n", shape)

    def w(channels: int) -> int:
        return math.ceil(min(channels, most) * scale / 8) * 8

    def block(x: Value, channels: int, repeats: int, shortcut: bool = True) -> Value:
        return _c2f(net, x, w(channels), max(round(repeats * depth), 1), kind="c2f", shortcut=shortcut)

    x = block(_c(net, _c(net, net.input, w(64), 3, 2), w(128), 3, 2), 128, 3)
    p3 = block(_c(net, x, w(256), 3, 2), 256, 6)
    p4 = block(_c(net, p3, w(512), 3, 2), 512, 6)
    p5 = _sppf(net, block(_c(net, p4, w(1024), 3, 2), 1024, 3), w(1024))
    n4 = block(net.concat(net.upsample(p5), p4), 512, 3, False)
    o3 = block(net.concat(net.upsample(n4), p3), 256, 3, False)
    o4 = block(net.concat(_c(net, o3, w(256), 3, 2), n4), 512, 3, False)
    o5 = block(net.concat(_c(net, o4, w(512), 3, 2), p5), 1024, 3, False)
    return net.finish(_detect(net, [o3, o4, o5], light=False))


def _elan(net: Network, x: Value, inner: int, out: int, *, every: bool = False, first: int = 0) -> Value:
    a, b = _c(net, x, first or inner, 1), _c(net, x, first or inner, 1)
    steps = [b]
    for _ in range(4):
        steps.append(_c(net, steps[-1], inner))
    used = steps[::-1] if every else [steps[4], steps[2], steps[0]]
    return _c(net, net.concat(*used, a), out, 1)


def _down(net: Network, x: Value, width: int, *more: Value) -> Value:
    pooled = _c(net, net.pool(x, 2, 2), width, 1)
    strided = _c(net, _c(net, x, width, 1), width, 3, 2)
    return net.concat(strided, pooled, *more)


def yolov7(shape: tuple[int, ...]) -> ir.Model:
    """YOLOv7 with re-parametrised convolutions and 80 classes."""
    net = Network("yolov7", shape)
    x = _c(net, _c(net, _c(net, net.input, 32), 64, 3, 2), 64)
    x = _elan(net, _c(net, x, 128, 3, 2), 64, 256)
    p3 = _elan(net, _down(net, x, 128), 128, 512)
    p4 = _elan(net, _down(net, p3, 256), 256, 1024)
    x = _elan(net, _down(net, p4, 512), 256, 1024)
    y = _c(net, _c(net, _c(net, x, 512, 1), 512), 512, 1)
    pooled = net.concat(y, *(net.pool(y, k, 1, pad=k // 2) for k in (5, 9, 13)))
    y = _c(net, _c(net, pooled, 512, 1), 512)
    p5 = _c(net, net.concat(y, _c(net, x, 512, 1)), 512, 1)
    x = net.concat(_c(net, p4, 256, 1), net.upsample(_c(net, p5, 256, 1)))
    n4 = _elan(net, x, 128, 256, every=True, first=256)
    x = net.concat(_c(net, p3, 128, 1), net.upsample(_c(net, n4, 128, 1)))
    o3 = _elan(net, x, 64, 128, every=True, first=128)
    o4 = _elan(net, _down(net, o3, 128, n4), 128, 256, every=True, first=256)
    o5 = _elan(net, _down(net, o4, 256, p5), 256, 512, every=True, first=512)
    outputs = []
    for x in (o3, o4, o5):
        y = net.conv(_c(net, x, 2 * dims(x)[1]), 255, 1, act="")
        h, v = dims(y)[2:]
        y = net.act(net.transpose(net.reshape(y, 1, 3, 85, h, v), 0, 1, 3, 4, 2), "sigmoid")
        outputs.append(net.reshape(y, 1, 3 * h * v, 85))
    return net.finish(net.concat(*outputs))
