"""The FP32 graph with its quantized weights on their grids: w = integer * scale, no Q/DQ.

It is the graph that a calibration cache belongs to. TensorRT takes the scale of a channel from its largest weight: that
over 127. Every channel holds an integer of magnitude 127 (see `quantize_weights`), so TensorRT finds the same scale and
the same integers that the Q/DQ graph has. A weight that a layer in higher precision reads too keeps its values there.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.graph.model import Namer, add_initializer, remove_dead
from hwc.precision.find_points import drop_high
from hwc.precision.plan import QuantPlan
from hwc.precision.quantize_weights import weight_readers
from hwc.precision.restore_constants import restore_constants


def put_on_grid(plan: QuantPlan) -> ir.Model:
    """A clone of `plan.model`; groups in `plan.high` keep their weights."""
    model = plan.model.clone()
    restore_constants(model, plan)
    namer = Namer(model)
    points = drop_high(model, plan.points, plan.groups, plan.high)
    put_back = frozenset(node for group in plan.groups if group.id in plan.high for node in group.nodes)
    for name, readers in weight_readers(model, points, put_back).items():
        value = add_initializer(model.graph, namer.fresh(f"{name}_grid"), plan.weights[name].dequantize())
        for node in readers:
            node.replace_input_with(1, value)
    remove_dead(model)
    return model
