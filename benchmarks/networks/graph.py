"""A small writer of ONNX graphs: one method a layer, shapes known as the graph grows, weights without memory.

The networks of this folder exist for their shapes: an estimate of latency reads no weight. So every weight is one
number seen in many places, and VGG-16 takes no memory until `fill_weights` draws He-scaled noise. Batch normalisation
is written as what it becomes at inference: a bias of the convolution before it, or, where none is before it, one
BatchNormalization node.

Spatial sizes follow floor((size + pads - dilation * (kernel - 1) - 1) / stride) + 1 per axis (ONNX, Conv).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.graph.model import add_initializer, make_node

OPSET = 17
Value = ir.Value


class Network:
    """One growing graph. `input` is its first value, 1xCx... float32."""

    def __init__(self, name: str, shape: Sequence[int]) -> None:
        self.input = ir.Value(name="image", shape=ir.Shape([1, *shape]), type=ir.TensorType(ir.DataType.FLOAT))
        self.graph = ir.Graph([self.input], [], nodes=[], opset_imports={"": OPSET}, name=name)

    def finish(self, *outputs: Value) -> ir.Model:
        """The model with these outputs."""
        self.graph.outputs.extend(outputs)
        return ir.Model(self.graph, ir_version=8)

    def node(self, kind: str, inputs: Sequence[Value], shape: Sequence[int], **attributes: Any) -> Value:
        """One node with one float output of that shape."""
        return self.nodes(kind, inputs, [shape], **attributes)[0]

    def nodes(self, kind: str, inputs: Sequence[Value], shapes: Sequence[Sequence[int]], **attributes: Any) -> list[
        Value
    ]:
        """One node with several float outputs."""
        name = f"{kind}_{len(self.graph)}"
        outputs = [name if i == 0 else f"{name}_{i}" for i in range(len(shapes))]
        made = make_node(
            kind, list(inputs), name=name, outputs=outputs, attributes=attributes, dtype=ir.DataType.FLOAT,
            shapes=shapes,
        )  # fmt: skip
        self.graph.append(made)
        return list(made.outputs)

    def weight(self, shape: Sequence[int], *, is_positive: bool = False) -> Value:
        """A weight without memory: one 0, or 1 where it has to be positive, seen in that shape."""
        name = f"w{len(self.graph.initializers)}"
        tensor = ir.Tensor(np.broadcast_to(np.float32(is_positive), tuple(shape)), name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT), const_value=tensor
        )
        self.graph.register_initializer(value)
        return value

    def constant(self, array: Any, dtype: Any = np.int64) -> Value:
        """An eager constant, for shapes, scales and the like."""
        return add_initializer(self.graph, f"c{len(self.graph.initializers)}", np.asarray(array, dtype))

    def conv(
        self, x: Value, channels: int, kernel: int | Sequence[int] = 3, stride: int = 1, *, act: str = "relu",
        pad: str | int | Sequence[int] = "same", group: int = 1, dilation: int = 1,
    ) -> Value:  # fmt: skip
        """Convolution with bias and activation over any number of axes.

        Args:
            pad: "same" (kernel // 2, dilated), "tf" (output ceil(size / stride), odd pixel at the end), "valid", or
                pixels per axis.
        """
        size = dims(x)
        axes = len(size) - 2
        kernels = [kernel] * axes if isinstance(kernel, int) else list(kernel)
        spans = [dilation * (k - 1) + 1 for k in kernels]
        before, after = _pads(pad, size[2:], spans, stride)
        out = [(s + b + a - span) // stride + 1 for s, b, a, span in zip(size[2:], before, after, spans)]
        weights = self.weight([channels, size[1] // group, *kernels])
        y = self.node(
            "Conv", [x, weights, self.weight([channels])], [size[0], channels, *out], kernel_shape=kernels,
            strides=[stride] * axes, pads=[*before, *after], group=group, dilations=[dilation] * axes,
        )  # fmt: skip
        return self.act(y, act)

    def depthwise(self, x: Value, kernel: int = 3, stride: int = 1, *, act: str = "relu", pad: Any = "same") -> Value:
        """A convolution per channel."""
        return self.conv(x, dims(x)[1], kernel, stride, act=act, pad=pad, group=dims(x)[1])

    def deconv(
        self, x: Value, channels: int, kernel: int, stride: int, pad: int = 0, extra: int = 0, *, act: str = "relu"
    ) -> Value:
        """Transposed convolution; `extra` is output_padding."""
        size = dims(x)
        axes = len(size) - 2
        out = [(s - 1) * stride - 2 * pad + kernel + extra for s in size[2:]]
        y = self.node(
            "ConvTranspose", [x, self.weight([size[1], channels, *[kernel] * axes]), self.weight([channels])],
            [size[0], channels, *out], kernel_shape=[kernel] * axes, strides=[stride] * axes, pads=[pad] * 2 * axes,
            output_padding=[extra] * axes,
        )  # fmt: skip
        return self.act(y, act)

    def act(self, x: Value, kind: str) -> Value:
        """relu, relu6, leaky, silu, gelu (as exporters write it), sigmoid, tanh, or "" for none."""
        if kind == "":
            return x
        if kind == "relu6":
            return self.node("Clip", [x, self.constant(0, np.float32), self.constant(6, np.float32)], dims(x))
        if kind == "silu":
            return self.mul(x, self.act(x, "sigmoid"))
        if kind == "gelu":
            root = self.node("Div", [x, self.constant(math.sqrt(2.0), np.float32)], dims(x))
            error = self.node("Erf", [root], dims(x))
            shifted = self.node("Add", [error, self.constant(1.0, np.float32)], dims(x))
            return self.node("Mul", [self.mul(x, shifted), self.constant(0.5, np.float32)], dims(x))
        names = {"relu": "Relu", "leaky": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
        return self.node(names[kind], [x], dims(x), **({"alpha": 0.01} if kind == "leaky" else {}))

    def affine(self, x: Value, act: str = "relu") -> Value:
        """A batch normalisation with no convolution in front, and an activation."""
        channels = dims(x)[1]
        spread = (self.weight([channels], is_positive=True), self.weight([channels]), self.weight([channels]))
        y = self.node("BatchNormalization", [x, *spread, self.weight([channels], is_positive=True)], dims(x))
        return self.act(y, act)

    def instance_norm(self, x: Value, act: str) -> Value:
        """Instance normalisation and an activation."""
        channels = dims(x)[1]
        scales = [self.weight([channels], is_positive=True), self.weight([channels])]
        return self.act(self.node("InstanceNormalization", [x, *scales], dims(x)), act)

    def pool(
        self, x: Value, kernel: int = 3, stride: int = 2, *, kind: str = "Max", pad: Any = 0, ceil: bool = False
    ) -> Value:
        """MaxPool or AveragePool; `pad` as in `conv`."""
        size = dims(x)
        axes = len(size) - 2
        before, after = _pads(pad, size[2:], [kernel] * axes, stride)
        half = (lambda a, b: -(-a // b)) if ceil else (lambda a, b: a // b)
        out = [half(s + b + a - kernel, stride) + 1 for s, b, a in zip(size[2:], before, after)]
        return self.node(
            f"{kind}Pool", [x], [*size[:2], *out], kernel_shape=[kernel] * axes, strides=[stride] * axes,
            pads=[*before, *after], ceil_mode=int(ceil),
        )  # fmt: skip

    def head(self, x: Value, classes: int = 1000) -> Value:
        """Global average pool, flatten, one fully connected layer."""
        pooled = self.node("GlobalAveragePool", [x], [*dims(x)[:2], *[1] * (len(dims(x)) - 2)])
        return self.linear(self.flatten(pooled), classes, act="")

    def flatten(self, x: Value) -> Value:
        """1 x everything."""
        return self.node("Flatten", [x], [1, math.prod(dims(x))])

    def linear(self, x: Value, width: int, *, act: str = "relu") -> Value:
        """A fully connected layer."""
        weights = self.weight([width, dims(x)[1]])
        return self.act(self.node("Gemm", [x, weights, self.weight([width])], [1, width], transB=1), act)

    def add(self, x: Value, y: Value, act: str = "") -> Value:
        """Sum of two tensors of one shape, and an activation."""
        return self.act(self.node("Add", [x, y], dims(x)), act)

    def mul(self, x: Value, y: Value) -> Value:
        """Product of two tensors of one shape."""
        return self.node("Mul", [x, y], dims(x))

    def concat(self, *parts: Value, axis: int = 1) -> Value:
        """Joined along an axis, channels by default."""
        shape = list(dims(parts[0]))
        shape[axis] = sum(dims(part)[axis] for part in parts)
        return self.node("Concat", parts, shape, axis=axis)

    def split(self, x: Value, *sizes: int, axis: int = 1) -> list[Value]:
        """Cut along an axis."""
        shapes = [[*dims(x)[:axis], size, *dims(x)[axis + 1 :]] for size in sizes]
        return self.nodes("Split", [x, self.constant(sizes)], shapes, axis=axis)

    def reshape(self, x: Value, *shape: int) -> Value:
        """The same elements in another shape."""
        return self.node("Reshape", [x, self.constant(shape)], shape)

    def transpose(self, x: Value, *order: int) -> Value:
        """Axes in another order."""
        return self.node("Transpose", [x], [dims(x)[axis] for axis in order], perm=list(order))

    def upsample(self, x: Value, factor: int = 2, mode: str = "nearest") -> Value:
        """Larger by a whole factor along every spatial axis."""
        size = dims(x)
        scales = self.constant([1, 1, *[factor] * (len(size) - 2)], np.float32)
        empty = self.constant([], np.float32)
        shape = [*size[:2], *[s * factor for s in size[2:]]]
        return self.node("Resize", [x, empty, scales], shape, mode=mode)

    def matmul(self, x: Value, y: Value) -> Value:
        """Matrix products over the last two axes."""
        return self.node("MatMul", [x, y], [*dims(x)[:-1], dims(y)[-1]])

    def softmax(self, x: Value, axis: int = -1) -> Value:
        """Softmax along an axis."""
        return self.node("Softmax", [x], dims(x), axis=axis)


def dims(x: Value) -> tuple[int, ...]:
    """The shape as plain numbers."""
    assert x.shape is not None
    return tuple(int(dim) for dim in x.shape)


def fill_weights(model: ir.Model) -> None:
    """Gives every weight noise of variance 2 / fan-in, seeded by its name; small for vectors, about 1 if positive."""
    for name, value in model.graph.initializers.items():
        if not name.startswith("w") or value.const_value is None:
            continue
        shape = tuple(int(d) for d in value.const_value.shape)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        scale = math.sqrt(2.0 / math.prod(shape[1:])) if len(shape) > 1 else 0.1
        noise = rng.standard_normal(shape, np.float32) * np.float32(scale)
        first = value.const_value.numpy().flat[0]
        value.const_value = ir.Tensor(np.abs(noise) + first if first else noise, name=name)


def save_network(model: ir.Model, path: Path) -> None:
    """Writes the graph as ONNX, with noise for weights; weights beside the file where it would pass 2 GiB."""
    fill_weights(model)
    ir.save(model, path)


def _pads(pad: Any, sizes: Sequence[int], spans: Sequence[int], stride: int) -> tuple[list[int], list[int]]:
    if pad == "tf":
        total = [max((-(-s // stride) - 1) * stride + span - s, 0) for s, span in zip(sizes, spans)]
        return [t // 2 for t in total], [t - t // 2 for t in total]
    if pad == "same":
        one = [span // 2 for span in spans]
    elif pad == "valid":
        one = [0] * len(spans)
    else:
        one = [pad] * len(spans) if isinstance(pad, int) else list(pad)
    return one, list(one)
