"""The gate of rewrites that win on one target and lose on another: one estimate before, one after, one decision.

A gated pass builds its candidate nodes outside the graph, with the weights they need, and asks. If the estimate says
that they are not faster, the candidates are taken apart again, and the near miss carries both figures:

    estimate 12.1 us -> 13.4 us on rtx-4090

Equal is not a gain. The figures are a model's (`hwc.cost.roofline`), never a measurement. A batch dimension without a
size counts as 1, as the estimate has it; any other must be static, because the answer depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from hwc.cost.roofline import estimate_nodes
from hwc.errors import TargetError
from hwc.graph.match import NoMatch
from hwc.passes.base import PassContext


def candidate_weight(name: str, array: np.ndarray) -> ir.Value:
    """A constant that belongs to no graph yet; `require_gain` registers it or drops it."""
    array = np.ascontiguousarray(array)
    tensor = ir.tensor(array, name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def require_gain(
    before: Sequence[ir.Node], after: Sequence[ir.Node], context: PassContext, graph: ir.Graph | None
) -> None:
    """Returns if `after` is estimated to be faster; its weights are then initializers of `graph`.

    Args:
        before: nodes of the graph, in order.
        after: candidates that are in no graph, in order, with dtypes and shapes set.

    Raises:
        NoMatch: near; there is no gain, or no estimate. The candidates then read nothing any more.
    """
    try:
        for node in (*before, *after):
            for value in (*node.inputs, *node.outputs):
                _require_sizes(value)
        old = estimate_nodes(before, context.target, context.precision).seconds
        new = estimate_nodes(after, context.target, context.precision).seconds
        if not new < old:
            raise NoMatch(f"estimate {_microseconds(old)} -> {_microseconds(new)} on {context.target.name}")
    except (NoMatch, TargetError) as reason:
        for node in after:
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)
        if isinstance(reason, TargetError):
            raise NoMatch(f"no estimate: {reason.what}") from None
        raise
    assert graph is not None
    for node in after:
        for value in node.inputs:
            is_constant = value is not None and value.const_value is not None and value.producer() is None
            if is_constant and value is not None and not value.is_initializer():
                graph.register_initializer(value)


def _require_sizes(value: ir.Value | None) -> None:
    if value is None or not (value.name or value.uses()):
        return
    if value.shape is None or not all(isinstance(dim, int) for dim in list(value.shape)[1:]):
        raise NoMatch(f"the shape of {value.name} is not static")
    if value.dtype is None:
        raise NoMatch(f"the type of {value.name} is not known")


def _microseconds(seconds: float) -> str:
    # Two figures that differ must not print alike, or the reason would read as nonsense.
    return f"{seconds * 1e6:.4g} us"
