"""Removes the guard that exporters put behind a softmax, where no NaN can arise.

    Where(IsNaN(P), c, P)  ->  P,      P = softmax(S),  S proved finite

also as Where(Not(IsNaN(P)), P, c). A softmax gives NaN for a row that holds NaN or +inf, or that is -inf throughout,
which is what a boolean mask over a whole row makes of it; torch defines such a row as zero, hence the guard.
If every element of S is finite, the largest of a row becomes exp(0) = 1, so the sum is at least 1 and no NaN arises.
A mask of finite numbers, such as FP32's lowest, leaves a row that is masked throughout finite.

S is proved finite by the bounds of `hwc.graph.magnitude`, for every input: nothing is assumed of weights, masks or
scores. A NaN in the network's own input would be hidden by the guard, so a softmax that a float input reaches keeps its
guard; tokens and masks are integers, which hold no NaN. What is not proved is a near miss with the first reason.

Reason: OpenVINO fuses Q K^T, mask, softmax and P V into one kernel when nothing stands between. With 2026.4.1 on an
AVX2 CPU, minilm (6 layers, 64 rows, FP32) runs 100 kernels instead of 147 and takes 0.97 of the time.

Limit: FP32, because lower precisions turn FP32's lowest into -inf; and targets whose engine the guard hinders.
Source: https://onnx.ai/onnx/operators/onnx__Softmax.html, torch.nn.functional.scaled_dot_product_attention.
"""

from __future__ import annotations

from functools import cached_property, partial

import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.magnitude import magnitudes
from hwc.graph.match import NoMatch, is_op, producer, require, skip_unless, sweep
from hwc.graph.model import bypass, can_bypass, mark_origin
from hwc.passes.base import PassContext, PassReport


class _Bounds:
    """The bounds of a graph, computed when the first guard asks: few graphs have one. They outlive removed guards."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph

    @cached_property
    def of(self) -> dict[ir.Value, float | str]:
        return magnitudes(self._graph)


def eliminate_nan_guard(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring. A rewrite is a guard removed."""
    misses: list[NearMiss] = []
    rule = partial(_eliminate, bounds=_Bounds(model.graph), context=context)
    return PassReport(sweep(model, ("Where",), rule, misses=misses), tuple(misses))


def hides_attention(target: Target) -> bool:
    """Whether the guard keeps the target's engine from a fusion.

    Counted for OpenVINO, see the module docstring. With TensorRT for RTX 1.7.1 the guard costs no kernel (minilm: 61 of
    them with and without); TensorRT was not counted.
    """
    return target.engine == "openvino"


def _eliminate(node: ir.Node, *, bounds: _Bounds, context: PassContext) -> None:
    softmax = _guarded(node)
    require(hides_attention(context.target), f"{context.target.engine} is not known to be hindered by the guard")
    require(context.precision == "fp32", f"in {context.precision} a mask of FP32's lowest value is -inf")
    scores, value, out = softmax.inputs[0], softmax.outputs[0], node.outputs[0]
    assert scores is not None
    require(value.dtype == ir.DataType.FLOAT, f"{value.name} is {value.dtype}, not FLOAT")
    # A replacement of another shape would make the result larger than the softmax.
    require(
        value.shape is not None and out.shape is not None and list(value.shape) == list(out.shape),
        "the guard is not known to keep the shape of the softmax",
    )
    bound = bounds.of.get(scores, "its scores are outside the main graph")
    require(not isinstance(bound, str), f"a row may be NaN: {bound}")
    require(can_bypass(node, value), "it gives a graph output its name")
    bypass(node, value)
    mark_origin(softmax, [softmax, node])


def _guarded(node: ir.Node) -> ir.Node:
    """The softmax whose NaN this Where replaces."""
    condition, kept = producer(node.inputs[0], "IsNaN", "Not"), node.inputs[2]
    if is_op(condition, "Not"):
        condition, kept = producer(condition.inputs[0], "IsNaN"), node.inputs[1]
    skip_unless(kept is not None and condition.inputs[0] is kept)
    maker = kept.producer() if kept is not None else None
    if maker is None or not is_op(maker, "Softmax"):
        raise NoMatch(f"{condition.name} guards no Softmax")
    return maker
