"""Averages before a 1x1 Conv instead of after it: Pool(Conv(x)) -> Conv(Pool(x)), on a quarter of the pixels or fewer.

Both are linear, one over channels and one over pixels, so they commute:

    mean_i (W x_i + b) = W mean_i (x_i) + b

The Conv must be 1x1 with stride 1 and no padding, in any number of groups, and nothing may stand between. The pool is
AveragePool, GlobalAveragePool or a ReduceMean over spatial axes with keepdims. The bias comes out exact only where
every window is divided by the number of pixels that it really holds: without padding, or with count_include_pad = 0.

Gated by the estimate: where the Conv narrows (more channels in than out) the pool reads more than before, and where the
pool keeps the size there is nothing to save.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from hwc.artifacts import NearMiss
from hwc.graph.match import attribute, only_user, producer, require, skip_unless, sweep
from hwc.graph.model import Namer, make_node, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.require_gain import require_gain
from hwc.passes.standardized import rank_of, reduced_axes


def commute_average_pool(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    rule = partial(_commute, namer=Namer(model), context=context)
    count = sweep(model, ("AveragePool", "GlobalAveragePool", "ReduceMean"), rule, misses=misses)
    return PassReport(count, tuple(misses))


def _commute(pool: ir.Node, *, namer: Namer, context: PassContext) -> None:
    conv = producer(pool.inputs[0], "Conv")
    x, weight = conv.inputs[0], conv.inputs[1]
    assert x is not None and weight is not None
    rank = rank_of(weight)
    assert weight.shape is not None
    kernel = list(weight.shape)[2:]
    skip_unless(kernel == [1] * (rank - 2))
    _require_same_windows(conv, pool, rank)
    only_user(conv.outputs[0])

    result = pool.outputs[0]
    require(x.shape is not None and result.shape is not None, f"the shape of {x.name} is not known")
    assert x.shape is not None and result.shape is not None
    pooled = make_node(
        pool.op_type,
        [x, *pool.inputs[1:]],
        name=namer.fresh(f"{pool.name}_first"),
        outputs=[namer.fresh(f"{result.name}_pooled")],
        attributes={name: attribute(pool, name) for name in pool.attributes},
        dtype=x.dtype,
        shapes=[ir.Shape([*list(x.shape)[:2], *list(result.shape)[2:]])],
    )
    after = make_node(
        "Conv",
        [pooled.outputs[0], *conv.inputs[1:]],
        name=namer.fresh(f"{conv.name}_after"),
        outputs=[namer.fresh(f"{result.name}_conv")],
        attributes={name: attribute(conv, name) for name in conv.attributes},
        dtype=result.dtype,
        shapes=[result.shape],
    )
    require_gain([conv, pool], [pooled, after], context, pool.graph)
    replace_nodes([conv, pool], [pooled, after], {result: after.outputs[0]})


def _require_same_windows(conv: ir.Node, pool: ir.Node, rank: int) -> None:
    """Near misses for what would make the two orders differ."""
    require(all(stride == 1 for stride in attribute(conv, "strides", [1])), "the Conv has a stride")
    # With a 1x1 kernel and stride 1, every auto_pad comes to no padding.
    require(not any(attribute(conv, "pads", [0])), "the Conv pads")
    if pool.op_type == "ReduceMean":
        require(attribute(pool, "keepdims", 1), "the mean drops its axes")
        axes = reduced_axes(pool)
        require(axes and axes[0] >= 2 and axes[-1] < rank, f"the mean is over axes {list(axes)}, not spatial ones only")
    if pool.op_type != "AveragePool" or len(conv.inputs) < 3 or conv.inputs[2] is None:
        return
    is_padded = any(attribute(pool, "pads", [0])) or attribute(pool, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    counts_padding = bool(attribute(pool, "count_include_pad", 0))
    require(not (is_padded and counts_padding), "padding counts in the average, so the bias would shrink there")
    # Engines disagree about the divisor of a window that ceil_mode lets hang over the edge.
    require(not (attribute(pool, "ceil_mode", 0) and counts_padding), "ceil_mode with count_include_pad and a bias")
