"""What an inference is estimated to take on a Jetson, per fusion group, on GPU or DLA, with an interval.

The numbers are those of `price_kernels` (GPU) and `price_dla` (DLA) with the constants of `fitted.json`. They are the
device's own time at batch 1, as trtexec's "GPU Compute Time": copies to and from the host, decoding, non-maximum
suppression and a Python caller come on top.

`seconds_of_groups` is the narrow door for planners and forecasts: seconds per group, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hwc.artifacts import FusionGroup, Target
from hwc.cost.fitted import load_fitted
from hwc.cost.kernel_work import Work, list_work, split_work
from hwc.cost.machine import Machine, machine_of
from hwc.cost.price_dla import dla_core_ops, price_dla
from hwc.cost.price_kernels import KernelSeconds, make_table, price
from hwc.errors import TargetError, UsageError

DLA_PUBLISHED = "2.0"  # the generation whose figures `price_dla` is fitted to
_DLA_BYTES = {"int8": 1, "fp16": 2}


@dataclass(frozen=True)
class GroupTime:
    """One fusion group: estimated seconds, what most of them go into, and how many kernels it becomes."""

    group: str
    kind: str
    seconds: float
    bound: str  # "compute", "memory" or "launch"
    kernels: float


@dataclass(frozen=True)
class LatencyEstimate:
    """Estimated seconds of one inference; four in five published figures lay between `low` and `high`.

    Args:
        engine: "gpu" or "dla" (one core).
        basis: "board", "architecture" or "none": what the fit knew of the board; "networks" for a DLA.
        start_s: the part that belongs to no group.
    """

    engine: str
    precision: str
    seconds: float
    low: float
    high: float
    basis: str
    start_s: float
    groups: tuple[GroupTime, ...]


def estimate_gpu(
    model: ir.Model, groups: Sequence[FusionGroup], machine: Machine, precision: str, *,
    sizes: Mapping[str, int] | None = None,
) -> tuple[LatencyEstimate, KernelSeconds]:  # fmt: skip
    """The GPU alone, and the seconds of its kernels, which power needs.

    Raises:
        TargetError: a fact is unknown.
        UsageError: a shape is unknown, a node runs a body, or no such precision.
    """
    fitted = load_fitted()
    kernels = split_work(list_work(model, groups, sizes=sizes), precision)
    seconds = price(make_table(kernels, machine, precision), fitted.latency)
    start = fitted.latency["start_us"] * 1e-6
    total = float(seconds.total.sum()) + start
    basis, (low, high) = fitted.interval_of(machine.target, machine.compute_capability)
    parts = np.stack([seconds.compute, seconds.memory, seconds.overhead])
    times = _by_group(groups, kernels, seconds.total, parts)
    return LatencyEstimate("gpu", precision, total, total * low, total * high, basis, start, times), seconds


def estimate_dla(
    model: ir.Model, groups: Sequence[FusionGroup], target: Target, machine: Machine, precision: str, *,
    sizes: Mapping[str, int] | None = None,
) -> LatencyEstimate:  # fmt: skip
    """One DLA core, as if every group could run there; which can is the DLA rules' to say.

    Raises:
        TargetError: no DLA, an unknown fact, or a generation without published figures.
        UsageError: as `estimate_gpu`.
    """
    core = dla_core_ops(target, machine, precision)
    generation = str(target.fact("dla.generation").value)
    if generation != DLA_PUBLISHED:
        raise TargetError(
            f"{target.name} has DLA {generation}, and no latency of such a DLA alone is published",
            expected=f"DLA {DLA_PUBLISHED}", do="measure it on the board",
        )  # fmt: skip
    constants = load_fitted().dla
    kernels = split_work(list_work(model, groups, sizes=sizes), precision)
    seconds = _dla_seconds(kernels, core, machine, precision)
    start = constants["start_us"] * 1e-6
    total = float(seconds.sum()) + start
    return LatencyEstimate(
        "dla", precision, total, total * constants["low"], total * constants["high"], "networks", start,
        _by_group(groups, kernels, seconds, None),
    )  # fmt: skip


def seconds_of_groups(
    model: ir.Model, groups: Sequence[FusionGroup], target: Target, *, engine: str, precision: str,
    power_mode: str = "", sizes: Mapping[str, int] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Group id -> estimated seconds on "gpu" or on one core of the "dla", at batch 1; the start of an inference or of a
    loadable is not in them (`start_seconds`).

    A DLA of generation 1.0 is priced with constants of 2.0 and its own facts: good for ranking cuts, without interval.

    Raises:
        TargetError: a fact is unknown, or there is no such engine on the target.
        UsageError: no such engine or precision, a shape is unknown, or a node runs a body.
    """
    machine = machine_of(target, power_mode)
    kernels = split_work(list_work(model, groups, sizes=sizes), precision)
    if engine == "gpu":
        seconds = price(make_table(kernels, machine, precision), load_fitted().latency).total
    elif engine == "dla":
        seconds = _dla_seconds(kernels, dla_core_ops(target, machine, precision), machine, precision)
    else:
        raise UsageError("no such engine", expected="gpu or dla", got=engine)
    return {row.group: row.seconds for row in _by_group(groups, kernels, seconds, None)}


def start_seconds(engine: str) -> float:
    """What an inference on the GPU, or a loadable on a DLA, takes beside its groups; for each start."""
    fitted = load_fitted()
    return (fitted.latency if engine == "gpu" else fitted.dla)["start_us"] * 1e-6


def _dla_seconds(kernels: Sequence[Work], core_ops: float, machine: Machine, precision: str) -> np.ndarray:
    return price_dla(kernels, core_ops, machine.bytes_per_s, load_fitted().dla, element_bytes=_DLA_BYTES[precision])


def _by_group(
    groups: Sequence[FusionGroup], kernels: Sequence[Work], seconds: np.ndarray, parts: np.ndarray | None
) -> tuple[GroupTime, ...]:
    """Kernels added up per group; one that serves several groups is shared equally."""
    time = {group.id: 0.0 for group in groups}
    count = {group.id: 0.0 for group in groups}
    spent = {group.id: np.zeros(3) for group in groups}
    for index, kernel in enumerate(kernels):
        for name in kernel.groups:
            time[name] += float(seconds[index]) / len(kernel.groups)
            count[name] += 1 / len(kernel.groups)
            if parts is not None:
                spent[name] += parts[:, index]
    bounds = ("compute", "memory", "launch")
    return tuple(
        GroupTime(g.id, g.kind, time[g.id], bounds[int(spent[g.id].argmax())] if time[g.id] and parts is not None
                  else "", count[g.id])
        for g in groups
    )  # fmt: skip
