"""Folds a constant, spatial Pad into the Conv or pool that reads it.

1. Pad(0) + Conv: the pads add up.
2. Pad(0) + AveragePool: the same, with count_include_pad = 1, since the zeros were counted; a pool that has pads of its
   own must count them already.
3. Pad(-inf) + MaxPool: the pads add up, since a MaxPool pads with -inf. Pad(0) + MaxPool as well where the input is
   proven >= 0 (it comes from Relu, Sigmoid, ...): every window holds a real element, so its maximum is never the pad.

Limits: no cropping (negative pads), no ceil_mode, no auto_pad but VALID; a pool's pads must stay below its kernel, as
ONNX and engines ask.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import attribute, constant, is_op, only_user, producer, require, skip_unless, sweep
from hwc.graph.model import bypass, constant_array, mark_origin
from hwc.passes.base import PassContext, PassReport

_NON_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Exp", "Abs", "ThresholdedRelu")
_KEEPS_SIGN = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Concat", "Add", "Mul", "Reshape",
               "Transpose", "Identity", "Dropout")
_MAX_DEPTH = 8


def fold_pads(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the three cases."""
    misses: list[NearMiss] = []
    count = sweep(model, ("Conv", "AveragePool", "MaxPool"), _fold, misses=misses)
    return PassReport(count, tuple(misses))


def _fold(node: ir.Node) -> None:
    value = node.inputs[0]
    pad = producer(value, "Pad")
    assert value is not None
    only_user(value, "the padded tensor")
    require(pad.graph is node.graph, "Pad is in another graph")
    begins, ends, fill = read_pad(pad)
    rank = len(begins)
    require(not any([*begins[:2], *ends[:2]]), "Pad reaches batch or channels")
    require(min([*begins, *ends]) >= 0, "Pad crops")
    require(attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID", ""), "auto_pad follows the padded size")
    own = attribute(node, "pads", [0] * (2 * (rank - 2)))
    total = [have + more for have, more in zip(own, [*begins[2:], *ends[2:]])]
    if node.op_type == "Conv":
        require(fill == 0, f"Conv pads with 0, Pad with {fill}")
    else:
        _ask_pool(node, pad, own, total, fill)
    if node.op_type == "AveragePool" and any(total):
        node.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    node.attributes["pads"] = ir.AttrInt64s("pads", total)
    node.attributes.pop("auto_pad", None)
    mark_origin(node, [node, pad])
    source = pad.inputs[0]
    assert source is not None
    bypass(pad, source)


def _ask_pool(pool: ir.Node, pad: ir.Node, own: list[int], total: list[int], fill: float) -> None:
    require(not attribute(pool, "ceil_mode", 0), "ceil_mode counts windows by the padded size")
    kernel = attribute(pool, "kernel_shape")
    require(all(p < k for p, k in zip(total, [*kernel, *kernel])), "the pads would reach the size of the kernel")
    if pool.op_type == "AveragePool":
        require(fill == 0, f"AveragePool pads with 0, Pad with {fill}")
        require(not any(own) or attribute(pool, "count_include_pad", 0), "AveragePool leaves its own pads uncounted")
        return
    require(not any(v.uses() or v.is_graph_output() for v in pool.outputs[1:]), "MaxPool's indices are read")
    if fill != -np.inf:
        require(fill == 0, f"MaxPool pads with -inf, Pad with {fill}")
        require(_is_non_negative(pad.inputs[0]), "MaxPool pads with -inf, Pad with 0, and the input may be negative")
        # With dilation a window may step over the few real elements it covers.
        require(set(attribute(pool, "dilations", [1])) == {1}, "a dilated window may hold padding only")


def read_pad(pad: ir.Node) -> tuple[list[int], list[int], float]:
    """Elements added before and after each axis, and the value; a near miss unless all are constants.

    Opset 2 to 10 has attributes, 11 inputs, 18 an input for the axes.
    """
    require(attribute(pad, "mode", "constant") == "constant", f"Pad's mode is {attribute(pad, 'mode')}")
    if "pads" in pad.attributes:
        pads, fill = attribute(pad, "pads"), float(attribute(pad, "value", 0.0))
        return pads[: len(pads) // 2], pads[len(pads) // 2 :], fill
    skip_unless(len(pad.inputs) > 1)
    pads = [int(p) for p in constant(pad.inputs[1], "Pad's amount")]
    given = pad.inputs[2] if len(pad.inputs) > 2 else None
    fill = float(constant(given, "Pad's value").reshape(-1)[0]) if given is not None else 0.0
    half = len(pads) // 2
    if len(pad.inputs) < 4 or pad.inputs[3] is None:
        return pads[:half], pads[half:], fill
    data = pad.inputs[0]
    require(data is not None and data.shape is not None, "the rank of Pad's input is not known")
    rank = len(data.shape)  # type: ignore[union-attr,arg-type]
    begins, ends = [0] * rank, [0] * rank
    for axis, low, high in zip(constant(pad.inputs[3], "Pad's axes"), pads[:half], pads[half:]):
        begins[int(axis)], ends[int(axis)] = low, high
    return begins, ends, fill


def _is_non_negative(value: ir.Value | None, depth: int = 0) -> bool:
    node = value.producer() if value is not None else None
    if node is None or depth > _MAX_DEPTH:
        held = constant_array(value)
        return held is not None and bool((held >= 0).all())
    if is_op(node, *_NON_NEGATIVE):
        return node.op_type != "ThresholdedRelu" or attribute(node, "alpha", 1.0) >= 0
    if is_op(node, "Clip"):
        low = constant_array(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "min")
        return low is not None and bool(np.all(np.asarray(low) >= 0))
    return is_op(node, *_KEEPS_SIGN) and all(
        _is_non_negative(v, depth + 1) for v in (node.inputs if node.op_type in ("Concat", "Add", "Mul") else
                                                 node.inputs[:1])
    )
