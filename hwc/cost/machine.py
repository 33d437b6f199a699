"""A target in one power mode as a handful of rates: what the fitted estimate needs to know of the hardware.

Rates follow the clocks: rate = rate at the maximum * clock / maximum * SMs on / SMs. The number of SMs on comes from
the mode's TPC entry, two SMs a TPC: "4 TPC" counts them, "mask 240" has one bit for every TPC of the SoC's eight that
is off. Memory bandwidth = memory clock * 2 transfers * bus width; the bus is the widest power of two that fits the
bandwidth fact at the fastest memory clock of the mode table, which holds as long as some mode runs the memory at more
than half its maximum.

A mode that caps nothing (named MAXN, or of 0 watts) runs what it does not name at the maximum. Any other gap in a
mode is a TargetError that names it. CPU clocks are not part of the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwc.artifacts import PowerMode, Target
from hwc.errors import TargetError

_SOC_TPCS = 8  # of tegra234, whose masks these are
_SMS_PER_TPC = 2


@dataclass(frozen=True)
class Machine:
    """Rates in operations, bytes and cycles per second; 0 where the hardware has no such unit, None where unknown.

    `mode` is the power mode's name, or "maximum clocks".
    """

    target: str
    mode: str
    compute_capability: str
    sm_count: int
    gpu_hz: float
    fp32_ops: float
    fp16_ops: float
    int8_ops: float | None
    has_tensor_cores: bool
    bytes_per_s: float
    dla_hz: float | None
    gpu_share: float  # clock and SMs against the maximum


def machine_of(
    target: Target, power_mode: str = "", *, gpu_mhz: float | None = None, memory_mhz: float | None = None
) -> Machine:
    """The target at its maximum clocks, or in one of its power modes.

    Args:
        power_mode: a name in the target's table; "" for the maximum clocks.
        gpu_mhz, memory_mhz: clocks that take the place of the mode's.

    Raises:
        TargetError: a fact is unknown, the mode does not exist, or it does not say a clock that is needed.
    """
    if target.family != "jetson":
        raise TargetError(
            f"no estimate for {target.name}", expected="a Jetson board", got=target.family,
            do="measure it with `hwc profile`, or rank alternatives by `hwc inspect --groups`",
            source="the estimate is fitted to published figures of Jetson boards",
        )  # fmt: skip
    mode = _find_mode(target, power_mode) if power_mode else None
    top = target.number("gpu.clock_max_mhz")
    clock = gpu_mhz or (_clock(target, mode, "gpu_clock_mhz", top) if mode else top)
    sms = int(target.number("gpu.sm_count"))
    on = _sms_on(target, mode, sms) if mode else sms
    share = clock / top * on / sms
    int8 = target.number("gpu.int8_tops") * 1e12 * share if target.knows("gpu.int8_tops") else None
    has_dla = target.knows("dla.count") and target.number("dla.count") > 0
    dla_top = target.number("dla.clock_max_mhz") if has_dla and target.knows("dla.clock_max_mhz") else None
    dla = dla_top if mode is None or mode.dla_clock_mhz is None and _is_uncapped(mode) else mode.dla_clock_mhz
    return Machine(
        target=target.name,
        mode=mode.name if mode else "maximum clocks",
        compute_capability=str(target.fact("gpu.compute_capability").value),
        sm_count=on,
        gpu_hz=clock * 1e6,
        fp32_ops=target.number("gpu.fp32_tflops") * 1e12 * share,
        fp16_ops=target.number("gpu.fp16_tflops") * 1e12 * share,
        int8_ops=int8,
        has_tensor_cores=target.number("gpu.tensor_cores") > 0,
        bytes_per_s=_bandwidth(target, mode, memory_mhz),
        dla_hz=dla * 1e6 if dla is not None and has_dla else None,
        gpu_share=share,
    )


def _find_mode(target: Target, name: str) -> PowerMode:
    for mode in target.power_modes:
        if mode.name.lower() == name.lower():
            return mode
    raise TargetError(
        f"{target.name} has no power mode called '{name}'",
        expected=", ".join(mode.name for mode in target.power_modes) or "none is recorded", got=name,
        do=f"see `hwc targets show {target.name}`",
    )  # fmt: skip


def _is_uncapped(mode: PowerMode) -> bool:
    return mode.watts == 0 or mode.name.upper().startswith("MAXN")


def _clock(target: Target, mode: PowerMode, field: str, maximum: float) -> float:
    value = getattr(mode, field)
    if value is not None:
        return float(value)
    if _is_uncapped(mode):
        return maximum
    flag = {"gpu_clock_mhz": "--gpu-clock-mhz", "memory_clock_mhz": "--memory-clock-mhz"}[field]
    raise TargetError(
        f"{target.name}: power mode {mode.name} does not say its '{field}'", source=mode.source,
        do=f"read it on the board and give it with {flag}, or estimate at another mode",
    )  # fmt: skip


def _sms_on(target: Target, mode: PowerMode, sms: int) -> int:
    counted = re.fullmatch(r"(\d+) TPC", mode.tpc)
    if counted:
        return min(sms, int(counted.group(1)) * _SMS_PER_TPC)
    masked = re.match(r"mask (\d+)", mode.tpc)
    if masked:
        return min(sms, (_SOC_TPCS - bin(int(masked.group(1))).count("1")) * _SMS_PER_TPC)
    if mode.tpc:
        raise TargetError(f"{target.name}: the TPC entry of power mode {mode.name} cannot be read", got=mode.tpc,
                          source=mode.source)  # fmt: skip
    return sms


def _bandwidth(target: Target, mode: PowerMode | None, memory_mhz: float | None) -> float:
    most = target.number("memory.bandwidth_gb_s") * 1e9
    if mode is None and memory_mhz is None:
        return most
    clocks = [m.memory_clock_mhz for m in target.power_modes if m.memory_clock_mhz]
    if not clocks:
        if mode is not None and memory_mhz is None and (_is_uncapped(mode)):
            return most
        raise TargetError(f"{target.name}: no power mode says a memory clock, so bandwidth cannot follow one",
                          do="estimate at the maximum clocks")  # fmt: skip
    bits = 32
    while max(clocks) * 1e6 * 2 * (2 * bits) / 8 <= 1.01 * most:
        bits *= 2
    top = most * 8 / 2 / bits / 1e6
    clock = memory_mhz or _clock(target, mode, "memory_clock_mhz", top) if mode else memory_mhz
    assert clock is not None
    return min(most, clock * 1e6 * 2 * bits / 8)
