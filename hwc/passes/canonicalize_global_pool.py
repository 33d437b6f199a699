"""Names the average over a whole feature map by its operator, GlobalAveragePool.

1. ReduceMean over all spatial axes with keepdims, and no other axis; ReduceMax likewise -> GlobalMaxPool
2. AveragePool whose window is the whole map, without padding

x: [N, C, spatial...] of rank 4 or 5. Engines of every target have the pool with an INT8 kernel, where a reduction is
often kept in floating point, and `commute_average_pool` can then move it before a 1x1 Conv. Runs behind the passes
that recompose normalizations, whose means look the same. Limit: rank 3 stays, since [N, C, length] cannot be told from
a transformer's [batch, sequence, features]; a mean that drops its axes stays as well. Not for TensorRT for RTX: with
1.7.1 on sm_86, light ResNet-50 has 58 kernels with its AveragePool and 59 with GlobalAveragePool.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import attribute, require, skip_unless, sweep
from hwc.graph.model import Namer, make_node, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.standardized import rank_of, reduced_axes

_POOLS = {"ReduceMean": "GlobalAveragePool", "AveragePool": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def canonicalize_global_pool(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring for the two cases."""
    misses: list[NearMiss] = []
    rule = partial(_canonicalize, namer=Namer(model), engine=context.target.engine)
    count = sweep(model, tuple(_POOLS), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _canonicalize(node: ir.Node, *, namer: Namer, engine: str) -> None:
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    rank = rank_of(x)
    skip_unless(rank in (4, 5) and x.dtype is not None and x.dtype.is_floating_point())
    if node.op_type == "AveragePool":
        _require_whole_window(node, x)
    else:
        skip_unless(reduced_axes(node) == tuple(range(2, rank)))
        require(attribute(node, "keepdims", 1), "the mean drops its axes")
    require(engine != "tensorrt_rtx", "TensorRT for RTX has fewer kernels with the pool or mean as it stands")
    new = make_node(
        _POOLS[node.op_type],
        [x],
        name=namer.fresh(f"{node.name}_global"),
        outputs=[namer.fresh(f"{result.name}_global")],
        dtype=result.dtype,
        shapes=[result.shape],
    )
    replace_nodes([node], [new], {result: new.outputs[0]})


def _require_whole_window(pool: ir.Node, x: ir.Value) -> None:
    window = tuple(attribute(pool, "kernel_shape"))
    skip_unless(all(size > 1 for size in window) and attribute(pool, "auto_pad", "NOTSET") in ("NOTSET", "VALID"))
    skip_unless(not any(attribute(pool, "pads", [0])) and all(d == 1 for d in attribute(pool, "dilations", [1])))
    assert x.shape is not None
    spatial = list(x.shape)[2:]
    is_static = all(isinstance(dim, int) for dim in spatial)
    # A small window is hardly ever the whole map, so it is not worth a line in the report.
    require(is_static or min(window) < 5, f"the shape of {x.name} is not static, so the window may not be all of it")
    skip_unless(list(window) == spatial)
