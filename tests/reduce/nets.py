"""Graphs for these tests: a chain, a U-Net, a norm; and random ones."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from benchmarks.networks.graph import Network, Value, dims, fill_weights
from hwc.cost.count_flops import count_flops
from hwc.reduce.plan_tiles import Price, Tiler
from hwc.reduce.write_tiles import write_tiles
from tests.passes.build import run_onnxruntime
from tests.passes.check import random_feeds

PRICE = Price(lambda node: 1e-5 + count_flops(node) / 1e9, 1e-5, 1e-10)


def finish(net: Network, *outputs: Value) -> ir.Model:
    model = net.finish(*outputs)
    fill_weights(model)
    return model


def chain(shape=(3, 17, 19)) -> ir.Model:
    net = Network("chain", shape)
    x = net.conv(net.input, 8)
    return finish(net, net.conv(net.pool(net.conv(x, 8, 3, 2), 3, 2, pad=1), 4, 3, act=""))


def small_unet(shape=(1, 8, 12, 8), width: int = 4, norm: str = "batch") -> ir.Model:
    """Two levels, skip by channel concat, an upsampling by ConvTranspose."""
    net = Network("unet", shape)

    def block(x: Value, channels: int) -> Value:
        x = net.conv(x, channels, 3, act="")
        return net.affine(x) if norm == "batch" else net.instance_norm(x, "relu")

    skip = block(block(net.input, width), 2 * width)
    x = block(block(net.pool(skip, 2, 2), 2 * width), 4 * width)
    x = net.concat(net.deconv(x, 4 * width, 2, 2, act=""), skip)
    return finish(net, net.conv(block(block(x, 2 * width), 2 * width), 2, 1, act=""))


def random_net(seed: int, axes: int = 2) -> ir.Model:
    """Six to nine layers of every kind that can be cut, with skips, on odd sizes."""
    rng = np.random.default_rng(seed)
    net = Network("random", (int(rng.integers(1, 4)), *[int(n) for n in rng.integers(9, 16, axes)]))
    values = [net.input]
    for _ in range(int(rng.integers(4, 8))):
        x = values[-1]
        kind = rng.choice(["conv", "conv", "depthwise", "max", "mean", "deconv", "resize", "affine", "norm", "add",
                           "concat", "sigmoid", "gate", "softmax"])  # fmt: skip
        small, stride = min(dims(x)[2:]), int(rng.integers(1, 3))
        if kind == "conv" and small >= 5:
            kernel, dilation = int(rng.choice([1, 2, 3])), int(rng.integers(1, 3))
            pad = [int(p) for p in rng.integers(0, (kernel - 1) * dilation + 1, axes)]
            x = net.conv(x, int(rng.integers(1, 5)), kernel, stride, pad=pad, dilation=dilation)
        elif kind == "depthwise":
            x = net.depthwise(x, 3, stride)
        elif kind == "max" and small >= 5:
            x = net.pool(x, 3, 2, pad=1, ceil=bool(rng.integers(2)))
        elif kind == "mean" and small >= 5:
            x = net.pool(x, 3, stride, kind="Average", pad=1)
        elif kind == "deconv" and small <= 12:
            kernel = int(rng.integers(2, 5))
            x = net.deconv(x, int(rng.integers(1, 4)), kernel, 2, int(rng.integers(0, 2)), int(rng.integers(0, 2)))
        elif kind == "resize" and small <= 12:
            x = net.upsample(x, int(rng.integers(2, 4)), str(rng.choice(["nearest", "linear"])))
        elif kind == "affine":
            x = net.affine(x)
        elif kind == "norm":
            x = net.instance_norm(x, "relu")
        elif kind == "add":
            twins = [v for v in values if dims(v) == dims(x)]
            x = net.add(x, twins[int(rng.integers(len(twins)))], "relu")
        elif kind == "concat":
            x = net.concat(*[v for v in values if dims(v)[2:] == dims(x)[2:]][-3:])
        elif kind == "sigmoid":
            x = net.act(x, "silu")
        elif kind == "gate":
            pooled = net.node("GlobalAveragePool", [x], [*dims(x)[:2], *[1] * axes])
            x = net.node("Mul", [x, net.act(pooled, "sigmoid")], dims(x))
        elif kind == "softmax":
            x = net.softmax(x, 1)
        if max(dims(x)[2:]) <= 40:
            values.append(x)
    return finish(net, net.act(values[-1], "leaky"))


def tile(model: ir.Model, virtual=None, budget: int = 0) -> ir.Model:
    """Everything that may be virtual is, and tiles are as small as they get."""
    tiler = Tiler(model, PRICE)
    return write_tiles(model, tiler.plan(set(tiler.optional) if virtual is None else virtual, budget))


def largest_difference(before: ir.Model, after: ir.Model) -> float:
    """Of any output, relative to its largest magnitude."""
    feeds = random_feeds(before)
    pairs = zip(run_onnxruntime(before, feeds), run_onnxruntime(after, feeds), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6)) for a, b in pairs)
