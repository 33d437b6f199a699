"""What a unit costs on the GPU and on one DLA core, and what a tensor costs to cross: estimates, for the cut alone.

GPU: the roofline of `hwc/cost`. DLA core, per layer, for b bytes per element:

    compute = 2 * MACs with channels padded to CHANNEL_STEP / (peak of one core * EFFICIENCY)
    memory  = (inputs + weights + outputs) * b / (DRAM bandwidth * BANDWIDTH_SHARE)
    layer   = max(compute, memory) + LAYER_SECONDS; a rider costs no memory and no time of its own

    way in  = GPU kernel that reformats (launch + 2 * bytes / bandwidth) + ENTER_SECONDS
    way out = the same kernel + LEAVE_SECONDS

The constants are assumptions. EFFICIENCY is set so that ResNet-50 comes to the rates that NVIDIA gives for one core:
396 images/s in INT8 on AGX Xavier (declared in MLPerf v1.1), 1018 on AGX Orin (Deep-Learning-Accelerator-SW, MAXN).
FP16_SHARE: Xavier's array does half the rate; Orin traded FP16 for INT8, and a public log has ResNet-50 14 times slower
in FP16. ENTER and LEAVE: a cut was measured at 45-74 us on the DLA side and 10-43 us on the GPU side of AGX Xavier
(HaX-CoNN, arXiv 2308.05869, figures of its artefact). Nothing here knows of SRAM, sparsity or two engines at work.

This is the one place that puts times on units: another model of cost replaces these functions and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from hwc.cost.count_flops import MATRIX_OPS, VIEW_OPS, count_flops
from hwc.cost.roofline import LAUNCH_SECONDS, MEMORY_EFFICIENCY, estimate_nodes
from hwc.dla.board import Board
from hwc.dla.tensors import static_dims, used_outputs
from hwc.errors import UsageError
from hwc.graph.match import attribute

EFFICIENCY = {"1.0": 0.6, "2.0": 0.35}
FP16_SHARE = {"1.0": 0.5, "2.0": 0.1}
CHANNEL_STEP = {"fp16": 16, "int8": 32}  # the CHW16 and CHW32 formats
BANDWIDTH_SHARE = 0.4  # of the DRAM's peak, for one core
LAYER_SECONDS = 4e-6
ENTER_SECONDS = 50e-6
LEAVE_SECONDS = 20e-6


def estimate_gpu_seconds(nodes: Sequence[ir.Node], board: Board) -> float | None:
    """The unit on the GPU; None where a node has no static cost (a body, a shape that is not known)."""
    try:
        return estimate_nodes(nodes, board.target, board.precision).seconds
    except UsageError:
        return None


def estimate_dla_seconds(nodes: Sequence[ir.Node], board: Board) -> float:
    """The unit on one DLA core; its nodes may run there, so their shapes are static."""
    inside = {value for node in nodes for value in node.outputs}
    peak = board.number("dla.int8_tops") * 1e12 / board.number("dla.count") * EFFICIENCY[board.generation]
    if not board.is_int8:
        peak *= FP16_SHARE[board.generation]
    bandwidth = board.number("memory.bandwidth_gb_s") * 1e9 * BANDWIDTH_SHARE
    compute, moved = 0.0, 0
    for node in nodes:
        compute += _padded_flops(node, board) / peak
        reads = [value for value in node.inputs if value is not None and value not in inside]
        writes = [v for v in used_outputs(node) if v.is_graph_output() or any(u.node not in nodes for u in v.uses())]
        moved += sum(tensor_bytes(value, board) for value in (*reads, *writes))
    return max(compute, moved / bandwidth) + LAYER_SECONDS


def estimate_crossing_seconds(value: ir.Value, board: Board) -> tuple[float, float]:
    """What the tensor costs on its way to DLA, and on its way back."""
    bandwidth = board.number("memory.bandwidth_gb_s") * 1e9 * MEMORY_EFFICIENCY
    kernel = LAUNCH_SECONDS[board.target.family] + 2 * tensor_bytes(value, board) / bandwidth
    return kernel + ENTER_SECONDS, kernel + LEAVE_SECONDS


def estimate_reformat_seconds(value: ir.Value, board: Board) -> float:
    """The GPU's share of a crossing: the kernel that reformats."""
    return estimate_crossing_seconds(value, board)[0] - ENTER_SECONDS


def tensor_bytes(value: ir.Value, board: Board) -> int:
    """Size in the board's precision; unknown dimensions count as 1."""
    dims = static_dims(value)
    if dims is None:
        shape = value.shape if value.shape is not None else ()
        dims = tuple(dim for dim in shape if isinstance(dim, int) and dim > 0)
    return math.prod(dims) * (1 if board.is_int8 else 2)


def _padded_flops(node: ir.Node, board: Board) -> float:
    """Operations with the channels that go into one output element padded to whole vectors."""
    flops = float(count_flops(node))
    if node.op_type in VIEW_OPS or node.op_type not in MATRIX_OPS:
        return 0.0  # riders and pools are bound by memory
    weight = static_dims(node.inputs[1]) or (1, 1)
    channels = weight[1] if node.op_type == "Conv" else weight[0]
    if int(attribute(node, "group", 1)) > 1 and channels == 1 and board.generation != "1.0":
        return flops  # Orin has a fast path for depthwise convolutions
    step = CHANNEL_STEP[board.precision]
    return flops * math.ceil(channels / step) * step / channels
