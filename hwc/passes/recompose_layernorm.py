"""Finds layer normalization written out in means, a root and a quotient; ONNX has LayerNormalization from opset 17 on.

    y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + bias,    means over the last axes of x

Nine passes over the tensor become one kernel, which accumulates in FP32: written out in FP16, the square overflows for
|x - mean| > 255. Limit: the axes must be the last ones; scale and bias are constants of the normalized shape (or
broadcast to it), and may be missing where that shape is static.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import NoMatch, require, sweep
from hwc.graph.model import Namer, add_initializer, opset
from hwc.passes.base import PassContext, PassReport
from hwc.passes.polynomial import replace_expression, require_private
from hwc.passes.require_operator import require_operator
from hwc.passes.standardized import Affine, Standardized, rank_of, read_affine, read_standardized


def recompose_layernorm(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    rule = partial(_recompose, namer=Namer(model), version=opset(model), target=context.target)
    count = sweep(model, ("Sqrt", "Pow"), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _recompose(node: ir.Node, *, namer: Namer, version: int, target: Target) -> None:
    core = read_standardized(node)
    rank = rank_of(core.x)
    first = rank - len(core.axes)
    require(core.axes == tuple(range(first, rank)), f"axes {list(core.axes)} are not the last ones of {rank}")
    require_operator("LayerNormalization", version, target)
    affine = read_affine(core.z)
    nodes = [*core.nodes, *affine.nodes]
    require_private(nodes, affine.top)
    scale, bias = _parameters(core, affine, first)
    graph = node.graph
    assert graph is not None
    name = affine.top.name
    inputs = [core.x, add_initializer(graph, namer.fresh(f"{name}_scale"), scale)]
    if bias is not None:
        inputs.append(add_initializer(graph, namer.fresh(f"{name}_bias"), bias))
    attributes = {"axis": -len(core.axes), "epsilon": core.epsilon}
    replace_expression(nodes, affine.top, "LayerNormalization", inputs, namer, attributes)


def _parameters(core: Standardized, affine: Affine, first: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Scale and bias with the normalized shape; a near miss where they vary along other axes."""
    assert core.x.shape is not None and core.x.dtype is not None
    shape = tuple(core.x.shape[first:])
    static = [dim for dim in shape if isinstance(dim, int)]
    arrays: dict[str, np.ndarray] = {}
    for what, array in (("scale", affine.scale), ("bias", affine.bias)):
        if array is None:
            continue
        while array.ndim > len(shape) and array.shape[0] == 1:
            array = array[0]
        require(array.ndim <= len(shape), f"the {what} varies along an axis that is not normalized")
        if array.shape != shape:
            # Broadcasting to a static shape is free here; to a dynamic one it is not possible.
            require(len(static) == len(shape), f"the {what} needs a static normalized shape")
            try:
                array = np.broadcast_to(array, static)
            except ValueError:
                raise NoMatch(f"the {what} changes the shape") from None
        arrays[what] = array
    if "scale" not in arrays:
        require(len(static) == len(shape), "without a scale, the normalized shape must be static")
        arrays["scale"] = np.ones(static, core.x.dtype.numpy())
    return arrays["scale"], arrays.get("bias")
