"""Rewrites a graph from one opset of the default domain to another, upwards and downwards, subgraphs included.

onnx's own converter is C++ that copies all weights, leaves subgraphs alone and aborts on some operators, so this is a
second one, driven by onnx's schemas. Per node, one version step of its operator at a time:

1. an adapter from the table `_UP` or `_DOWN`, where the meaning or the place of an operand changed;
2. else the signatures decide: an absent attribute whose default changed is written out; an attribute that the other
   version lacks is dropped if it says that version's behaviour; anything else is refused, naming node and operator.

The tables were made by listing every operator whose signature or meaning changed in opsets 7 to 24 (onnx's Changelog.md);
a test walks all schemas and fails when a new release adds a change that neither rule covers. Types are not converted:
an older opset may not take bfloat16, and the strict shape inference that follows says so.

Limit: operands that became attributes (downwards) must be constants. Sources:
https://onnx.ai/onnx/repo-docs/Changelog.html; Resize of opset 10, checked against ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.errors import UsageError
from hwc.graph.match import attribute
from hwc.graph.model import Namer, add_initializer, constant_array, make_node, opset, replace_nodes

MIN_IR_VERSION = 8  # what opset 15 and later go with (onnx, docs/Versioning.md); engines check it


class _Refused(Exception):
    """This node has no equal in the other opset."""


class _Context:
    """What adapters need besides the node."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.namer = Namer(model)

    def constant(self, node: ir.Node, suffix: str, array: np.ndarray) -> ir.Value:
        """A new initializer; in the main graph, so that subgraphs share it."""
        return add_initializer(self.graph, self.namer.fresh(f"{node.name}_{suffix}"), array)


_Adapter = Callable[[ir.Node, _Context], None]


def convert_opset(model: ir.Model, version: int) -> tuple[str, ...]:
    """Converts `model` in place; nodes keep their names and origins.

    Needs every node and value named, functions inlined and constants lifted (`canonicalize` has done that).

    Returns:
        Notes: which operators were rewritten, and how often.

    Raises:
        UsageError: an operator has no equal in that opset. The model is then half converted: work on a clone.
    """
    current = opset(model)
    if current == version:
        return ()
    _check_version(version)
    context = _Context(model)
    counts: dict[str, int] = {}
    for node in list(model.graph.all_nodes()):
        if node.domain in ("", "ai.onnx"):
            kind = node.op_type
            if _convert_node(node, current, version, context):
                counts[kind] = counts.get(kind, 0) + 1
    model.opset_imports.pop("ai.onnx", None)
    model.opset_imports[""] = version
    for graph in model.graphs():
        for node in graph:
            node.version = None
    model.ir_version = max(model.ir_version, MIN_IR_VERSION)
    rewritten = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    return (f"opset {current} -> {version}" + (f"; rewritten: {rewritten}" if rewritten else ""),)


def _check_version(version: int) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not 7 <= version <= newest:
        raise UsageError("no such opset", expected=f"7 to {newest}", got=str(version))


@cache
def _steps(op_type: str) -> tuple[int, ...]:
    """All versions in which the operator changed, ascending."""
    import onnx.defs

    found = {s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == op_type and s.domain == ""}
    return tuple(sorted(found))


def _schema(op_type: str, version: int) -> Any:
    import onnx.defs

    try:
        return onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None


def _convert_node(node: ir.Node, current: int, version: int, context: _Context) -> bool:
    """Step by step to the target version; an adapter may change the operator, so steps are asked for anew each time."""
    changed = False
    up = version > current
    at = current
    while True:
        steps = _steps(node.op_type)
        ahead = [s for s in steps if at < s <= version] if up else [s for s in reversed(steps) if version < s <= at]
        if not ahead:
            break
        step = ahead[0]
        older = max((s for s in steps if s < step), default=0)
        try:
            if not older:
                raise _Refused(f"it is new in opset {step}")
            changed |= _step(node, older, step, up, context)
        except _Refused as refusal:
            raise UsageError(
                f"{node.op_type} cannot be converted from opset {current} to {version}",
                where=f"node '{node.name}'",
                got=str(refusal),
                do=f"export the model with opset {version}" if up else "keep a newer opset, or change the node",
            ) from None
        at = step if up else step - 1
    if _schema(node.op_type, version) is None or _schema(node.op_type, version).deprecated:
        raise UsageError(f"opset {version} has no operator {node.op_type}", where=f"node '{node.name}'")
    return changed


def _step(node: ir.Node, older: int, newer: int, up: bool, context: _Context) -> bool:
    adapter = (_UP if up else _DOWN).get((node.op_type, newer))
    if adapter is not None:
        adapter(node, context)
    source, target = (older, newer) if up else (newer, older)
    return _fit_signature(node, _schema(node.op_type, source), _schema(node.op_type, target)) or adapter is not None


def _fit_signature(node: ir.Node, source: Any, target: Any) -> bool:
    """Rule 2. An adapter may have changed the operator itself, so a schema may be missing; that is judged later."""
    if target is None or target.deprecated:
        if source is not None and (target is None or not source.deprecated):
            raise _Refused("it was taken out of ONNX")
        return False
    changed = False
    for name in list(node.attributes):
        if name in target.attributes:
            continue
        # It goes if it only says what the operator does anyway.
        default = _default(source, name) if source is not None else None
        if attribute(node, name) != default or default is None:
            said = str(attribute(node, name)).partition("\n")[0][:60]
            raise _Refused(f"its attribute {name}={said} is not known there")
        node.attributes.pop(name)
        changed = True
    for name in target.attributes:
        if source is None or name in node.attributes or name not in source.attributes:
            continue
        before, after = _default(source, name), _default(target, name)
        if before is not None and before != after:
            node.attributes[name] = ir.convenience.convert_attribute(name, before)
            changed = True
    while node.inputs and node.inputs[-1] is None and len(node.inputs) > target.min_input:
        node.resize_inputs(len(node.inputs) - 1)
    if not target.min_input <= len(node.inputs) <= target.max_input:
        raise _Refused(f"it has {len(node.inputs)} inputs, and takes {target.min_input} to {target.max_input} there")
    if len(node.outputs) > target.max_output:
        raise _Refused(f"it has {len(node.outputs)} outputs, and gives at most {target.max_output} there")
    return changed


def _default(schema: Any, name: str) -> Any:
    entry = schema.attributes.get(name)
    if entry is None or not entry.default_value.type:
        return None
    value = ir.serde.deserialize_attribute(entry.default_value).value
    return list(value) if isinstance(value, (tuple, list)) else value


# --- upwards: attributes that became operands -------------------------------------------------------------------------


def _operand(name: str, position: int, dtype: Any = np.int64) -> _Adapter:
    """The attribute becomes the input at `position`; absent stays absent."""

    def adapt(node: ir.Node, context: _Context) -> None:
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


def _clip_up(node: ir.Node, context: _Context) -> None:
    for position, name in ((1, "min"), (2, "max")):
        _operand(name, position, _float_type(node))(node, context)


def _drop_mask(node: ir.Node, context: _Context) -> None:
    """The mask went from the data's type to bool; at inference nobody reads it."""
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise _Refused("its mask is read, so it is in training mode; export the model with .eval()")
    node.resize_outputs(1)


def _dropout_up(node: ir.Node, context: _Context) -> None:
    _operand("ratio", 1, np.float32)(node, context)


def _pad_up(node: ir.Node, context: _Context) -> None:
    _operand("pads", 1)(node, context)
    _operand("value", 2, _float_type(node))(node, context)


def _slice_up(node: ir.Node, context: _Context) -> None:
    for position, name in enumerate(("starts", "ends", "axes"), 1):
        _operand(name, position)(node, context)


def _top_k_up(node: ir.Node, context: _Context) -> None:
    k = node.attributes.pop("k")
    _put(node, 1, context.constant(node, "k", np.asarray([k.as_int()], np.int64)))


def _split_up(node: ir.Node, context: _Context) -> None:
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _batchnorm_up(node: ir.Node, context: _Context) -> None:
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise _Refused("it gives statistics, so it is in training mode; export the model with .eval()")
    if attribute(node, "spatial", 1) != 1:
        raise _Refused("it normalizes every position by itself (spatial=0)")
    node.attributes.pop("spatial", None)
    node.resize_outputs(1)


def _softmax_up(node: ir.Node, context: _Context) -> None:
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


def _resize_up(node: ir.Node, context: _Context) -> None:
    """Opset 10 had no modes: asymmetric coordinates, rounded down when growing and up when shrinking."""
    scales = constant_array(node.inputs[1])
    if attribute(node, "mode", "nearest") == "nearest":
        if scales is None or (np.any(scales < 1) and np.any(scales > 1)):
            raise _Refused("how it rounds depends on its scales, which are computed or both above and below 1")
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "ceil" if np.any(scales < 1) else "floor")
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
    scale = node.inputs[1]
    assert scale is not None
    _put(node, 2, scale)
    # Opset 11 wants the operand that 13 made optional; an empty one means the same.
    node.replace_input_with(1, context.constant(node, "roi", np.zeros(0, np.float32)))


def _upsample_up(node: ir.Node, context: _Context) -> None:
    """Upsample is Resize of opset 10 under its old name."""
    node.op_type = "Resize"


def _scatter_up(node: ir.Node, context: _Context) -> None:
    node.op_type = "ScatterElements"


def _roi_align_up(node: ir.Node, context: _Context) -> None:
    name = "coordinate_transformation_mode"
    node.attributes[name] = ir.AttrString(name, "output_half_pixel")


def _grid_sample_up(node: ir.Node, context: _Context) -> None:
    mode = attribute(node, "mode", "bilinear")
    node.attributes["mode"] = ir.AttrString("mode", {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


def _dft_up(node: ir.Node, context: _Context) -> None:
    axis = node.attributes.pop("axis", None)
    _put(node, 2, context.constant(node, "axis", np.asarray(1 if axis is None else axis.as_int(), np.int64)))


def _group_norm_up(node: ir.Node, context: _Context) -> None:
    """Scale and bias went from one per group to one per channel."""
    groups = attribute(node, "num_groups")
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    if not isinstance(channels, int) or channels % groups:
        raise _Refused("its number of channels is not known")
    for position in (1, 2):
        array = constant_array(node.inputs[position])
        if array is None:
            raise _Refused("its scale or bias is computed")
        _put(node, position, context.constant(node, f"per_channel{position}", np.repeat(array, channels // groups)))


# --- downwards: operands that were attributes -------------------------------------------------------------------------


def _known(node: ir.Node, position: int, what: str) -> np.ndarray | None:
    """The constant operand at `position`, or None if there is none."""
    if len(node.inputs) <= position or node.inputs[position] is None:
        return None
    array = constant_array(node.inputs[position])
    if array is None:
        raise _Refused(f"its {what} are computed at run time")
    return array


def _reduce_down(node: ir.Node, context: _Context) -> None:
    axes = _known(node, 1, "axes")
    empty = axes is None or axes.size == 0
    if empty and attribute(node, "noop_with_empty_axes", 0):
        raise _Refused("it reduces nothing (noop_with_empty_axes=1)")
    node.attributes.pop("noop_with_empty_axes", None)
    node.resize_inputs(1)
    if axes is not None and axes.size:
        node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in axes.reshape(-1)])


def _split_down(node: ir.Node, context: _Context) -> None:
    count = node.attributes.pop("num_outputs", None)
    if count is None:
        return
    axis = attribute(node, "axis", 0)
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    size = shape[axis] if shape is not None else None
    if not isinstance(size, int):
        raise _Refused("it splits a dimension of unknown size")
    chunk = -(-size // count.as_int())
    sizes = [min(chunk, size - chunk * index) for index in range(count.as_int())]
    _put(node, 1, context.constant(node, "split", np.asarray(sizes, np.int64)))


def _pad_down(node: ir.Node, context: _Context) -> None:
    axes, pads = _known(node, 3, "axes"), None
    if axes is None:
        return
    pads = _known(node, 1, "pads")
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if pads is None or shape is None:
        raise _Refused("it pads some axes of a tensor of unknown rank")
    full = np.zeros((2, len(shape)), np.int64)
    full[:, axes.astype(np.int64)] = pads.reshape(2, -1)
    node.replace_input_with(1, context.constant(node, "pads", full.reshape(-1)))
    node.resize_inputs(3)


def _scatter_down(node: ir.Node, context: _Context) -> None:
    if attribute(node, "reduction", "none") not in ("none", "add", "mul"):
        raise _Refused(f"its reduction {attribute(node, 'reduction')} is not known there")


def _refuse(reason: str) -> _Adapter:
    def adapt(node: ir.Node, context: _Context) -> None:
        raise _Refused(reason)

    return adapt


def _several(op_types: Sequence[str], version: int, adapter: _Adapter) -> dict[tuple[str, int], _Adapter]:
    return {(op_type, version): adapter for op_type in op_types}


_REDUCE = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
           "ReduceProd", "ReduceSumSquare")  # fmt: skip

# (operator, the newer version of the step) -> what to do.
_UP: dict[tuple[str, int], _Adapter] = {
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

_DOWN: dict[tuple[str, int], _Adapter] = {
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
        raise _Refused("its axis is not the last one, or its rank is not known")
    node.attributes["axis"] = ir.AttrInt64("axis", -1)
