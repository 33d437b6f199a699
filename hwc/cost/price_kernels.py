"""The fitted roofline: seconds of every kernel of an engine on a machine, from few constants with a meaning.

    kernel    = scale_a * ( sqrt(compute^2 + memory^2) + overhead_a * (cycles / clock + settle) )
    inference = sum over kernels + start + client

* compute, matrix products: the best of a few output tiles T_m x T_n; ceil(tiles * splits / SMs) waves of
  2 T_m T_n K / splits operations, at peak * efficiency * (T_m T_n / 128^2)^tile. `efficiency` belongs to the unit that
  computes: CUDA cores in FP32 or FP16, tensor cores in TF32, FP16 or INT8. On CUDA cores a 3x3 of stride 1 is divided
  by `winograd`. A matrix times a vector has no tiles.
* compute, depthwise convolutions and everything else: operations over the FP32 rate times `depthwise` or `plain`.
* memory: bytes over the border, over bandwidth * `memory`. No cache: what stays in L2 is charged as DRAM.
* `cycles` and `settle`: launching a kernel and waiting for its last block, in GPU cycles and in seconds.
* `start`: once an inference. `client`: what the measuring program adds (LoadGen, Python), 0 for trtexec.
* scale_a, overhead_a: offsets of compute capability a, shrunk towards 1 by their priors, so that an architecture with
  few published rows stays near the others.

The constants are log-normal with the priors in PARAMETERS; `benchmarks/fit_roofline.py` fits them to published rows.
Every output falls when a clock, a rate or the bandwidth rises (tests/cost hold it to that).
Roofline: Williams, Waterman, Patterson, CACM 52(4), 2009. Tiles and waves are those of `roofline.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from hwc.cost.kernel_work import Work
from hwc.cost.machine import Machine
from hwc.errors import TargetError, UsageError

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
TILES = ((128, 128), (128, 64), (64, 64), (64, 32), (32, 32))
K_STEP = {"cuda_fp32": 4, "cuda_fp16": 4, "tensor_tf32": 4, "tensor_fp16": 8, "tensor_int8": 32}
SPLIT_DEPTH = 256  # no SM is given a shorter piece of K
TF32_FROM = 8  # compute capability from which FP32 products may run on tensor cores, at half the FP16 rate
KINDS = ("conv", "gemm", "depthwise", "plain", "copy")
UNITS = ("cuda_fp32", "cuda_fp16", "tensor_tf32", "tensor_fp16", "tensor_int8")
CLIENTS = ("mlperf", "torch2trt", "ultralytics", "tf_to_trt")
ARCHITECTURES = ("5.3", "6.2", "7.2", "8.7")


class Parameter(NamedTuple):
    """A constant's name, what it is guessed to be, and how far off the guess may be (standard deviation of its log)."""

    name: str
    guess: float
    spread: float


PARAMETERS = (
    Parameter("cuda_fp32", 0.6, 0.4), Parameter("cuda_fp16", 0.6, 0.4), Parameter("tensor_tf32", 0.5, 0.4),
    Parameter("tensor_fp16", 0.6, 0.4), Parameter("tensor_int8", 0.6, 0.4), Parameter("tile", 0.25, 0.7),
    Parameter("winograd", 1.5, 0.3), Parameter("depthwise", 0.3, 0.7), Parameter("plain", 0.3, 0.7),
    Parameter("memory", 0.7, 0.3), Parameter("cycles", 4000.0, 0.7), Parameter("settle_us", 1.0, 0.7),
    Parameter("start_us", 20.0, 0.7), Parameter("client_mlperf_us", 50.0, 0.7),
    Parameter("client_torch2trt_us", 250.0, 0.7), Parameter("client_ultralytics_us", 500.0, 0.7),
    Parameter("client_tf_to_trt_us", 100.0, 0.7),
    *(Parameter(f"scale_{a}", 1.0, 0.25) for a in ARCHITECTURES),
    *(Parameter(f"overhead_{a}", 1.0, 0.5) for a in ARCHITECTURES),
)  # fmt: skip


@dataclass(frozen=True)
class KernelTable:
    """Kernels as columns, each beside the rates of the machine it runs on. All arrays have one length.

    Args:
        row: which inference a kernel belongs to; ascending from 0.
        occupied: per tile size, operations that pass while the waves run, all SMs counted; (tiles, kernels).
        peak: rate of `unit` in operations per second.
        moved: bytes over the border.
        count: how many kernels are exactly like this one.
    """

    row: np.ndarray
    kind: np.ndarray
    unit: np.ndarray
    architecture: np.ndarray
    occupied: np.ndarray
    operations: np.ndarray
    is_winograd: np.ndarray
    peak: np.ndarray
    fp32_ops: np.ndarray
    moved: np.ndarray
    bytes_per_s: np.ndarray
    gpu_hz: np.ndarray
    count: np.ndarray


def unit_of(machine: Machine, precision: str) -> tuple[str, float]:
    """Which unit computes matrix products in that precision, and its peak in operations per second.

    Raises:
        UsageError: no such precision here.
        TargetError: the machine has no such unit, or its rate is unknown.
    """
    if precision not in BYTES:
        raise UsageError("no such precision here", expected=", ".join(BYTES), got=precision)
    if precision == "int8":
        if machine.int8_ops is None or machine.int8_ops <= 0 or not machine.has_tensor_cores:
            known = "unknown" if machine.int8_ops is None else "0: it has no INT8 tensor cores"
            raise TargetError(f"{machine.target}: no estimate in int8, 'gpu.int8_tops' is {known}",
                              do="ask for --precision fp16")  # fmt: skip
        return "tensor_int8", machine.int8_ops
    if precision == "fp16":
        return ("tensor_fp16" if machine.has_tensor_cores else "cuda_fp16"), machine.fp16_ops
    if machine.has_tensor_cores and int(machine.compute_capability.split(".")[0]) >= TF32_FROM:
        return "tensor_tf32", machine.fp16_ops / 2
    return "cuda_fp32", machine.fp32_ops


def make_table(kernels: Sequence[Work], machine: Machine, precision: str) -> KernelTable:
    """The kernels of one inference, as `split_work` left them, in row 0; errors as `unit_of`."""
    unit, peak = unit_of(machine, precision)
    # Integer exact below 2^53; Python's own numbers would make the fit slow.
    columns = np.array([(KINDS.index(w.kind), w.products, w.m, w.n, w.k, w.plain_ops, w.is_small_filter,
                         w.read + w.weights + w.written) for w in kernels], float).reshape(-1, 8).T  # fmt: skip
    kind, products, m, n, k, plain, small, elements = columns
    step = K_STEP[unit]
    depth = np.ceil(k / step) * step
    occupied = []
    for rows, across in TILES:
        tiles = np.maximum(products * np.ceil(m / rows) * np.ceil(n / across), 1.0)
        splits = np.maximum(1.0, np.minimum(machine.sm_count // tiles, depth // SPLIT_DEPTH))
        waves = np.ceil(tiles * splits / machine.sm_count)
        occupied.append(waves * 2 * rows * across * depth / splits * machine.sm_count)
    size = len(kernels)
    architecture = machine.compute_capability
    index = ARCHITECTURES.index(architecture) if architecture in ARCHITECTURES else -1
    return KernelTable(
        row=np.zeros(size, int), kind=kind.astype(int), unit=np.full(size, UNITS.index(unit)),
        architecture=np.full(size, index), occupied=np.array(occupied),
        operations=np.where(kind <= 2, 2 * products * m * n * k, plain),
        is_winograd=(small > 0) & unit.startswith("cuda"), peak=np.full(size, peak),
        fp32_ops=np.full(size, machine.fp32_ops), moved=elements * BYTES[precision],
        bytes_per_s=np.full(size, machine.bytes_per_s), gpu_hz=np.full(size, machine.gpu_hz),
        count=np.ones(size),
    )  # fmt: skip


def join_tables(tables: Sequence[KernelTable]) -> KernelTable:
    """One table after the other; `row` is kept as it is."""
    parts = {f.name: [getattr(table, f.name) for table in tables] for f in fields(KernelTable)}
    return KernelTable(**{name: np.concatenate(arrays, axis=-1) for name, arrays in parts.items()})


def merge_equal(table: KernelTable) -> KernelTable:
    """The same with equal kernels of a row counted instead of repeated; rows stay in order."""
    names = [f.name for f in fields(KernelTable) if f.name != "count"]
    stacked = np.concatenate([np.atleast_2d(getattr(table, name)).astype(float) for name in names])
    _, first, inverse = np.unique(stacked, axis=1, return_index=True, return_inverse=True)
    count = np.bincount(inverse.ravel(), weights=table.count)
    order = np.lexsort((first, table.row[first]))
    kept = first[order]
    return KernelTable(**{name: getattr(table, name)[..., kept] for name in names}, count=count[order])


@dataclass(frozen=True)
class KernelSeconds:
    """Per kernel, in seconds: the total, and what it is made of, the architecture's scale included."""

    total: np.ndarray
    compute: np.ndarray
    memory: np.ndarray
    overhead: np.ndarray


def price(table: KernelTable, constants: Mapping[str, float]) -> KernelSeconds:
    """Seconds of every kernel. `constants` has a value for each of PARAMETERS; formulas in the module docstring."""
    efficiency = np.array([constants[unit] for unit in UNITS])[table.unit]
    quality = np.array([(rows * across / 128**2) ** constants["tile"] for rows, across in TILES])
    rate = table.peak * efficiency
    tiled = (table.occupied / quality[:, None]).min(axis=0) / rate
    tiled = np.where(table.is_winograd, tiled / constants["winograd"], tiled)
    plain_rate = table.fp32_ops * np.where(table.kind == 2, constants["depthwise"], constants["plain"])
    compute = np.where(table.kind == 0, tiled, table.operations / np.where(table.kind == 1, rate, plain_rate))
    memory = table.moved / (table.bytes_per_s * constants["memory"])
    # Index -1, an architecture without rows, takes the 1 at the end.
    scale = np.array([*(constants[f"scale_{a}"] for a in ARCHITECTURES), 1.0])[table.architecture]
    launch = np.array([*(constants[f"overhead_{a}"] for a in ARCHITECTURES), 1.0])[table.architecture]
    overhead = launch * (constants["cycles"] / table.gpu_hz + constants["settle_us"] * 1e-6)
    total = scale * (np.sqrt(compute**2 + memory**2) + overhead)
    return KernelSeconds(total, scale * compute, scale * memory, scale * overhead)


def inference_seconds(
    table: KernelTable, constants: Mapping[str, float], clients: Sequence[str] = ("",)
) -> np.ndarray:
    """Seconds of each inference of the table, `clients` saying who measured it ("" for nobody: the device alone)."""
    kernels = price(table, constants).total * table.count
    starts = np.flatnonzero(np.diff(table.row, prepend=-1))
    fixed = [constants["start_us"] + (constants[f"client_{c}_us"] if c in CLIENTS else 0.0) for c in clients]
    return np.add.reduceat(kernels, starts) + np.array(fixed) * 1e-6


def log_slopes(table: KernelTable, constants: Mapping[str, float], clients: Sequence[str]) -> np.ndarray:
    """d log(seconds) / d log(constant), per inference and parameter: (rows, parameters), in the order of PARAMETERS."""
    parts = price(table, constants)
    body = np.maximum(np.sqrt(parts.compute**2 + parts.memory**2), 1e-30)
    by_compute, by_memory = parts.compute**2 / body, parts.memory**2 / body
    starts = np.flatnonzero(np.diff(table.row, prepend=-1))
    sizes = np.log([rows * across / 128**2 for rows, across in TILES])
    best = (table.occupied / np.exp(constants["tile"] * sizes)[:, None]).argmin(axis=0)
    tiled = table.kind == 0
    settle = constants["settle_us"] * 1e-6 / (constants["cycles"] / table.gpu_hz + constants["settle_us"] * 1e-6)
    columns = {
        **{unit: np.where((table.kind <= 1) & (table.unit == i), -by_compute, 0.0) for i, unit in enumerate(UNITS)},
        "tile": np.where(tiled, -by_compute * constants["tile"] * sizes[best], 0.0),
        "winograd": np.where(tiled & table.is_winograd, -by_compute, 0.0),
        "depthwise": np.where(table.kind == 2, -by_compute, 0.0),
        "plain": np.where(table.kind >= 3, -by_compute, 0.0), "memory": -by_memory,
        "cycles": parts.overhead * (1 - settle), "settle_us": parts.overhead * settle,
        **{f"scale_{a}": np.where(table.architecture == i, parts.total, 0.0) for i, a in enumerate(ARCHITECTURES)},
        **{f"overhead_{a}": np.where(table.architecture == i, parts.overhead, 0.0)
           for i, a in enumerate(ARCHITECTURES)},
    }  # fmt: skip
    whole = {"start_us": np.full(len(starts), constants["start_us"] * 1e-6)}
    for client in CLIENTS:
        name = f"client_{client}_us"
        whole[name] = np.array([constants[name] * 1e-6 if c == client else 0.0 for c in clients])
    whole |= {name: np.add.reduceat(column * table.count, starts) for name, column in columns.items()}
    slopes = [whole[p.name] for p in PARAMETERS]
    return np.stack(slopes, axis=1) / inference_seconds(table, constants, clients)[:, None]


def guesses() -> dict[str, float]:
    """Every constant at its prior guess."""
    return {p.name: p.guess for p in PARAMETERS}


def log_vector(constants: Mapping[str, float]) -> np.ndarray:
    """The constants as logarithms, in the order of PARAMETERS."""
    return np.array([math.log(constants[p.name]) for p in PARAMETERS])


def from_log_vector(vector: np.ndarray) -> dict[str, float]:
    """The inverse of `log_vector`."""
    return {p.name: float(value) for p, value in zip(PARAMETERS, np.exp(vector))}
