"""ONNX operators in torch, differentiable: convolutions, pools, normalisations, Resize, Pad and LSTM.

Signatures as in `torch_operators.py`. What the specification allows and no network here uses (a cubic Resize, an LSTM
with peepholes, indices of MaxPool) raises `Unsupported` with its name, so that nobody mistakes it for another.
"""

from __future__ import annotations

import math
from typing import Any

from hwc.precision.torch_operators import OPERATORS, Attributes, Operator


class Unsupported(Exception):
    """A form of a known operator that has no counterpart here."""


def _functional() -> Any:
    import torch

    return torch.nn.functional


def window_of(attributes: Attributes, x: Any, kernel: list[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, dilations, pads in front and pads behind of a window over the spatial dims of x."""
    rank = len(kernel)
    strides = list(attributes.get("strides", [1] * rank))
    dilations = list(attributes.get("dilations", [1] * rank))
    pads = list(attributes.get("pads", [0] * 2 * rank))
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        for i in range(rank):
            size = x.shape[2 + i]
            need = max(0, (-(-size // strides[i]) - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - size)
            small, large = need // 2, need - need // 2
            pads[i], pads[rank + i] = (small, large) if auto == "SAME_UPPER" else (large, small)
    return strides, dilations, pads[:rank], pads[rank:]


def pad_constant(x: Any, front: list[int], back: list[int], value: float) -> Any:
    """Constant padding of the last dims; torch counts from the last one."""
    if not any(front) and not any(back):
        return x
    amounts = [amount for pair in reversed(list(zip(front, back))) for amount in pair]
    return _functional().pad(x, amounts, value=value)


def _conv(attributes: Attributes, x: Any, weight: Any, bias: Any = None) -> Any:
    rank = x.dim() - 2
    strides, dilations, front, back = window_of(attributes, x, list(weight.shape[2:]))
    if front != back:
        x, front = pad_constant(x, front, back, 0.0), [0] * rank
    function = getattr(_functional(), f"conv{rank}d")
    return function(x, weight, bias, strides, front, dilations, attributes.get("group", 1))


def _conv_transpose(attributes: Attributes, x: Any, weight: Any, bias: Any = None) -> Any:
    rank = x.dim() - 2
    if "output_shape" in attributes or attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Unsupported("ConvTranspose with output_shape or auto_pad")
    strides, dilations, front, back = window_of(attributes, x, list(weight.shape[2:]))
    extra = list(attributes.get("output_padding", [0] * rank))
    function = getattr(_functional(), f"conv_transpose{rank}d")
    y = function(x, weight, bias, strides, 0, 0, attributes.get("group", 1), dilations)
    # Uneven pads and output padding together: make the whole output, then cut what the pads take away.
    y = pad_constant(y, [0] * rank, [max(0, e - b) for e, b in zip(extra, back)], 0.0) if any(extra) else y
    for i in range(rank):
        y = y.narrow(2 + i, front[i], y.shape[2 + i] - front[i] - max(0, back[i] - extra[i]))
    if any(e > b for e, b in zip(extra, back)) and bias is not None:
        raise Unsupported("ConvTranspose with output_padding beyond its pads")
    return y


def _gemm(attributes: Attributes, a: Any, b: Any, c: Any = None) -> Any:
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    y = a @ b * attributes.get("alpha", 1.0)
    return y if c is None else y + c * attributes.get("beta", 1.0)


def _ceil_extra(attributes: Attributes, x: Any, kernel: list[int], window: Any) -> list[int]:
    """How far the last window of a pool with ceil_mode reaches beyond the padded input, by dim."""
    strides, dilations, front, back = window
    extra = []
    for i, size in enumerate(kernel):
        padded, reach = x.shape[2 + i] + front[i] + back[i], (size - 1) * dilations[i] + 1
        count = math.ceil((padded - reach) / strides[i]) + 1 if attributes.get("ceil_mode", 0) else 0
        if count and (count - 1) * strides[i] >= x.shape[2 + i] + front[i]:
            count -= 1  # a window that starts in the padding behind is left out (opset 19)
        extra.append(max(0, (count - 1) * strides[i] + reach - padded))
    return extra


def _max_pool(attributes: Attributes, x: Any) -> Any:
    kernel = list(attributes["kernel_shape"])
    window = window_of(attributes, x, kernel)
    strides, dilations, front, back = window
    extra = _ceil_extra(attributes, x, kernel, window)
    x = pad_constant(x, front, [b + e for b, e in zip(back, extra)], -math.inf)
    return getattr(_functional(), f"max_pool{len(kernel)}d")(x, kernel, strides, 0, dilations)


def _average_pool(attributes: Attributes, x: Any) -> Any:
    kernel = list(attributes["kernel_shape"])
    window = window_of(attributes, x, kernel)
    strides, dilations, front, back = window
    if any(d != 1 for d in dilations):
        raise Unsupported("AveragePool with dilations")
    extra = _ceil_extra(attributes, x, kernel, window)
    behind = [b + e for b, e in zip(back, extra)]
    pool = getattr(_functional(), f"avg_pool{len(kernel)}d")
    y = pool(pad_constant(x, front, behind, 0.0), kernel, strides)
    if not any(front) and not any(behind):
        return y
    # The divisor is the number of elements that count: pads do with count_include_pad, the overhang never does.
    ones = x.new_ones(1, 1, *x.shape[2:])
    if attributes.get("count_include_pad", 0):
        ones = pad_constant(pad_constant(ones, front, back, 1.0), [0] * len(kernel), extra, 0.0)
    else:
        ones = pad_constant(ones, front, behind, 0.0)
    return y / pool(ones, kernel, strides)


def _global_average_pool(_: Attributes, x: Any) -> Any:
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


def _by_channel(vector: Any, rank: int) -> Any:
    return vector.reshape(1, -1, *[1] * (rank - 2))


def _batch_normalization(attributes: Attributes, x: Any, scale: Any, shift: Any, mean: Any, variance: Any) -> Any:
    factor = scale / (variance + attributes.get("epsilon", 1e-5)).sqrt()
    return x * _by_channel(factor, x.dim()) + _by_channel(shift - mean * factor, x.dim())


def _instance_normalization(attributes: Attributes, x: Any, scale: Any, shift: Any) -> Any:
    return _functional().instance_norm(x, weight=scale, bias=shift, eps=attributes.get("epsilon", 1e-5))


def _layer_normalization(attributes: Attributes, x: Any, scale: Any, shift: Any = None) -> Any:
    axis = attributes.get("axis", -1) % x.dim()
    dims = tuple(range(axis, x.dim()))
    centred = x - x.mean(dims, keepdim=True)
    y = centred / ((centred * centred).mean(dims, keepdim=True) + attributes.get("epsilon", 1e-5)).sqrt() * scale
    return y if shift is None else y + shift


def _local_response(attributes: Attributes, x: Any) -> Any:
    size = attributes["size"]
    square = (x * x).unsqueeze(1)
    square = _functional().pad(square, (0, 0) * (x.dim() - 2) + ((size - 1) // 2, size // 2))
    total = sum(square[:, 0, i : i + x.shape[1]] for i in range(size))
    base = attributes.get("bias", 1.0) + attributes.get("alpha", 1e-4) / size * total
    return x / base ** attributes.get("beta", 0.75)


def _pad(attributes: Attributes, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    mode = attributes.get("mode", "constant")
    amounts = [int(a) for a in pads.tolist()]
    dims = [int(a) % x.dim() for a in axes.tolist()] if axes is not None else list(range(x.dim()))
    front, back = [0] * x.dim(), [0] * x.dim()
    for i, dim in enumerate(dims):
        front[dim], back[dim] = amounts[i], amounts[len(dims) + i]
    if mode == "constant":
        return pad_constant(x, front, back, 0.0 if value is None else float(value))
    if mode == "wrap":
        raise Unsupported("Pad that wraps")
    for dim in range(x.dim()):  # torch reflects only some ranks; picking indices works for all
        size = x.shape[dim]
        if front[dim] or back[dim]:
            import torch

            at = torch.arange(-front[dim], size + back[dim])
            at = at.clamp(0, size - 1) if mode == "edge" else (size - 1) - ((size - 1) - at.abs()).abs()
            x = x.index_select(dim, at)
    return x


def _resize(attributes: Attributes, x: Any, _roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    """Nearest and linear over the spatial dims, one axis at a time by index and weight, as the specification writes."""
    import torch

    mode = attributes.get("mode", "nearest")
    where = attributes.get("coordinate_transformation_mode", "half_pixel")
    if mode not in ("nearest", "linear") or "axes" in attributes or attributes.get("antialias", 0):
        raise Unsupported(f"Resize with mode {mode}, axes or antialias")
    for dim in range(x.dim()):
        before = x.shape[dim]
        if sizes is not None:
            after = int(sizes[dim])
            scale = after / before
        else:
            scale = float(scales[dim])
            after = math.floor(before * scale)
        if after == before and scale == 1.0:
            continue
        at = torch.arange(after, dtype=torch.float64)
        if where == "asymmetric":
            at = at / scale
        elif where == "align_corners":
            at = at * (before - 1) / max(1, after - 1)
        elif where in ("half_pixel", "pytorch_half_pixel"):
            at = (at + 0.5) / scale - 0.5 if where == "half_pixel" or after > 1 else at * 0
        else:
            raise Unsupported(f"Resize with {where}")
        if mode == "nearest":
            rounding = attributes.get("nearest_mode", "round_prefer_floor")
            rounded = {"floor": at.floor(), "ceil": at.ceil(), "round_prefer_floor": (at - 0.5).ceil(),
                       "round_prefer_ceil": (at + 0.5).floor()}[rounding]  # fmt: skip
            x = x.index_select(dim, rounded.long().clamp(0, before - 1))
        else:
            low = at.floor()
            share = (at - low).to(x.dtype).reshape([-1 if i == dim else 1 for i in range(x.dim())])
            first, second = (x.index_select(dim, (low.long() + i).clamp(0, before - 1)) for i in (0, 1))
            x = first * (1 - share) + second * share
    return x


def _lstm(attributes: Attributes, x: Any, w: Any, r: Any, b: Any = None, lens: Any = None, h: Any = None, c: Any = None,
         peephole: Any = None) -> Any:  # fmt: skip
    """torch's own LSTM: the gates i, o, f, c of ONNX are its i, f, g, o."""
    import torch

    if lens is not None or peephole is not None or attributes.get("layout", 0) or "clip" in attributes:
        raise Unsupported("LSTM with lengths, peepholes, a clip or batch first")
    if attributes.get("input_forget", 0) or any(
        name.lower() not in ("sigmoid", "tanh") for name in attributes.get("activations", ())
    ):
        raise Unsupported("LSTM with other activations")
    count, hidden = w.shape[0], attributes["hidden_size"]
    direction = attributes.get("direction", "forward")

    def gates(m: Any) -> Any:
        i, o, f, g = m.split(hidden, 0)
        return torch.cat((i, f, g, o))

    flat = []
    for d in range(count):
        bias = b[d] if b is not None else x.new_zeros(8 * hidden)
        flat += [gates(w[d]), gates(r[d]), gates(bias[: 4 * hidden]), gates(bias[4 * hidden :])]
    zeros = x.new_zeros(count, x.shape[1], hidden)
    start = (h if h is not None else zeros, c if c is not None else zeros)
    if any(state.shape != zeros.shape for state in start):  # torch does not check, and writes beyond the buffer
        raise RuntimeError("the LSTM's initial state is of another batch")
    x = x.flip(0) if direction == "reverse" else x
    y, last_h, last_c = torch._VF.lstm(x, start, flat, True, 1, 0.0, False, count == 2, False)
    y = y.flip(0) if direction == "reverse" else y
    return y.reshape(*y.shape[:2], count, hidden).permute(0, 2, 1, 3), last_h, last_c


LAYERS: dict[str, Operator] = {
    **OPERATORS,
    "Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MaxPool": _max_pool, "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool, "BatchNormalization": _batch_normalization,
    "InstanceNormalization": _instance_normalization, "LayerNormalization": _layer_normalization,
    "LRN": _local_response, "Pad": _pad, "Resize": _resize, "LSTM": _lstm,
}  # fmt: skip
