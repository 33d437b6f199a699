"""Pads a Conv alike on both sides, for a DLA that is known to want it, by zeros in its kernel.

With padding b before and e after, b < e, the kernel gets e - b zeros in front and the padding becomes e on both sides:

    sum_j w[j] x[i s + j - b] = sum_j' w'[j'] x[i s + j' - e],   w'[j'] = w[j' - (e - b)]

and likewise behind the kernel where b > e. Exact, and the length stays. It costs the multiplications by zero, so it is
done only where the target's fact 'dla.asymmetric_padding' is a no; where it is unknown the board is asked instead.

Limits: constant weights; with a dilation d, e - b has to be a multiple of d; the kernel stays within DLA's limit.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import attribute, constant, require, skip_unless, sweep
from hwc.graph.model import Namer, replace_nodes
from hwc.graph.padding import explicit_pads
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter
from hwc.passes.require_dla import has_dla, limit, static_dims


def symmetrize_padding(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    if not has_dla(context.target) or context.target.fact("dla.asymmetric_padding").value is not False:
        return PassReport(0)
    rule = partial(_symmetrize, namer=Namer(model), target=context.target)
    return PassReport(sweep(model, ("Conv",), rule, misses=misses), tuple(misses))


def _symmetrize(node: ir.Node, *, namer: Namer, target: Target) -> None:
    x, result = node.inputs[0], node.outputs[0]
    size = static_dims(x)[2:]
    weight = constant(node.inputs[1], "the weight")
    pads = explicit_pads(node, size, weight.shape[2:])
    before, after = pads[:2], pads[2:]
    skip_unless(before != after)
    dilations = attribute(node, "dilations", [1, 1])
    widen = [(0, 0), (0, 0)]
    for begin, end, dilation in zip(before, after, dilations):
        require((end - begin) % dilation == 0, "the difference of the padding is no multiple of the dilation")
        widen.append((max(end - begin, 0) // dilation, max(begin - end, 0) // dilation))
    kernel = np.pad(weight, widen)
    largest = limit(target, "dla.conv_kernel_max")
    require(max(kernel.shape[2:]) <= largest, f"the kernel would become {kernel.shape[2]}x{kernel.shape[3]}")
    emit = Emitter(node, namer)
    attributes = {name: attribute(node, name) for name in node.attributes if name != "auto_pad"}
    both = [max(pair) for pair in zip(before, after)]
    attributes.update(kernel_shape=list(kernel.shape[2:]), pads=[*both, *both])
    inputs = [value for value in (x, emit.constant(kernel, "kernel"), *node.inputs[2:]) if value is not None]
    value = emit.one("Conv", "conv", inputs, static_dims(result), **attributes)
    replace_nodes([node], emit.nodes, {result: value})
