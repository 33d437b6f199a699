"""Puts an activation that grows with its input before the MaxPool, next to the Conv that it can be fused with.

    Relu(MaxPool(Conv(x)))  ->  MaxPool(Relu(Conv(x)))

The maximum of growing values is the grown maximum, and padding never wins a maximum, so this is exact. The activation
then works on more elements, but inside the Conv's kernel, where that is free; behind the pool it is one more pass.
Relu and Clip commute; LeakyRelu where its slope is not negative.

Limit: only directly behind a Conv that nothing else reads, and only if the pool's indices are not read.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import attribute, only_user, producer, require, sweep
from hwc.graph.model import Namer, make_node, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.clip_bounds import clip_bounds


def commute_relu_max_pool(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    count = sweep(model, ("Relu", "Clip", "LeakyRelu"), partial(_commute, namer=Namer(model)), misses=misses)
    return PassReport(count, tuple(misses))


def _commute(activation: ir.Node, *, namer: Namer) -> None:
    pool = producer(activation.inputs[0], "MaxPool")
    conv = producer(pool.inputs[0], "Conv", "ConvTranspose")
    require(all(not v.uses() and not v.is_graph_output() for v in pool.outputs[1:]), "the indices are read")
    only_user(pool.outputs[0])
    only_user(conv.outputs[0])
    if activation.op_type == "Clip":
        low, high = clip_bounds(activation)
        require(low <= high, "the bounds are the wrong way round")
    if activation.op_type == "LeakyRelu":
        slope = float(attribute(activation, "alpha", 0.01))
        require(slope >= 0, f"the slope {slope:.6g} is negative, so the order of values changes")
    x, result = pool.inputs[0], activation.outputs[0]
    assert x is not None
    first = make_node(
        activation.op_type,
        [x, *activation.inputs[1:]],
        name=namer.fresh(f"{activation.name}_first"),
        outputs=[namer.fresh(f"{x.name}_activated")],
        attributes={name: attribute(activation, name) for name in activation.attributes},
        dtype=result.dtype,
        shapes=[x.shape],
    )
    then = make_node(
        "MaxPool",
        [first.outputs[0]],
        name=namer.fresh(f"{pool.name}_after"),
        outputs=[namer.fresh(f"{result.name}_pooled")],
        attributes={name: attribute(pool, name) for name in pool.attributes},
        dtype=result.dtype,
        shapes=[result.shape],
    )
    replace_nodes([pool, activation], [first, then], {result: then.outputs[0]})
