"""What changed in ONNX's operators besides their types, as one small rewrite per operator and version step.

UP and DOWN map (operator, the newer version of the step) to an adapter that edits one node in place. Everything not
listed is settled by comparing signatures (convert_opset.py). The tables were made by listing every operator whose
signature or meaning changed in opsets 7 to 24; a test walks all schemas and fails when a new release of onnx adds a
change that neither covers.

Sources: https://onnx.ai/onnx/repo-docs/Changelog.html. How Resize of opset 10 rounds is not in it; it was read off
ONNX Runtime, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.graph.match import attribute
from hwc.graph.model import Namer, add_initializer, constant_array, make_node, replace_nodes


class Refused(Exception):
    """This node has no equal in the other opset."""


class Context:
    """What adapters need besides the node."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.namer = Namer(model)

    def constant(self, node: ir.Node, suffix: str, array: np.ndarray) -> ir.Value:
        """A new initializer; in the main graph, so that subgraphs share it."""
        return add_initializer(self.graph, self.namer.fresh(f"{node.name}_{suffix}"), array)


Adapter = Callable[[ir.Node, Context], None]


# --- upwards: attributes that became operands -------------------------------------------------------------------------


def _operand(name: str, position: int, dtype: Any = np.int64) -> Adapter:
    """The attribute becomes the input at `position`; absent stays absent."""

    def adapt(node: ir.Node, context: Context) -> None:
        value = attribute(node, name)
        if value is not None:
            _put(node, position, context.constant(node, name, np.asarray(value, dtype)))
            node.attributes.pop(name)

    return adapt


def _put(node: ir.Node, position: int, value: ir.Value) -> None:
    if len(node.inputs) <= position:
        node.resize_inputs(position + 1)
    node.replace_input_with(position, value)


def _float_type(node: ir.Node) -> Any:
    """The numpy type of operands that must match the data; float32 where the file does not say."""
    dtype = node.inputs[0].dtype if node.inputs and node.inputs[0] is not None else None
    return dtype.numpy() if dtype is not None else np.float32


def _clip_up(node: ir.Node, context: Context) -> None:
    for position, name in ((1, "min"), (2, "max")):
        _operand(name, position, _float_type(node))(node, context)


def _drop_mask(node: ir.Node, context: Context) -> None:
    """The mask went from the data's type to bool; at inference nobody reads it."""
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise Refused("its mask is read, so it is in training mode; export the model with .eval()")
    node.resize_outputs(1)


def _dropout_up(node: ir.Node, context: Context) -> None:
    _operand("ratio", 1, np.float32)(node, context)


def _pad_up(node: ir.Node, context: Context) -> None:
    _operand("pads", 1)(node, context)
    _operand("value", 2, _float_type(node))(node, context)


def _slice_up(node: ir.Node, context: Context) -> None:
    for position, name in enumerate(("starts", "ends", "axes"), 1):
        _operand(name, position)(node, context)


def _top_k_up(node: ir.Node, context: Context) -> None:
    k = node.attributes.pop("k")
    _put(node, 1, context.constant(node, "k", np.asarray([k.as_int()], np.int64)))


def _split_up(node: ir.Node, context: Context) -> None:
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _batchnorm_up(node: ir.Node, context: Context) -> None:
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise Refused("it gives statistics, so it is in training mode; export the model with .eval()")
    if attribute(node, "spatial", 1) != 1:
        raise Refused("it normalizes every position by itself (spatial=0)")
    node.attributes.pop("spatial", None)
    node.resize_outputs(1)


def _softmax_up(node: ir.Node, context: Context) -> None:
    """Before 13 the axes from `axis` on were one: equal only for the last axis, else Flatten, Softmax, Reshape."""
    axis = attribute(node, "axis", 1)
    data, result = node.inputs[0], node.outputs[0]
    rank = len(data.shape) if data is not None and data.shape is not None else None
    if rank is None and result.shape is not None:
        rank = len(result.shape)
    if axis == -1 or (rank is not None and axis % rank == rank - 1):
        node.attributes["axis"] = ir.AttrInt64("axis", -1)
        return
    name = str(node.name)
    flat = make_node("Flatten", [data], name=f"{name}_flatten", outputs=[context.namer.fresh(f"{name}_flat")],
                     attributes={"axis": axis}, dtype=result.dtype)  # fmt: skip
    soft = make_node(node.op_type, flat.outputs, name=name, outputs=[context.namer.fresh(f"{name}_soft")],
                     attributes={"axis": -1}, dtype=result.dtype)  # fmt: skip
    shape = make_node("Shape", [data], name=f"{name}_shape", outputs=[context.namer.fresh(f"{name}_dims")],
                      dtype=ir.DataType.INT64)  # fmt: skip
    back = make_node("Reshape", [soft.outputs[0], shape.outputs[0]], name=f"{name}_reshape",
                     outputs=[context.namer.fresh(f"{name}_back")], dtype=result.dtype)  # fmt: skip
    replace_nodes([node], [flat, soft, shape, back], {result: back.outputs[0]})


def _resize_up(node: ir.Node, context: Context) -> None:
    """Opset 10 had no modes: asymmetric coordinates, rounded down when growing and up when shrinking."""
    scales = constant_array(node.inputs[1])
    if attribute(node, "mode", "nearest") == "nearest":
        if scales is None or (np.any(scales < 1) and np.any(scales > 1)):
            raise Refused("how it rounds depends on its scales, which are computed or both above and below 1")
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "ceil" if np.any(scales < 1) else "floor")
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
    scale = node.inputs[1]
    assert scale is not None
    _put(node, 2, scale)
    # Opset 11 wants the operand that 13 made optional; an empty one means the same.
    node.replace_input_with(1, context.constant(node, "roi", np.zeros(0, np.float32)))


def _upsample_up(node: ir.Node, context: Context) -> None:
    """Upsample is Resize of opset 10 under its old name."""
    node.op_type = "Resize"


def _scatter_up(node: ir.Node, context: Context) -> None:
    node.op_type = "ScatterElements"


def _roi_align_up(node: ir.Node, context: Context) -> None:
    name = "coordinate_transformation_mode"
    node.attributes[name] = ir.AttrString(name, "output_half_pixel")


def _grid_sample_up(node: ir.Node, context: Context) -> None:
    mode = attribute(node, "mode", "bilinear")
    node.attributes["mode"] = ir.AttrString("mode", {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


def _dft_up(node: ir.Node, context: Context) -> None:
    axis = node.attributes.pop("axis", None)
    _put(node, 2, context.constant(node, "axis", np.asarray(1 if axis is None else axis.as_int(), np.int64)))


def _group_norm_up(node: ir.Node, context: Context) -> None:
    """Scale and bias went from one per group to one per channel."""
    groups = attribute(node, "num_groups")
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    if not isinstance(channels, int) or channels % groups:
        raise Refused("its number of channels is not known")
    for position in (1, 2):
        array = constant_array(node.inputs[position])
        if array is None:
            raise Refused("its scale or bias is computed")
        _put(node, position, context.constant(node, f"per_channel{position}", np.repeat(array, channels // groups)))


# --- downwards: operands that were attributes -------------------------------------------------------------------------


def _known(node: ir.Node, position: int, what: str) -> np.ndarray | None:
    """The constant operand at `position`, or None if there is none."""
    if len(node.inputs) <= position or node.inputs[position] is None:
        return None
    array = constant_array(node.inputs[position])
    if array is None:
        raise Refused(f"its {what} are computed at run time")
    return array


def _reduce_down(node: ir.Node, context: Context) -> None:
    axes = _known(node, 1, "axes")
    empty = axes is None or axes.size == 0
    if empty and attribute(node, "noop_with_empty_axes", 0):
        raise Refused("it reduces nothing (noop_with_empty_axes=1)")
    node.attributes.pop("noop_with_empty_axes", None)
    node.resize_inputs(1)
    if axes is not None and axes.size:
        node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in axes.reshape(-1)])


def _split_down(node: ir.Node, context: Context) -> None:
    count = node.attributes.pop("num_outputs", None)
    if count is None:
        return
    axis = attribute(node, "axis", 0)
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    size = shape[axis] if shape is not None else None
    if not isinstance(size, int):
        raise Refused("it splits a dimension of unknown size")
    chunk = -(-size // count.as_int())
    sizes = [min(chunk, size - chunk * index) for index in range(count.as_int())]
    _put(node, 1, context.constant(node, "split", np.asarray(sizes, np.int64)))


def _pad_down(node: ir.Node, context: Context) -> None:
    axes, pads = _known(node, 3, "axes"), None
    if axes is None:
        return
    pads = _known(node, 1, "pads")
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if pads is None or shape is None:
        raise Refused("it pads some axes of a tensor of unknown rank")
    full = np.zeros((2, len(shape)), np.int64)
    full[:, axes.astype(np.int64)] = pads.reshape(2, -1)
    node.replace_input_with(1, context.constant(node, "pads", full.reshape(-1)))
    node.resize_inputs(3)


def _scatter_down(node: ir.Node, context: Context) -> None:
    if attribute(node, "reduction", "none") not in ("none", "add", "mul"):
        raise Refused(f"its reduction {attribute(node, 'reduction')} is not known there")


def _refuse(reason: str) -> Adapter:
    def adapt(node: ir.Node, context: Context) -> None:
        raise Refused(reason)

    return adapt


def _several(op_types: Sequence[str], version: int, adapter: Adapter) -> dict[tuple[str, int], Adapter]:
    return {(op_type, version): adapter for op_type in op_types}


_REDUCE = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
           "ReduceProd", "ReduceSumSquare")  # fmt: skip

# (operator, the newer version of the step) -> what to do.
UP: dict[tuple[str, int], Adapter] = {
    **_several(_REDUCE, 18, _operand("axes", 1)),
    **_several(("ReduceSum", "Squeeze", "Unsqueeze"), 13, _operand("axes", 1)),
    **_several(("Softmax", "LogSoftmax"), 13, _softmax_up),
    # Hardmax shares the old meaning, but Flatten/Hardmax/Reshape was never seen in a file, so it was not tested.
    ("Hardmax", 13): lambda node, context: _last_axis(node),
    ("BatchNormalization", 9): _batchnorm_up,
    ("BatchNormalization", 14): _batchnorm_up,
    ("Clip", 11): _clip_up,
    ("DFT", 20): _dft_up,
    ("Dropout", 10): _drop_mask,
    ("Dropout", 12): _dropout_up,
    ("GridSample", 20): _grid_sample_up,
    ("GroupNormalization", 21): _group_norm_up,
    ("Pad", 11): _pad_up,
    ("Resize", 11): _resize_up,
    ("RoiAlign", 16): _roi_align_up,
    ("Scan", 9): _refuse("opset 8 batches its loops"),
    ("Scatter", 11): _scatter_up,
    ("Slice", 10): _slice_up,
    ("Split", 13): _operand("split", 1),
    ("Split", 18): _split_up,
    ("TopK", 10): _top_k_up,
    ("Upsample", 9): _operand("scales", 1, np.float32),
    ("Upsample", 10): _upsample_up,
}

DOWN: dict[tuple[str, int], Adapter] = {
    **_several(_REDUCE, 18, _reduce_down),
    **_several(("ScatterElements", "ScatterND"), 18, _scatter_down),
    ("GridSample", 20): _refuse("its modes have other names there"),
    ("GroupNormalization", 21): _refuse("scale and bias were per group"),
    ("Pad", 18): _pad_down,
    ("Split", 18): _split_down,
}


def _last_axis(node: ir.Node) -> None:
    axis, data = attribute(node, "axis", 1), node.inputs[0]
    if axis != -1 and (data is None or data.shape is None or axis != len(data.shape) - 1):
        raise Refused("its axis is not the last one, or its rank is not known")
    node.attributes["axis"] = ir.AttrInt64("axis", -1)
