"""Finds instance normalization written out in means, a root and a quotient, and makes it InstanceNormalization.

    y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + bias,    x: [N, C, spatial...]

with the means over all spatial axes and nothing else. Scale and bias are constants per channel, [C, 1, ...] or
[1, C, 1, ...]; a missing one is 1 or 0, which needs C to be static. Opset 6 is enough.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import require, skip_unless, sweep
from hwc.graph.model import Namer, add_initializer, opset
from hwc.passes.base import PassContext, PassReport
from hwc.passes.polynomial import replace_expression, require_private
from hwc.passes.require_operator import require_operator
from hwc.passes.standardized import rank_of, read_affine, read_standardized


def recompose_instancenorm(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    rule = partial(_recompose, namer=Namer(model), version=opset(model), target=context.target)
    count = sweep(model, ("Sqrt", "Pow"), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _recompose(node: ir.Node, *, namer: Namer, version: int, target: Target) -> None:
    core = read_standardized(node)
    rank = rank_of(core.x)
    # One axis of three, the last, is what a transformer's layer normalization looks like; it is that pass's.
    skip_unless(rank >= 4 or len(core.axes) > 1)
    require(core.axes == tuple(range(2, rank)), f"axes {list(core.axes)} are not the spatial ones of {rank}")
    require_operator("InstanceNormalization", version, target)
    affine = read_affine(core.z)
    nodes = [*core.nodes, *affine.nodes]
    require_private(nodes, affine.top)
    assert core.x.shape is not None and core.x.dtype is not None
    channels = core.x.shape[1]
    require(isinstance(channels, int), "the number of channels is not static")
    assert isinstance(channels, int)
    scale = _per_channel(affine.scale, 1.0, channels, rank, core.x.dtype, "scale")
    bias = _per_channel(affine.bias, 0.0, channels, rank, core.x.dtype, "bias")
    graph, name = node.graph, affine.top.name
    assert graph is not None
    inputs = [
        core.x,
        add_initializer(graph, namer.fresh(f"{name}_scale"), scale),
        add_initializer(graph, namer.fresh(f"{name}_bias"), bias),
    ]
    replace_expression(nodes, affine.top, "InstanceNormalization", inputs, namer, {"epsilon": core.epsilon})


def _per_channel(
    array: np.ndarray | None, default: float, channels: int, rank: int, dtype: ir.DataType, what: str
) -> np.ndarray:
    """The constant as [C]; a near miss if it varies along another axis."""
    if array is None:
        return np.full([channels], default, dtype.numpy())
    full: np.ndarray = array.reshape([1] * (rank - array.ndim) + list(array.shape))
    require(full.size == full.shape[1] and full.size in (1, channels), f"the {what} is not one number per channel")
    return np.ascontiguousarray(np.broadcast_to(full.reshape(-1), [channels]))
