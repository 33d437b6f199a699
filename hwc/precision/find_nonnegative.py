"""Proves that tensors are never negative, from the graph alone: such a tensor may be uint8.

One forward walk. A Relu, Clip from 0 or more, Sigmoid, HardSigmoid, Softmax, Abs, Exp, Sqrt, a Cast from an unsigned
type start a proof; what only moves, selects, averages or pads with values >= 0 hands it on; Add, Mul, Max of proved
operands (Max: one is enough) keep it. Limit: no range arithmetic, so Sigmoid(x) - 1 and the like stay unproved.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.graph.match import attribute, is_op
from hwc.graph.model import constant_array

_STARTS = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Sqrt", "Softplus", "ReduceL1", "ReduceL2",
           "ReduceSumSquare", "ThresholdedRelu")  # fmt: skip
# ThresholdedRelu passes only what is above alpha; see `_proof`.
_FIRST = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Reshape", "Transpose", "Flatten", "Squeeze",
          "Unsqueeze", "Slice", "Split", "Identity", "Gather", "GatherElements", "GatherND", "Expand", "Tile",
          "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "DepthToSpace", "SpaceToDepth",
          "Dropout", "TopK")  # fmt: skip
_ALL = ("Add", "Sum", "Mul", "Div", "Min", "Mean", "Concat", "MatMul")
_UNSIGNED = (ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64, ir.DataType.BOOL)


def find_nonnegative(model: ir.Model) -> frozenset[str]:
    """Names of the values of the main graph that are never negative. NaN counts as nothing here."""
    known: dict[ir.Value, bool] = {}

    def holds(value: ir.Value | None) -> bool:
        if value is None:
            return False
        if value not in known:
            array = constant_array(value)
            known[value] = bool(array is not None and array.dtype.kind in "fiub" and array.size and array.min() >= 0)
            known[value] = known[value] or value.dtype in _UNSIGNED
        return known[value]

    for node in model.graph:
        proved = node.domain in ("", "ai.onnx") and _proof(node, holds)
        for index, value in enumerate(node.outputs):
            known[value] = (proved and (index == 0 or is_op(node, "Split"))) or value.dtype in _UNSIGNED
    return frozenset(str(value.name) for value, proved in known.items() if proved)


def _proof(node: ir.Node, holds: object) -> bool:
    assert callable(holds)
    kind = node.op_type
    if kind == "ThresholdedRelu":
        return float(attribute(node, "alpha", 1.0)) >= 0
    if kind in _STARTS:
        return True
    if kind == "Clip":
        low = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
        high = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
        above = len(node.inputs) < 3 or node.inputs[2] is None or (high is not None and float(high.min()) >= 0)
        return above and ((low is not None and float(low.min()) >= 0) or bool(holds(node.inputs[0])))
    if kind in _FIRST or kind in ("LeakyRelu", "PRelu", "HardSwish", "Gelu", "Elu", "Selu", "Cast", "CastLike"):
        # An activation with f(x) >= 0 for x >= 0; a Cast from a signed type that is itself proved.
        return bool(holds(node.inputs[0]))
    if kind == "Resize":
        # Cubic interpolation overshoots below zero.
        return attribute(node, "mode", "nearest") != "cubic" and bool(holds(node.inputs[0]))
    if kind == "Pad":
        filler = node.inputs[2] if len(node.inputs) > 2 else None
        return bool(holds(node.inputs[0])) and (filler is None or bool(holds(filler)))
    if kind == "Max":
        return any(holds(value) for value in node.inputs)
    if kind == "Where":
        return all(holds(value) for value in node.inputs[1:])
    if kind == "Mul" and len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]:
        return True
    return kind in _ALL and all(holds(value) for value in node.inputs)
