"""Folds the normalization of an input, y = (x - mean) / std per channel, into the first layer.

1. What the context asks for is written in front of the graph (Cast if the input becomes uint8, Sub, Mul): from here on
   the input is raw pixel values.
2. A chain of Mul, Div, Add, Sub by per-channel constants at an input, from (1) or from the model, goes into the layer
   that reads it: the scale into its weights, the shift into its bias.
3. Where that layer pads with zeros the shift is not exact, for a padded zero means the mean. Then only the scale is
   folded, and the chain becomes one Sub(mean).

The Sub is kept rather than an explicit Pad with the mean, even where all means are equal: it is one pointwise kernel
that engines run together with the Cast, while a Pad is a copy. The report's notes say which of the two happened.
Limit: the chain must have one reader; Cast and Transpose may stand between the input and the chain.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.errors import UsageError
from hwc.graph.match import NoMatch, is_op
from hwc.graph.model import Namer, add_initializer, make_node
from hwc.passes.base import InputNormalization, PassContext, PassReport
from hwc.passes.channel_affine import Affine, compose, read_affine
from hwc.passes.move_affine import fold_forward

_DONE = "hwc.raw_input."


def fold_input_normalization(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the three steps.

    Raises:
        UsageError: the context names an unknown input, or numbers that do not fit it.
    """
    names, misses, notes = Namer(model), list[NearMiss](), list[str]()
    count = 0
    for asked in context.normalization:
        # Metadata survives the clone but is no part of the digest, so a second run of this pass cannot apply it twice.
        if f"{_DONE}{asked.input}" in model.metadata_props:
            misses.append(NearMiss(asked.input, "its normalization is in the graph already"))
            continue
        count += _write(model, asked, names)
        model.metadata_props[f"{_DONE}{asked.input}"] = "1"
        notes.append(f"input {asked.input} takes raw values" + (" as uint8" if asked.as_uint8 else ""))
    for value in model.graph.inputs:
        try:
            note = _fold_chain(value, names)
        except NoMatch as miss:
            misses.append(NearMiss(str(value.name), miss.reason))
            continue
        if note:
            count += 1
            notes.append(f"input {value.name}: {note}")
    return PassReport(count, tuple(misses), tuple(notes))


def _write(model: ir.Model, asked: InputNormalization, names: Namer) -> int:
    """Puts Cast, Sub and Mul behind the input; returns how many nodes that took."""
    value = next((v for v in model.graph.inputs if v.name == asked.input), None)
    if value is None:
        known = ", ".join(str(v.name) for v in model.graph.inputs)
        raise UsageError(f"no input is called '{asked.input}'", expected=known, got=asked.input)
    if value.shape is None or len(value.shape) < 2 or value.dtype is None or not value.dtype.is_floating_point():
        raise UsageError(f"input '{asked.input}' cannot be normalized", expected="floats with channels on axis 1",
                         got=f"{value.dtype} {value.shape}")
    channels = value.shape[1]
    mean, std = np.asarray(asked.mean, np.float64), np.asarray(asked.std, np.float64)
    if {mean.size, std.size} - {1, channels}:
        raise UsageError(f"the normalization of '{asked.input}' does not fit it", expected=f"1 or {channels} numbers",
                         got=f"{mean.size} means, {std.size} deviations")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise UsageError(f"the normalization of '{asked.input}' is not usable", expected="finite means, std > 0",
                         got=f"mean {asked.mean}, std {asked.std}")
    dtype, readers = value.dtype, list(value.uses())
    steps: list[tuple[str, np.ndarray | None]] = [("Cast", None)] if asked.as_uint8 else []
    steps += [("Sub", mean)] if mean.any() else []
    steps += [("Mul", 1.0 / std)] if (std != 1).any() else []
    current, nodes = value, []
    for op_type, numbers in steps:
        name = names.fresh(f"{asked.input}_{op_type.lower()}")
        inputs = [current]
        if numbers is not None:
            shaped = numbers.reshape(1, -1, *(1,) * (len(value.shape) - 2)).astype(dtype.numpy())
            inputs.append(add_initializer(model.graph, names.fresh(f"{name}_by"), shaped))
        attributes = {"to": int(dtype)} if op_type == "Cast" else {}
        nodes.append(make_node(op_type, inputs, name=name, outputs=[names.fresh(f"{name}_out")], attributes=attributes,
                               dtype=dtype, shapes=[value.shape.copy()]))
        current = nodes[-1].outputs[0]
    if nodes:
        for reader, index in readers:
            reader.replace_input_with(index, current)
        model.graph.insert_before(model.graph[0], nodes)
    if asked.as_uint8:
        value.type = ir.TensorType(ir.DataType.UINT8)
    return len(nodes)


def _fold_chain(value: ir.Value, names: Namer) -> str:
    """Folds the chain at this input; returns what was done, '' where there is no chain."""
    while (reader := _only_reader(value)) is not None and is_op(reader, "Cast", "Transpose"):
        value = reader.outputs[0]
    root, chain, total = value, list[ir.Node](), None
    while (node := _only_reader(value)) is not None:
        try:
            source, affine = read_affine(node) if is_op(node, "Mul", "Div", "Add", "Sub") else (None, None)
        except NoMatch:
            break
        if source is not value or affine is None or node.graph is not root.graph:
            break
        total = affine if total is None else compose(total, affine)
        chain.append(node)
        value = node.outputs[0]
    if total is None:
        return ""
    try:
        fold_forward(chain[-1], root, total, names)
    except NoMatch as miss:
        if len(chain) == 1 or not total.has_shift or not np.all(total.scale):
            raise
        _fold_scale(chain[-1], root, total, names)
        _remove(chain[:-1])
        return f"the scale is in the first layer, a Sub of the mean stays, since {miss.reason}"
    _remove(chain[:-1])
    return "the normalization is in the first layer"


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _fold_scale(last: ir.Node, root: ir.Value, total: Affine, names: Namer) -> None:
    """s x + t = s (x - m) with m = -t / s: a Sub in place of the chain, and s into the layer; all or nothing."""
    graph = last.graph
    assert isinstance(graph, ir.Graph) and root.dtype is not None
    name = names.fresh(f"{root.name}_centred")
    mean = (-total.shift / total.scale).astype(root.dtype.numpy())
    held = add_initializer(graph, names.fresh(f"{name}_by"), mean)
    sub = make_node("Sub", [root, held], name=names.fresh(f"{name}_sub"), outputs=[name], dtype=root.dtype,
                    shapes=[root.shape], sources=[last])
    graph.insert_before(last, sub)
    try:
        fold_forward(last, sub.outputs[0], Affine(total.scale, np.zeros_like(total.scale)), names)
    except NoMatch:
        graph.remove(sub, safe=True)
        del graph.initializers[str(held.name)]
        raise


def _remove(nodes: list[ir.Node]) -> None:
    for node in reversed(nodes):
        assert node.graph is not None
        node.graph.remove(node, safe=True)
