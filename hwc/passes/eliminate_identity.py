"""Removes nodes that hand their input on unchanged.

1. Identity(x) -> x
2. Dropout(x) -> x, as inference defines it, where the mask is not read and training_mode is not set
3. Concat, Sum, Max, Min or Mean of one input -> that input

Limit: the node stays when it makes a graph output from a graph input, an initializer or another graph output, since an
output's name must be made by something.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import require, skip_unless, sweep
from hwc.graph.model import bypass, can_bypass, constant_array
from hwc.passes.base import PassContext, PassReport

_ONE_INPUT = ("Concat", "Sum", "Max", "Min", "Mean")


def eliminate_identity(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the three cases."""
    misses: list[NearMiss] = []
    count = sweep(model, ("Identity", "Dropout", *_ONE_INPUT), _eliminate, misses=misses)
    return PassReport(count, tuple(misses))


def _eliminate(node: ir.Node) -> None:
    if node.op_type in _ONE_INPUT:
        skip_unless(len(node.inputs) == 1)
    if node.op_type == "Dropout":
        require(all(not mask.uses() and not mask.is_graph_output() for mask in node.outputs[1:]), "the mask is read")
        training = node.inputs[2] if len(node.inputs) > 2 else None
        flag = constant_array(training)
        require(training is None or (flag is not None and not flag.any()), "training_mode may be set")
    source = node.inputs[0]
    assert source is not None
    require(can_bypass(node, source), "it gives a graph output its name")
    bypass(node, source)
