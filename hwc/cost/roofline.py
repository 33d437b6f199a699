"""The time that a group of nodes is estimated to take on a target: the roofline model, per kernel.

    seconds = max( compute, bytes_moved / (bandwidth * MEMORY_EFFICIENCY) ) + launch

A group is one kernel: only tensors at its border move, weights included; what passes from node to node inside stays in
registers. Compute adds, over its nodes,

* matrix products (Conv, ConvTranspose, Gemm, MatMul) on a GPU: for the best of a few output tiles T_m x T_n,
  ceil(tiles / SMs) waves, each 2 * T_m * T_n * K operations at the rate of one SM. So a channel count that fills no
  tile, and a tile count that fills no wave, cost what the next full one costs. Where tiles are fewer than SMs, K
  is split;
* everything else, depthwise convolutions included: operations over the rate of the plain FP32 lanes.

Everything here is an ESTIMATE, for ranking alternatives, never a measurement. The constants below are assumptions, and
the model knows nothing of: caches (a tensor that stays in L2 is charged as DRAM traffic), Winograd, sparsity, TF32,
overlap of kernels, clocks below the maximum. Roofline: Williams, Waterman, Patterson, CACM 52(4), 2009.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from hwc.artifacts import FusionGroup, Target
from hwc.cost.count_flops import (
    MATRIX_OPS,
    POINTWISE_OPS,
    RECURRENT_OPS,
    VIEW_OPS,
    Sizes,
    count_flops,
    dimensions,
    elements,
    matrix_shape,
)
from hwc.errors import TargetError, UsageError

# Assumptions, each a round number of the usual order of magnitude; none is a fact about one device.
MATRIX_EFFICIENCY = 0.7  # of the peak matrix rate, in full tiles and full waves
PLAIN_EFFICIENCY = 0.3  # of the FP32 peak: one multiply-add slot per operation, index arithmetic beside it
MEMORY_EFFICIENCY = 0.8  # of the DRAM peak, for a kernel that streams
LAUNCH_SECONDS = {"cpu": 2e-6, "jetson": 6e-6, "geforce": 2.5e-6, "datacenter": 2.5e-6}
# Output tiles (rows, columns) and how close to MATRIX_EFFICIENCY each comes: small ones reload their operands more.
GPU_TILES = (((128, 128), 1.0), ((128, 64), 0.9), ((64, 64), 0.75), ((64, 32), 0.55), ((32, 32), 0.4))
# K is fed to the matrix units in steps of 16 bytes for FP16 and of 32 channels for INT8 (targets.md 6: "C % 32 == 0").
K_STEP = {"fp32": 4, "fp16": 8, "bf16": 8, "int8": 32}
SPLIT_DEPTH = 256  # no SM is given a shorter piece of K than this: adding the pieces up would cost more than it saves
CPU_COLUMN_STEP = 16  # FP32 lanes of one AVX-512 register, which is also the channel block of oneDNN
HOST_ELEMENTS = 64  # an integer tensor up to this size is taken for a shape computation, which engines do on the host
CPU_DOT_PRODUCT = 4  # INT8 multiply-adds in the lane of one FP32 multiply-add (VNNI, SDOT); without them, no gain
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
_FLOATS = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}


@dataclass(frozen=True)
class Estimate:
    """What the model says; never a measurement.

    Args:
        flops: useful operations, a multiply-add as two; padding to tiles is in `seconds` only.
        bound: what most of the time goes into: "compute", "memory" or "launch".
        kernels: how many kernels; 0 where nothing runs on the device.
    """

    seconds: float
    flops: int
    bytes_moved: int
    bound: str
    kernels: int


@dataclass(frozen=True)
class GroupCost:
    """One row of the table of `hwc inspect`: a group, and its estimate or the reason why there is none."""

    group: FusionGroup
    estimate: Estimate | None
    reason: str = ""


def estimate_nodes(
    nodes: Sequence[ir.Node], target: Target, precision: str, *, sizes: Sizes | None = None
) -> Estimate:
    """All nodes one after the other, each its own kernel, except that element-wise nodes ride on a heavy producer.

    The nodes need not be in a graph; their values need dtype and shape, and edges among them are followed.

    Args:
        nodes: in execution order.
        precision: "fp32", "fp16", "bf16" or "int8" for all floating-point tensors; "graph" takes each tensor's own
            type, as a strongly typed engine does.
        sizes: symbol -> size, for dimensions that are not fixed; the others count as 1.

    Raises:
        TargetError: the target does not know a fact that is needed.
        UsageError: a shape is not known, a node runs a body, or the precision has no name here.
    """
    kernels: list[list[ir.Node]] = []
    kernel_of: dict[ir.Node, list[ir.Node]] = {}
    for node in nodes:
        ride = None
        if node.op_type in POINTWISE_OPS:
            for value in node.inputs:
                producer = value.producer() if value is not None else None
                if producer is None or producer not in kernel_of or {u.node for u in value.uses()} != {node}:  # type: ignore[union-attr]
                    continue
                # Only the last node of a kernel can be extended: earlier results have left it already.
                if kernel_of[producer][0].op_type in MATRIX_OPS and kernel_of[producer][-1] is producer:
                    ride = kernel_of[producer]
        if ride is None:
            ride = []
            kernels.append(ride)
        ride.append(node)
        kernel_of[node] = ride
    return total(estimate_group(kernel, target, precision, sizes=sizes) for kernel in kernels)


def estimate_group(
    nodes: Sequence[ir.Node], target: Target, precision: str, *, sizes: Sizes | None = None
) -> Estimate:
    """The nodes as one kernel. Arguments and errors as `estimate_nodes`."""
    if precision not in (*_BYTES, "graph"):
        raise UsageError("no such precision", expected=", ".join([*_BYTES, "graph"]), got=precision)
    sizes = sizes or {}
    flops = sum(count_flops(node, sizes) for node in nodes)
    busy = [node for node in nodes if node.op_type not in VIEW_OPS and not _on_host(node, sizes)]
    if not busy:
        return Estimate(0.0, flops, 0, "launch", 0)
    moved = _border_bytes(nodes, target, precision, sizes)
    compute = sum(_compute_seconds(node, target, precision, sizes) for node in busy)
    memory = moved / (target.number("memory.bandwidth_gb_s") * 1e9 * MEMORY_EFFICIENCY)
    # A recurrence waits for itself once a step, whether or not the steps share one kernel.
    waits = 1 + sum(dimensions(n.inputs[0], sizes, n)[0] for n in busy if n.op_type in RECURRENT_OPS)
    launch = waits * LAUNCH_SECONDS[target.family]
    bound = "launch" if launch > max(compute, memory) else "compute" if compute > memory else "memory"
    return Estimate(max(compute, memory) + launch, flops, moved, bound, 1)


def total(estimates: Iterable[Estimate]) -> Estimate:
    """The sum; `bound` is the one that holds for most of the time."""
    parts = list(estimates)
    share: dict[str, float] = {}
    for part in parts:
        share[part.bound] = share.get(part.bound, 0.0) + part.seconds
    return Estimate(
        seconds=sum(part.seconds for part in parts),
        flops=sum(part.flops for part in parts),
        bytes_moved=sum(part.bytes_moved for part in parts),
        bound=max(share, key=lambda bound: share[bound]) if share else "launch",
        kernels=sum(part.kernels for part in parts),
    )


def estimate_groups(
    model: ir.Model, groups: Sequence[FusionGroup], target: Target, precision: str, *, sizes: Sizes | None = None
) -> tuple[GroupCost, ...]:
    """One row per group, in the order given; a group without a static cost says why instead.

    Raises:
        TargetError: the target does not know a fact that is needed.
        UsageError: the precision has no name here, or a group names a node that the model lacks.
    """
    by_name = {node.name: node for node in model.graph}
    rows = []
    for group in groups:
        missing = [name for name in group.nodes if name not in by_name]
        if missing:
            raise UsageError(f"group {group.id} names a node that is not in the graph", got=missing[0])
        members = [by_name[name] for name in group.nodes]
        reason = _no_static_cost(members)
        if reason:
            rows.append(GroupCost(group, None, reason))
        else:
            rows.append(GroupCost(group, estimate_group(members, target, precision, sizes=sizes)))
    return tuple(rows)


def _no_static_cost(nodes: Sequence[ir.Node]) -> str:
    for node in nodes:
        if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
            return f"{node.op_type} '{node.name}' runs a body an unknown number of times"
        for value in [*(v for v in node.inputs if v is not None), *_results(node)]:
            if value.shape is None and value.type is not None:
                return f"the shape of '{value.name}' is not known"
            if value.type is None:
                return f"the type of '{value.name}' is not known"
    return ""


def _results(node: ir.Node) -> list[ir.Value]:
    """The outputs that are wanted: the first, which a node that is in no graph has too, and all that are read."""
    return [v for i, v in enumerate(node.outputs) if i == 0 or v.uses() or v.is_graph_output()]


def _on_host(node: ir.Node, sizes: Sizes) -> bool:
    """Whether this looks like arithmetic on shapes."""
    return all(
        value.dtype in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
        and elements(value, sizes, node) <= HOST_ELEMENTS
        for value in _results(node)
    ) and all(value is None or value.shape is None or elements(value, sizes, node) <= HOST_ELEMENTS
              for value in node.inputs)


def _type_of(value: ir.Value, target: Target, precision: str) -> str:
    """The precision that the tensor is stored in; "" where it is no floating-point tensor."""
    own = _FLOATS.get(value.dtype) if value.dtype is not None else None
    if own is None:
        return ""
    stored = own if precision == "graph" else precision
    # OpenVINO's CPU plugin computes FP16 models in FP32, and BF16 only where the CPU has instructions for it.
    return "fp32" if target.family == "cpu" and stored in ("fp16", "bf16") else stored


def _bytes(value: ir.Value, node: ir.Node, target: Target, precision: str, sizes: Sizes) -> int:
    kind = _type_of(value, target, precision)
    if value.dtype == ir.DataType.STRING:
        raise UsageError(f"'{value.name}' holds strings, which no engine here computes with", where=str(node.name))
    size = _BYTES[kind] if kind else (value.dtype.itemsize if value.dtype is not None else 4)
    return math.ceil(elements(value, sizes, node) * size)


def _border_bytes(nodes: Sequence[ir.Node], target: Target, precision: str, sizes: Sizes) -> int:
    """Bytes read from outside plus bytes that someone outside reads; every tensor once."""
    inside = set(nodes)
    seen: set[ir.Value] = set()
    moved = 0
    for node in nodes:
        if node.op_type in VIEW_OPS:
            continue
        results = _results(node)
        written = sum(_bytes(value, node, target, precision, sizes) for value in results)
        for value in node.inputs:
            if value is None or value in seen or value.producer() in inside:
                continue
            seen.add(value)
            read = _bytes(value, node, target, precision, sizes)
            # These read only what they hand on, however large the tensor is.
            moved += min(read, written) if node.op_type in ("Slice", "Gather", "GatherElements", "GatherND") else read
        for value in results:
            if value.is_graph_output() or not value.uses() or any(use.node not in inside for use in value.uses()):
                moved += _bytes(value, node, target, precision, sizes)
    return moved


def _compute_seconds(node: ir.Node, target: Target, precision: str, sizes: Sizes) -> float:
    is_cpu = target.family == "cpu"
    plain = target.number("cpu.fp32_gflops") * 1e9 if is_cpu else target.number("gpu.fp32_tflops") * 1e12
    flops = count_flops(node, sizes)
    if node.op_type in RECURRENT_OPS:
        return flops / (plain * MATRIX_EFFICIENCY)
    if node.op_type not in MATRIX_OPS:
        return flops / (plain * PLAIN_EFFICIENCY)
    shape = matrix_shape(node, sizes)
    if flops == 0:
        return 0.0  # an empty tensor
    if shape.products > 1 and shape.n == 1 and node.op_type in ("Conv", "ConvTranspose"):
        return flops / (plain * PLAIN_EFFICIENCY)  # depthwise: no matrix product to be had
    kind = _type_of(node.outputs[0], target, precision) or "fp32"
    if is_cpu:
        rate = plain * (1 if kind == "fp32" else _cpu_int8_factor(target))
        columns = math.ceil(shape.n / CPU_COLUMN_STEP) * CPU_COLUMN_STEP
        return 2 * shape.products * shape.m * columns * shape.k / (rate * MATRIX_EFFICIENCY)
    fact = {"fp32": "gpu.fp32_tflops", "int8": "gpu.int8_tops"}.get(kind, "gpu.fp16_tflops")
    multiprocessors = int(target.number("gpu.sm_count"))
    if target.number(fact) <= 0:
        raise TargetError(
            f"{target.name} does not compute in {kind}", where=f"{node.op_type} '{node.name}'",
            got=f"{fact} = 0", source=target.fact(fact).source, do="ask for another precision",
        )
    rate = target.number(fact) * 1e12 * MATRIX_EFFICIENCY / multiprocessors
    depth = math.ceil(shape.k / K_STEP[kind]) * K_STEP[kind]
    seconds = []
    for (rows, columns), quality in GPU_TILES:
        tiles = shape.products * math.ceil(shape.m / rows) * math.ceil(shape.n / columns)
        splits = max(1, min(multiprocessors // tiles, depth // SPLIT_DEPTH))
        waves = math.ceil(tiles * splits / multiprocessors)
        seconds.append(waves * 2 * rows * columns * depth / splits / (rate * quality))
    return min(seconds)


def _cpu_int8_factor(target: Target) -> int:
    isa = target.fact("cpu.isa")
    if not isa.is_known:
        raise TargetError(
            f"{target.name}: 'cpu.isa' is unknown, so the INT8 rate is too", source=isa.source,
            do="probe the machine: `hwc targets probe`",
        )
    return CPU_DOT_PRODUCT if any(word in str(isa.value).lower() for word in ("vnni", "dotprod", "i8mm", "amx")) else 1
