"""Gives the layers that were put back the constants of the FP32 graph, in place of those fitted to integers."""

from __future__ import annotations

import onnx_ir as ir

from hwc.precision.plan import QuantPlan


def restore_constants(model: ir.Model, plan: QuantPlan) -> int:
    """Changes `model`, a clone of `plan.model`, in place; returns how many constants were restored.

    A constant that an integer layer reads as well stays as it was fitted.
    """
    if plan.original is None or not plan.high:
        return 0
    put_back = {name for group in plan.groups if group.id in plan.high for name in group.nodes}
    restored = 0
    for name, value in model.graph.initializers.items():
        source = plan.original.graph.initializers.get(name)
        readers = [use.node.name for use in value.uses()]
        if source is None or not readers or not all(reader in put_back for reader in readers):
            continue
        if value.const_value is not source.const_value:
            value.const_value = source.const_value
            restored += 1
    return restored
