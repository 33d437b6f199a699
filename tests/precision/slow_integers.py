"""A second INT8 machine, slow and plain, that shares no code with the simulator: numpy loops over int64.

`run_implicit` takes what TensorRT's implicit mode is given: an FP32 graph without Q/DQ, one scale per tensor (a
calibration cache), and FP32 weights that it calibrates by itself, max |w| / 127 per output channel. Which layers read
integers is told too, as layer precisions are. It knows the operators of the test networks only.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir

from hwc.graph.match import attribute
from hwc.graph.model import constant_array


def quantize(x: np.ndarray, scale: np.float32, dtype: str) -> np.ndarray:
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    return np.clip(np.rint(x.astype(np.float32) / np.float32(scale)), low, high).astype(np.int64)


def weight_integers(w: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """TensorRT's own calibration of a weight: symmetric, per channel, by the maximum."""
    moved = np.moveaxis(w, axis, 0)
    top = np.abs(moved.reshape(len(moved), -1)).max(axis=1).astype(np.float32)
    scale = np.where(top > 0, top / np.float32(127), np.float32(1)).astype(np.float32)
    wide = scale.reshape([-1 if i == axis else 1 for i in range(w.ndim)])
    return np.clip(np.rint(w / wide), -127, 127).astype(np.int64), scale


def convolve(x: np.ndarray, w: np.ndarray, strides, pads, dilations, group: int) -> np.ndarray:
    """int64 convolution of any rank by loops over the kernel's positions."""
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))])
    sizes = [(x.shape[2 + i] - dilations[i] * (w.shape[2 + i] - 1) - 1) // strides[i] + 1 for i in range(rank)]
    out = np.zeros((x.shape[0], w.shape[0], *sizes), np.int64)
    step, per = w.shape[1], w.shape[0] // group
    for g in range(group):
        for k in itertools.product(*(range(n) for n in w.shape[2:])):
            window = tuple(
                slice(k[i] * dilations[i], k[i] * dilations[i] + strides[i] * (sizes[i] - 1) + 1, strides[i])
                for i in range(rank)
            )
            part = x[(slice(None), slice(g * step, (g + 1) * step), *window)]
            taps = w[(slice(g * per, (g + 1) * per), slice(None), *k)]
            out[:, g * per : (g + 1) * per] += np.einsum("oc,nc...->no...", taps, part)
    return out


def transpose_convolve(x: np.ndarray, w: np.ndarray, strides) -> np.ndarray:
    rank = x.ndim - 2
    sizes = [strides[i] * (x.shape[2 + i] - 1) + w.shape[2 + i] for i in range(rank)]
    out = np.zeros((x.shape[0], w.shape[1], *sizes), np.int64)
    for k in itertools.product(*(range(n) for n in w.shape[2:])):
        window = tuple(slice(k[i], k[i] + strides[i] * (x.shape[2 + i] - 1) + 1, strides[i]) for i in range(rank))
        out[(slice(None), slice(None), *window)] += np.einsum("co,nc...->no...", w[(slice(None), slice(None), *k)], x)
    return out


def run_implicit(model: ir.Model, scales: dict[str, tuple[float, str]], reads, feeds) -> dict[str, np.ndarray]:
    """Every float tensor of the graph, before rounding. `reads` holds (node name, input index) of integer inputs."""
    values = {name: np.asarray(array) for name, array in feeds.items()}
    for node in model.graph:
        values[node.outputs[0].name] = _run(node, values, scales, reads)
    return values


def _run(node: ir.Node, values: dict[str, np.ndarray], scales: dict[str, tuple[float, str]], reads) -> np.ndarray:
    arrays = []
    for index, value in enumerate(node.inputs):
        found = constant_array(value)
        if found is None:
            found = values[value.name]
            if (node.name, index) in reads:
                step, dtype = scales[value.name]
                found = quantize(found, np.float32(step), dtype).astype(np.float32) * np.float32(step)
        arrays.append(found)
    x = arrays[0]
    if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        return _weighted(node, x, arrays, _known_scale(node.inputs[0], scales))
    if node.op_type == "Relu":
        return np.maximum(x, np.float32(0))
    if node.op_type in ("Add", "Concat"):
        return x + arrays[1] if node.op_type == "Add" else np.concatenate(arrays, axis=attribute(node, "axis"))
    if node.op_type == "MaxPool":
        n, c, h, w = x.shape
        return x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
    if node.op_type in ("GlobalAveragePool", "ReduceMean"):
        return x.mean(axis=tuple(range(2, x.ndim)), keepdims=True, dtype=np.float32)
    if node.op_type == "Clip":
        return np.clip(x, arrays[1], arrays[2])
    assert node.op_type in ("Flatten", "Reshape")
    return x.reshape(len(x), -1)


def _known_scale(value: ir.Value, scales: dict[str, tuple[float, str]]) -> tuple[float, str]:
    """The scale of a tensor, or of the one that was pooled, joined or reshaped into it."""
    while value.name not in scales:
        value = value.producer().inputs[0]
    return scales[value.name]


def _weighted(node: ir.Node, x: np.ndarray, arrays, known: tuple[float, str]) -> np.ndarray:
    step, dtype = np.float32(known[0]), known[1]
    axis = 1 if node.op_type == "ConvTranspose" else 0
    is_plain = node.op_type == "Gemm" and not attribute(node, "transB", 0)
    w, w_scale = weight_integers(arrays[1].T if is_plain else arrays[1], axis)
    q, rank = quantize(x, step, dtype), x.ndim - 2
    if node.op_type == "Gemm":
        total = q @ w.T
    elif node.op_type == "ConvTranspose":
        total = transpose_convolve(q, w, attribute(node, "strides", [1] * rank))
    else:
        total = convolve(q, w, attribute(node, "strides", [1] * rank), attribute(node, "pads", [0] * 2 * rank),
                         attribute(node, "dilations", [1] * rank), attribute(node, "group", 1))  # fmt: skip
    assert np.abs(total).max(initial=0) < 2**31
    wide = (step * w_scale).astype(np.float32).reshape([1, -1] + [1] * rank)
    result = total.astype(np.float32) * wide
    return result + arrays[2].reshape([1, -1] + [1] * rank) if len(arrays) > 2 else result
