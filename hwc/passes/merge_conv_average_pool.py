"""Makes a Conv and the AveragePool behind it one strided Conv with a larger kernel.

With Conv kernel k, stride s, dilation d, padding p and a pool of window w, stride t, without padding:

    z[o] = 1/w sum_{i<w} sum_{j<k} W[j] x[(o t + i) s + j d - p]   per axis

so W'[m] = 1/w sum_{i s + j d = m} W[j], a kernel of (w - 1) s + (k - 1) d + 1 at stride s t, same p, same bias, no
dilation. The output size agrees by floor(floor(a) / t) = floor(a / t). A 3x3 Conv before a 2x2 pool becomes a 4x4 Conv
of stride 2: 16 products a pixel for 4 * 9.

Limit: a pool that pads averages zeros that the Conv never made, so it stays; so does one whose ceil_mode adds a window.
Gated by the estimate, since for large windows the kernel grows faster than the pixels shrink.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import attribute, constant, only_user, producer, require, static_shape, sweep
from hwc.graph.model import Namer, make_node, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.require_gain import candidate_weight, require_gain


def merge_conv_average_pool(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    rule = partial(_merge, namer=Namer(model), context=context)
    return PassReport(sweep(model, ("AveragePool",), rule, misses=misses), tuple(misses))


def _merge(pool: ir.Node, *, namer: Namer, context: PassContext) -> None:
    conv = producer(pool.inputs[0], "Conv")
    only_user(conv.outputs[0])
    weight = constant(conv.inputs[1], "the weight of the Conv")
    axes = weight.ndim - 2
    require(attribute(conv, "auto_pad", "NOTSET") in ("NOTSET", "VALID"), "the Conv pads by auto_pad")
    window, pool_strides = _window(pool, conv, axes)
    strides = attribute(conv, "strides", [1] * axes)
    dilations = attribute(conv, "dilations", [1] * axes)

    merged = average_shifted(weight, window, strides, dilations)
    result = pool.outputs[0]
    kernel = candidate_weight(namer.fresh(f"{conv.inputs[1].name}_averaged"), merged)  # type: ignore[union-attr]
    new = make_node(
        "Conv",
        [conv.inputs[0], kernel, *conv.inputs[2:]],
        name=namer.fresh(f"{conv.name}_averaging"),
        outputs=[namer.fresh(f"{result.name}_averaging")],
        attributes={
            "kernel_shape": list(merged.shape[2:]),
            "strides": [s * t for s, t in zip(strides, pool_strides)],
            "pads": attribute(conv, "pads", [0] * (2 * axes)),
            "group": attribute(conv, "group", 1),
        },
        dtype=result.dtype,
        shapes=[result.shape],
    )
    require_gain([conv, pool], [new], context, pool.graph)
    replace_nodes([conv, pool], [new], {result: new.outputs[0]})


def _window(pool: ir.Node, conv: ir.Node, axes: int) -> tuple[list[int], list[int]]:
    """Window and strides of the pool; near misses for what the formula does not cover."""
    window = [int(size) for size in attribute(pool, "kernel_shape")]
    strides = attribute(pool, "strides", [1] * axes)
    require(attribute(pool, "auto_pad", "NOTSET") in ("NOTSET", "VALID"), "the pool pads by auto_pad")
    require(not any(attribute(pool, "pads", [0])), "the pool pads")
    require(all(d == 1 for d in attribute(pool, "dilations", [1])), "the pool is dilated")
    if attribute(pool, "ceil_mode", 0):
        size = static_shape(conv.outputs[0], "the Conv's output")[2:]
        fits = all((n - w) % t == 0 for n, w, t in zip(size, window, strides))
        require(fits, "ceil_mode adds a window that hangs over the edge")
    return window, strides


def average_shifted(
    weight: np.ndarray, window: list[int], strides: list[int], dilations: list[int]
) -> np.ndarray:
    """The kernel W' of the module docstring, summed in float64.

    Args:
        weight: [C_out, C_in / group, k...]
        window: of the pool, per axis; strides and dilations are the Conv's.
    """
    kernel = weight.shape[2:]
    size = [(w - 1) * s + (k - 1) * d + 1 for w, s, k, d in zip(window, strides, kernel, dilations)]
    total = np.zeros([*weight.shape[:2], *size], np.float64)
    for shift in product(*(range(w) for w in window)):
        # Tap j of this copy lands on i s + j d.
        spans = [slice(i * s, i * s + (k - 1) * d + 1, d) for i, s, k, d in zip(shift, strides, kernel, dilations)]
        total[(slice(None), slice(None)) + tuple(spans)] += weight
    return (total / np.prod(window)).astype(weight.dtype)
