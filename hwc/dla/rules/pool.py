"""Pools over windows, and reductions over the whole map.

In INT8 a pool keeps its scale: input and output must have the same. An average over a map is a Reduce layer for
TensorRT, which NVIDIA's logs show on the GPU ("do not support AVG Reduce"); a maximum is one that DLA has on newer
versions. Where padding is not counted in an average, Xavier refuses.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from hwc.dla.board import Board
from hwc.dla.finding import Finding, Judge
from hwc.dla.rules.scales import check_equal_scales
from hwc.dla.tensors import static_dims
from hwc.graph.match import attribute
from hwc.graph.padding import explicit_pads

_KINDS = {"MaxPool": ("MAX", "max pool"), "AveragePool": ("AVERAGE", "average pool")}
_REDUCE = {"GlobalMaxPool": "ReduceMax", "GlobalAveragePool": "ReduceMean"}


def check_pool(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A MaxPool or AveragePool of rank 4 with static shapes."""
    judge = Judge(node, board)
    x = static_dims(node.inputs[0]) or ()
    kind, rewrite = _KINDS[node.op_type]
    window = attribute(node, "kernel_shape")
    pads = explicit_pads(node, x[2:], window)
    if kind not in board.names("dla.pool_types"):
        yield judge.find("pool.type", "dla.pool_types", expected=", ".join(board.names("dla.pool_types")), got=kind)
    yield from judge.beyond(
        "pool.window", "dla.pool_window_max", window, low=1, what="a window of", rewrite=rewrite
    )
    yield from judge.beyond("pool.padding", "dla.pool_padding_max", pads, low=0, what="padding", rewrite=rewrite)
    yield from judge.beyond(
        "pool.stride", "dla.pool_stride_max", attribute(node, "strides", [1, 1]), low=1, what="a stride of"
    )
    if any(step != 1 for step in attribute(node, "dilations", [1])):
        yield judge.find("pool.dilation", "dla.pool_types", expected="no dilation", got="a dilated window")
    if pads[:2] != pads[2:] or attribute(node, "ceil_mode", 0):
        got = f"padding {pads[0]}x{pads[1]} before and {pads[2]}x{pads[3]} after"
        yield from judge.allowed(
            "pool.equal_padding", "dla.asymmetric_padding", expected="equal padding before and after",
            got="ceil_mode" if pads[:2] == pads[2:] else got,
        )
    if kind == "AVERAGE" and any(pads) and not attribute(node, "count_include_pad", 0):
        yield from judge.allowed(
            "pool.counted_padding", "dla.average_exclusive", expected="padding that counts in the average",
            got="count_include_pad = 0", rewrite="counted padding",
        )
    if len([v for v in node.outputs if v.uses() or v.is_graph_output()]) > 1:
        yield judge.find("pool.indices", "dla.pool_types", expected="one output", got="the indices are read, too")
    yield from check_equal_scales(judge, [node.inputs[0], node.outputs[0]])


def check_reduce(node: ir.Node, board: Board) -> Iterator[Finding]:
    """A reduction of rank 4 with static shapes."""
    name = _REDUCE.get(node.op_type, node.op_type)
    if name not in board.names("dla.reduce_ops"):
        yield Judge(node, board).find(
            "reduce.operator", "dla.reduce_ops", expected=", ".join(board.names("dla.reduce_ops")) or "no reduction",
            got=node.op_type, rewrite={"ReduceMean": "average pool", "ReduceMax": "max pool"}.get(name, ""),
        )
