"""Power and clocks of a GPU with a driver of its own, through NVML; and a check of the two against each other.

`NvmlMeter` takes the energy counter where the GPU has one (Volta and newer), because a difference of a counter misses
nothing between two readings. Otherwise it samples power: the instant field where there is one, else the mean over up to
one second, whose lag is stated as the delay of the meter.

    python -m hwc.profile.read_nvml [--seconds 10] [--hz 10] [--gpu N] [--library FILE]

prints JSON: what this GPU answers, how often its values change, what a reading costs, and for the same seconds the
difference of the counter beside the integral of the sampled power. They are two views of one sensor, so they agree
within the stated uncertainties or one of them is read wrongly; a load that changes makes the check sharper.

Limit: what NVML measures is the card (or the module) with its memory, not the computer around it. Maker's figure for
Fermi and Kepler is 5 % of the reading; none is stated for newer GPUs.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from hwc.errors import EngineError, HwcError
from hwc.profile.clock_state import Clock, Throttle
from hwc.profile.integrate_energy import difference_counter, integrate_power, longest_standstill_s
from hwc.profile.meters import Meter, MeterInfo
from hwc.profile.nvml import LIBRARY, Gpu, NotSupported, find_throttles
from hwc.profile.record_power import Recorder

COUNTER_PERIOD_S = 0.05
_OMITS = "the computer around the card: CPU, its memory, fans of the case, power supply"
# form -> (period between readings, how old a value may be), seconds
_POWER_FORMS = {"instant": (0.05, 0.1), "mean": (0.1, 1.0)}


class NvmlMeter(Meter):
    """One GPU's energy counter, or its power.

    Args:
        form: "counter", "instant" or "mean"; empty takes the first of these that the GPU has.
        gpu: an open GPU; it is closed with the meter.

    Raises:
        EngineError: the GPU has no power reading at all, or not that form.
    """

    def __init__(self, gpu: Gpu, *, form: str = "", period_s: float = 0.0) -> None:
        self.gpu = gpu
        readers: Dict[str, Callable[[], float]] = {
            "counter": gpu.energy_mj, "instant": gpu.power_instant_mw, "mean": gpu.power_mw
        }  # fmt: skip
        refusals: List[str] = []
        for name in (form,) if form else tuple(readers):
            try:
                readers[name]()
            except NotSupported as error:
                refusals.append(f"{name}: {error.got or error.what}")
                continue
            self._form, self._read = name, readers[name]
            break
        else:
            raise EngineError(
                f"{gpu.name} tells no power", got="; ".join(refusals), do="choose another meter (--power none)"
            )
        self.info = self._describe(period_s, tuple(f"not answered by this GPU: {text}" for text in refusals))

    def read(self) -> Tuple[float, ...]:
        """Joules since the driver was loaded, or watts."""
        return (self._read() / 1e3,)

    def close(self) -> None:
        self.gpu.close()

    def _describe(self, period_s: float, notes: Tuple[str, ...]) -> MeterInfo:
        is_counter = self._form == "counter"
        period, delay = (COUNTER_PERIOD_S, 0.0) if is_counter else _POWER_FORMS[self._form]
        call = {
            "counter": "nvmlDeviceGetTotalEnergyConsumption", "instant": "NVML_FI_DEV_POWER_INSTANT",
            "mean": "nvmlDeviceGetPowerUsage (a mean over 1 s on Ampere and newer, GA100 left out)",
        }[self._form]  # fmt: skip
        return MeterInfo(
            meter="nvml", device=f"{self.gpu.name} ({self.gpu.uuid})", quantity="energy_j" if is_counter else "power_w",
            rails=("GPU",), is_total=False, omits=_OMITS, period_s=period_s or period,
            period_source=f"{call} is read at this period; how often its value changes is seen in the readings",
            delay_s=delay, quantum=0.001,
            accuracy="5 % on Fermi and Kepler; not stated for newer GPUs", notes=notes,
        )  # fmt: skip


ClockReading = Tuple[Sequence[Clock], Sequence[Tuple[str, Optional[float]]], Sequence[Throttle]]


def read_gpu_clocks(gpu: Gpu) -> ClockReading:
    """What `read_clock_state` takes as `extra`: NVML tells no limits, so whether clocks are held is left open."""
    clocks = [Clock(name, mhz, None, None, None) for name, mhz in gpu.clocks_mhz().items()]
    celsius = gpu.temperature_c()
    active = find_throttles(gpu.throttle_bits())
    return clocks, [("gpu", None if celsius is None else float(celsius))], [Throttle(name, 1, False) for name in active]


def check_meter(gpu: Gpu, *, seconds: float, hz: float, margin_s: float = 1.0) -> Dict[str, Any]:
    """Counter and samples of power over the same seconds, as the docstring of the file says.

    Args:
        margin_s: readings on both sides of the window, for the brackets of a counter that lags.
    """
    report: Dict[str, Any] = {"gpu": gpu.name, "uuid": gpu.uuid, "driver": gpu.driver(), "forms": {}}
    recordings = {}
    meters = {}
    for form in ("counter", "instant", "mean"):
        try:
            meters[form] = NvmlMeter(gpu, form=form, period_s=1.0 / hz)
        except EngineError as error:
            report["forms"][form] = {"is_supported": False, "why": error.got}
    recorders = {form: Recorder(meter) for form, meter in meters.items()}
    for recorder in recorders.values():
        recorder.__enter__()
    start = time.perf_counter() + margin_s
    clocks_before = gpu.clocks_mhz()
    time.sleep(seconds + 2 * margin_s)
    end = start + seconds
    for form, recorder in recorders.items():
        recordings[form] = recorder.stop()
    for form, recording in recordings.items():
        values = [row[0] for row in recording.values]
        entry: Dict[str, Any] = {"is_supported": True, "readings": len(values), "call_ms": _call_ms(meters[form])}
        if form == "counter":
            energy = difference_counter(recording.times_s, values, start, end, quantum_j=1e-3)
            entry["longest_standstill_s"] = longest_standstill_s(recording.times_s, values)
        else:
            energy = integrate_power(
                recording.times_s, values, start, end, quantum_w=1e-3, delay_s=meters[form].info.delay_s
            )
            entry["changes_per_second"] = sum(a != b for a, b in zip(values, values[1:])) / (seconds + 2 * margin_s)
        entry.update(
            energy_j=energy.energy_j, power_w=energy.power_w, uncertainty_j=energy.uncertainty_j,
            samples=energy.samples, rate_hz=energy.rate_hz,
        )  # fmt: skip
        report["forms"][form] = entry
    _compare_forms(report, start, end)
    report["clocks_mhz"] = {"before": clocks_before, "after": gpu.clocks_mhz()}
    report["temperature_c"], report["throttled"] = gpu.temperature_c(), list(find_throttles(gpu.throttle_bits()))
    return report


def _compare_forms(report: Dict[str, Any], start: float, end: float) -> None:
    counter, power = report["forms"].get("counter", {}), report["forms"].get("instant", {})
    if not power.get("is_supported"):
        power = report["forms"].get("mean", {})
    report["seconds"] = end - start
    if not counter.get("is_supported") or not power.get("is_supported"):
        report["agree"] = None
        return
    difference = power["energy_j"] - counter["energy_j"]
    allowed = power["uncertainty_j"] + counter["uncertainty_j"]
    report["difference_j"], report["allowed_j"] = difference, allowed
    report["difference_percent"] = 100.0 * difference / counter["energy_j"] if counter["energy_j"] else None
    report["agree"] = abs(difference) <= allowed


def _call_ms(meter: NvmlMeter) -> float:
    spent = []
    for _ in range(5):
        before = time.perf_counter()
        meter.read()
        spent.append(time.perf_counter() - before)
    return round(1e3 * sorted(spent)[2], 4)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command of the docstring; exit codes as everywhere, and 1 if the two views do not agree."""
    parser = argparse.ArgumentParser(prog="python -m hwc.profile.read_nvml", description="check power by NVML")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--gpu", type=int, default=None)
    parser.add_argument("--library", default=LIBRARY)
    options = parser.parse_args(arguments)
    if not options.seconds > 0 or not options.hz > 0:
        parser.error("--seconds and --hz must be over 0")
    try:
        with Gpu(options.gpu, library=options.library) as gpu:
            report = check_meter(gpu, seconds=options.seconds, hz=options.hz)
    except HwcError as error:
        sys.stdout.write(json.dumps(error.to_dict(), indent=1) + "\n")
        return error.exit_code
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 1 if report["agree"] is False else 0


if __name__ == "__main__":
    sys.exit(main())
