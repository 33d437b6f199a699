"""The price of nodes on a target, for weighing rewrites: the roofline's estimate of each node by itself.

An element-wise node that alone reads a convolution's or product's result rides on that kernel in every engine, so it
costs its start only. What has no static cost (a body, an unknown size) costs nothing here: no rewrite of this package
touches it, so it is the same in all that are compared.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.artifacts import Target
from hwc.cost.count_flops import MATRIX_OPS, POINTWISE_OPS
from hwc.cost.roofline import LAUNCH_SECONDS, MEMORY_EFFICIENCY, estimate_nodes
from hwc.errors import UsageError
from hwc.reduce.plan_tiles import Price


def price_on(target: Target, precision: str) -> Price:
    """Estimated seconds on that target in that precision, as `estimate_nodes` names it.

    Raises:
        TargetError: the target does not know its speed or its bandwidth.
    """
    start = LAUNCH_SECONDS[target.family]

    def seconds(node: ir.Node) -> float:
        if _rides(node):
            return start
        try:
            return max(estimate_nodes([node], target, precision).seconds, start)
        except UsageError:
            return start

    bandwidth = target.number("memory.bandwidth_gb_s") * 1e9 * MEMORY_EFFICIENCY
    return Price(seconds, start, 1 / bandwidth)


def _rides(node: ir.Node) -> bool:
    if node.op_type not in POINTWISE_OPS:
        return False
    makers = [(v, v.producer()) for v in node.inputs if v is not None]
    return any(m is not None and m.op_type in MATRIX_OPS and len(list(v.uses())) == 1 for v, m in makers)
