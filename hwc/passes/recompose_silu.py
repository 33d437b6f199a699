"""Finds SiLU, x * sigmoid(x), also with a factor: x * sigmoid(a x) -> Swish(alpha=a), which ONNX has from opset 24 on.

TensorRT and OpenVINO fuse the pair behind a Conv by themselves, so an older opset costs nothing there and the two nodes
are left, with a near miss that says so. A Sigmoid that gates another value than its own input is no SiLU.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import NoMatch, is_op, skip_unless, sweep
from hwc.graph.model import Namer, opset
from hwc.passes.base import PassContext, PassReport
from hwc.passes.polynomial import climb, read_expression, replace_expression
from hwc.passes.require_operator import require_operator


def recompose_silu(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    rule = partial(_recompose, namer=Namer(model), version=opset(model), target=context.target)
    count = sweep(model, ("Sigmoid",), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _recompose(node: ir.Node, *, namer: Namer, version: int, target: Target) -> None:
    sigmoid, argument = node.outputs[0], node.inputs[0]
    assert argument is not None
    # Most sigmoids are the end of a network or a gate of something else, which is nobody's near miss.
    skip_unless(any(is_op(use.node, "Mul") for use in sigmoid.uses()))
    candidates = [argument]
    scaled = argument.producer()
    if scaled is not None and scaled.op_type in ("Mul", "Div"):
        candidates += [value for value in scaled.inputs if value is not None]
    for x in candidates:
        inner = read_expression(argument, (x,))
        if inner is None or set(inner.terms) != {(1,)}:
            continue
        try:
            top, outer = climb(sigmoid, (x, sigmoid), {(1, 1): 1.0})
        except NoMatch as miss:
            if miss.near:
                raise
            continue
        require_operator("Swish", version, target)
        nodes = [*inner.nodes, node, *outer.nodes]
        replace_expression(nodes, top, "Swish", [x], namer, {"alpha": float(inner.terms[(1,)])})
        return
    raise NoMatch("", near=False)
