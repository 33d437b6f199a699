"""Moving a per-channel affine map into the linear layer behind or ahead of it.

Behind (y = s (W x + b) + t): W' = s W along the output channel, b' = s b + t. Exact, for Conv, ConvTranspose, Gemm,
MatMul (scale only; the shift stays behind as an Add) and for another normalization's own scale and bias.

Ahead (y = W (s x + t) + b): W' = W s along the input channel, b' = b + W t. A zero that a Conv pads with is a zero of
s x + t, so a shift is wrong at the border unless the padded part is taken out of W t there:

    map[o, p] = sum over k of (sum over i of W[o, i, k] t[i]) * inside(k, p)

where `inside` is 1 where kernel element k at position p reads the image and 0 where it reads padding. Without padding
the map is one number a channel and is a bias; with padding it is added as a constant [1, O, ...], which engines take
into the convolution as they take a residual.

New weights are new initializers, so a weight that other nodes read is never edited, and a tensor whose meaning changes
gets a new name, since calibration tables refer to tensors by name. All questions come before the first edit.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.graph.match import attribute, constant, is_op, only_user, require, skip_unless
from hwc.graph.model import Namer, add_initializer, bypass, can_bypass, make_node, mark_origin
from hwc.graph.padding import explicit_pads
from hwc.passes.channel_affine import Affine, along_axis, on_axis, read_batchnorm, through, through_pool

CONVOLUTIONS = ("Conv", "ConvTranspose")
LAYERS = (*CONVOLUTIONS, "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization")
_MAX_MAP_BYTES = 1 << 20  # a border map is read on every inference; above this, one more pass over the data is cheaper


def fold_backward(node: ir.Node, source: ir.Value, affine: Affine, names: Namer) -> None:
    """Takes `node`, the map over `source`, into the layer that makes `source`, through pools if need be."""
    require(node.graph is not None, "it is in no graph")
    path: list[ir.Node] = []
    value = source
    while True:
        layer = value.producer()
        skip_unless(is_op(layer, *LAYERS, "MaxPool", "AveragePool"))
        assert layer is not None
        only_user(value, f"{layer.op_type} output")
        if layer.op_type in LAYERS:
            break
        affine = through_pool(layer, affine)
        path.append(layer)
        assert layer.inputs[0] is not None
        value = layer.inputs[0]
    require(layer.graph is node.graph, f"{layer.name} is in another graph")
    rest = None
    if layer.op_type == "MatMul" and affine.has_shift:
        # MatMul has no bias. An Add behind it is what it would get anyway, so only a scale is worth the rewrite.
        skip_unless(not is_op(node, "Add") and not (affine.scale == 1).all() and not path)
        rest = affine.shift
        affine = Affine(affine.scale, np.zeros_like(affine.shift))
    else:
        require(can_bypass(node, source), "it gives a graph output its name")
    replaced = _scaled_parameters(layer, affine)
    dtype = layer.inputs[1].dtype  # type: ignore[union-attr]
    for index, array in replaced.items():
        _set_constant(layer, index, array, names)
    if layer.op_type == "Gemm" and 2 in replaced:
        layer.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    mark_origin(layer, [layer, node])
    _rename([value, *(step.outputs[0] for step in path)], names)
    if rest is None:
        name = node.outputs[0].name
        bypass(node, source)
        source.name = name
        return
    assert dtype is not None and node.graph is not None
    _become_add(node, source, rest.astype(dtype.numpy()), names)


def _scaled_parameters(layer: ir.Node, affine: Affine) -> dict[int, np.ndarray]:
    """Input index -> its new array in the dtype of the old: the weight, and the bias where there is or must be one."""
    weight = constant(layer.inputs[1], f"the weight of {layer.op_type}")
    w = weight.astype(np.float64)
    out_axis = 1
    if layer.op_type == "Conv":
        s, t = (along_axis(a, 1, w.shape[0]) for a in (affine.scale, affine.shift))
        w = w * on_axis(s, 0, w.ndim)
    elif layer.op_type == "ConvTranspose":
        group = attribute(layer, "group", 1)
        s, t = (along_axis(a, 1, w.shape[1] * group) for a in (affine.scale, affine.shift))
        w = (w.reshape(group, -1, *w.shape[1:]) * s.reshape(group, 1, -1, *(1,) * (w.ndim - 2))).reshape(w.shape)
    elif layer.op_type == "Gemm":
        axis = 0 if attribute(layer, "transB", 0) else 1
        s, t = (along_axis(a, 1, w.shape[axis]) for a in (affine.scale, affine.shift))
        w = w * on_axis(s, axis, 2)
    elif layer.op_type == "MatMul":
        require(w.ndim == 2, "the weight of MatMul is not a matrix")
        out_axis = affine.scale.ndim - 1
        s, t = (along_axis(a, out_axis, w.shape[1]) for a in (affine.scale, affine.shift))
        w = w * s
    else:
        if layer.op_type == "BatchNormalization":
            read_batchnorm(layer)
        s, t = (along_axis(a, 1, w.shape[0]) for a in (affine.scale, affine.shift))
        w = w * s
    replaced = {} if (s == 1).all() else {1: _cast(w, weight.dtype)}
    held = layer.inputs[2] if len(layer.inputs) > 2 else None
    if layer.op_type != "MatMul" and (held is not None or t.any()):
        beta = attribute(layer, "beta", 1.0) if layer.op_type == "Gemm" else 1.0
        bias = constant(held, f"the bias of {layer.op_type}") if held is not None else np.zeros((), weight.dtype)
        replaced[2] = _cast(s * (beta * bias.astype(np.float64)) + t, bias.dtype)
    return replaced


def fold_forward(node: ir.Node, source: ir.Value, affine: Affine, names: Namer, *, as_add: bool = False) -> None:
    """Takes `node`, the map over `source`, into the layer that reads it, through pools and data movement if need be.

    Args:
        as_add: allow a rewrite that leaves one Add behind the layer (a border map, or the shift of a MatMul).
    """
    path: list[ir.Node] = []
    value = node.outputs[0]
    while True:
        user = only_user(value, "its output")
        require(user.inputs[0] is value, f"{user.op_type} reads it as a weight")
        if is_op(user, *CONVOLUTIONS, "Gemm", "MatMul"):
            break
        affine = through(user, affine)
        path.append(user)
        value = user.outputs[0]
    require(user.graph is node.graph and all(step.graph is node.graph for step in path), "its reader is in a subgraph")
    weight = constant(user.inputs[1], f"the weight of {user.op_type}")
    w = weight.astype(np.float64)
    addend: np.ndarray | None = None
    bias: np.ndarray | None = None
    if user.op_type in CONVOLUTIONS:
        group = attribute(user, "group", 1)
        transposed = user.op_type == "ConvTranspose"
        channels = w.shape[0] if transposed else w.shape[1] * group
        s, t = (along_axis(a, 1, channels) for a in (affine.scale, affine.shift))
        if transposed:
            # At its border an output pixel sums fewer taps, so no single bias stands for the shift.
            require(not t.any(), "a shift before ConvTranspose is not exact at its border")
            new = w * on_axis(s, 0, w.ndim)
        else:
            grouped = w.reshape(group, -1, *w.shape[1:])
            spread = (group, 1, -1, *(1,) * (w.ndim - 2))
            new = (grouped * s.reshape(spread)).reshape(w.shape)
            if t.any():
                taps = (grouped * t.reshape(spread)).reshape(w.shape).sum(axis=1)
                border = _border_map(user, value, taps)
                if border is None:
                    bias = taps.reshape(len(taps), -1).sum(axis=1)
                else:
                    require(as_add, "a shift before a padded Conv is not exact at its border")
                    addend = border[None]
    else:
        if user.op_type == "Gemm":
            require(not attribute(user, "transA", 0), "Gemm reads it transposed")
            axis = 1 if attribute(user, "transB", 0) else 0
        else:
            require(w.ndim == 2, "the weight of MatMul is not a matrix")
            axis = 0
        s, t = (along_axis(a, a.ndim - 1, w.shape[axis]) for a in (affine.scale, affine.shift))
        new = w * on_axis(s, axis, 2)
        if t.any():
            bias = (t @ np.moveaxis(w, axis, 0)) * attribute(user, "alpha", 1.0)
            if user.op_type == "MatMul":
                require(as_add, "MatMul has no bias to take a shift")
                bias, addend = None, bias
    replaced = {1: _cast(new, weight.dtype)}
    if bias is not None:
        held = user.inputs[2] if len(user.inputs) > 2 else None
        old = constant(held, f"the bias of {user.op_type}") if held is not None else np.zeros((), weight.dtype)
        replaced[2] = _cast(attribute(user, "beta", 1.0) * old.astype(np.float64) + bias, weight.dtype)
    for index, array in replaced.items():
        _set_constant(user, index, array, names)
    if user.op_type == "Gemm" and 2 in replaced:
        user.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    mark_origin(user, [user, node])
    _rename([step.outputs[0] for step in path], names)
    bypass(node, source)
    if addend is not None:
        _add_behind(user, addend.astype(weight.dtype), node, names)


def _border_map(conv: ir.Node, image: ir.Value, taps: np.ndarray) -> np.ndarray | None:
    """What a Conv makes of the constant image whose taps [O, k...] are given; None if that is uniform."""
    kernel = taps.shape[1:]
    padded = attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(attribute(conv, "pads", []))
    if not padded:
        return None
    shape = list(image.shape)[2:] if image.shape is not None else []
    known = len(shape) == len(kernel) and all(isinstance(length, int) for length in shape)
    require(known, "the size of the image that a padded Conv reads is not static")
    size = [int(length) for length in shape]  # type: ignore[arg-type]
    pads = explicit_pads(conv, size, kernel)
    if not any(pads):
        return None
    strides = attribute(conv, "strides", [1] * len(kernel))
    dilations = attribute(conv, "dilations", [1] * len(kernel))
    result, cells = taps, taps.shape[0]
    for axis, (length, k, stride, dilation) in enumerate(zip(size, kernel, strides, dilations)):
        low, high = pads[axis], pads[axis + len(kernel)]
        count = (length + low + high - (k - 1) * dilation - 1) // stride + 1
        cells *= count
        require(cells * 4 <= _MAX_MAP_BYTES, "the border map of the padded Conv would exceed 1 MiB")
        reads = np.arange(k)[:, None] * dilation + np.arange(count)[None] * stride - low
        inside = ((reads >= 0) & (reads < length)).astype(np.float64)
        result = np.tensordot(result, inside, axes=([1], [0]))
    return result


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array in the dtype of the weights; a near miss if it does not fit."""
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    require(np.isfinite(cast.astype(np.float64)).all(), f"a folded weight overflows {dtype}")
    return cast


def _set_constant(layer: ir.Node, index: int, array: np.ndarray, names: Namer) -> None:
    old = layer.inputs[index] if index < len(layer.inputs) else None
    base = str(old.name).removesuffix("_folded") if old is not None else f"{layer.name}_bias"
    assert layer.graph is not None
    new = add_initializer(layer.graph, names.fresh(f"{base}_folded"), array)
    if index >= len(layer.inputs):
        layer.resize_inputs(index + 1)
    layer.replace_input_with(index, new)


def _rename(values: list[ir.Value], names: Namer) -> None:
    for value in values:
        value.name = names.fresh(f"{value.name}_unscaled")


def _become_add(node: ir.Node, source: ir.Value, addend: np.ndarray, names: Namer) -> None:
    """Puts Add(source, addend) in the place of `node`, under its output's name."""
    assert node.graph is not None
    held = add_initializer(node.graph, names.fresh(f"{node.name}_shift"), addend)
    out = node.outputs[0]
    add = make_node("Add", [source, held], name=names.fresh(f"{node.name}_add"), outputs=[f"{out.name}_"],
                    dtype=out.dtype, shapes=[out.shape], sources=[node])
    node.graph.insert_before(node, add)
    name = out.name
    out.replace_all_uses_with(add.outputs[0], replace_graph_outputs=True)
    node.graph.remove(node, safe=True)
    out.name = None
    add.outputs[0].name = name


def _add_behind(layer: ir.Node, addend: np.ndarray, node: ir.Node, names: Namer) -> None:
    """Adds the constant to the layer's output; the sum takes over that output's name."""
    assert layer.graph is not None
    out = layer.outputs[0]
    held = add_initializer(layer.graph, names.fresh(f"{layer.name}_border"), addend)
    name = out.name
    add = make_node("Add", [], name=names.fresh(f"{layer.name}_add"), outputs=[f"{name}_"],
                    dtype=out.dtype, shapes=[out.shape], sources=[layer, node])
    out.replace_all_uses_with(add.outputs[0], replace_graph_outputs=True)
    add.resize_inputs(2)
    add.replace_input_with(0, out)
    add.replace_input_with(1, held)
    layer.graph.insert_after(layer, add)
    out.name = names.fresh(f"{name}_unshifted")
    add.outputs[0].name = name
