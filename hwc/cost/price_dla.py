"""Seconds of a loadable on one DLA core: four constants, fitted to published INT8 figures of Orin's DLA.

    group     = sqrt(compute^2 + memory^2) + layer
    loadable  = sum over groups + start

* compute: operations over the peak of one core at its clock, times `efficiency`;
* memory: bytes over the border, over the board's bandwidth times `memory` (the DLA's own port is narrower than DRAM);
* `layer`: programming the core's engines for one group; `start`: handing a loadable over, once.

The peak comes from the fact `dla.int8_tops`. FP16 needs `dla.fp16_tflops`, which no source gives, so it is refused.
DLA 1.0 (Xavier) has no published latency of its own in the table: its figures use the constants of DLA 2.0 with the
facts of 1.0, for ranking cuts alone, and get no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hwc.artifacts import Target
from hwc.cost.kernel_work import Work
from hwc.cost.machine import Machine
from hwc.errors import TargetError, UsageError


class DlaParameter(NamedTuple):
    """As `price_kernels.Parameter`."""

    name: str
    guess: float
    spread: float


DLA_PARAMETERS = (
    DlaParameter("efficiency", 0.6, 0.4), DlaParameter("memory", 0.3, 0.5), DlaParameter("layer_us", 5.0, 0.7),
    DlaParameter("start_us", 50.0, 0.7),
)  # fmt: skip


def dla_core_ops(target: Target, machine: Machine, precision: str) -> float:
    """Peak operations per second of one DLA core in that power mode.

    Raises:
        TargetError: no DLA, its clock or its rate is unknown.
        UsageError: a precision that no DLA computes in.
    """
    if precision not in ("int8", "fp16"):
        raise UsageError("a DLA computes in INT8 or FP16", got=precision)
    count = target.number("dla.count")
    if count == 0:
        raise TargetError(f"{target.name} has no DLA", got="dla.count = 0", source=target.fact("dla.count").source)
    rate = target.number("dla.int8_tops" if precision == "int8" else "dla.fp16_tflops") * 1e12
    top = target.number("dla.clock_max_mhz") * 1e6
    if machine.dla_hz is None:
        raise TargetError(f"{target.name}: power mode {machine.mode} does not say its 'dla_clock_mhz'",
                          do="estimate at another power mode")  # fmt: skip
    return rate / count * machine.dla_hz / top


def price_dla(
    kernels: Sequence[Work], core_ops: float, bytes_per_s: float, constants: Mapping[str, float], *, batch: int = 1,
    element_bytes: int = 1,
) -> np.ndarray:
    """Seconds of every kernel (as `split_work` left them) for `batch` images, without the loadable's start."""
    matrix = np.array([w.matrix_ops for w in kernels], float) * batch
    moved = np.array([(w.read + w.written) * batch + w.weights for w in kernels], float) * element_bytes
    compute = matrix / (core_ops * constants["efficiency"])
    memory = moved / (bytes_per_s * constants["memory"])
    return np.sqrt(compute**2 + memory**2) + constants["layer_us"] * 1e-6
