"""A whole measurement as people and programs read it: `report` with stages, jitter and power where they were measured.

Where the session times its stages, Latency is trtexec's too: copies and kernels of one run. The wall-clock time of a
run, which holds Python and waiting as well, is then Run Walltime.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Sequence, Tuple

import numpy as np

from hwc.profile.measure_power import Measurement
from hwc.profile.report import PERCENTILES, format_profile, summarize
from hwc.profile.report_power import format_power, summarize_power
from hwc.profile.stage_times import METRICS, STAGES, StageTimes, jitter_ms


def summarize_measurement(measured: Measurement) -> Dict[str, object]:
    """`summarize` with jitter, stages and power; "power" is None where it was not measured."""
    stages, summary = measured.stages, summarize(measured.profile)
    if stages is not None:
        summary["run_walltime_ms"] = summary["latency_ms"]
        summary["latency_ms"] = _figures(stages.latency_ns)
        summary["stages_ms"] = {stage: _figures(stages.of(stage)) for stage in STAGES}
    summary["jitter_ms"] = jitter_ms(stages.latency_ns if stages else measured.profile.latency_ns)
    summary["power"] = None if measured.power is None else summarize_power(measured.power)
    return summary


def dump_measurements(measured: Sequence[Measurement]) -> Dict[str, object]:
    """Every sample of every measurement, for the file of `profile -o`."""
    return {
        "profiles": [dataclasses.asdict(one.profile) for one in measured],
        "stages": [one.stages and dataclasses.asdict(one.stages) for one in measured],
        "power": [one.power and dataclasses.asdict(one.power) for one in measured],
    }


def format_measurement(measured: Measurement, *, layers: int = 0) -> str:
    """`format_profile` with stages and power, where they were measured."""
    lines = format_profile(measured.profile, layers=layers).split("\n")
    stages = measured.stages
    if stages is not None:
        place = next(index for index, line in enumerate(lines) if line.startswith("Latency: "))
        lines[place] = lines[place].replace("Latency: ", "Run Walltime: ", 1)
        lines[place + 1 : place + 1] = [_metric_line(name, samples) for name, samples in _named_samples(stages)]
    samples = stages.latency_ns if stages else measured.profile.latency_ns
    place = next(index for index, line in enumerate(lines) if line.startswith("Total Host Walltime"))
    lines.insert(place, f"Jitter: {jitter_ms(samples):.4g} ms, mean difference of two successive latencies")
    if measured.power is not None:
        lines.append(format_power(measured.power))
    return "\n".join(lines)


def _named_samples(stages: StageTimes) -> List[Tuple[str, Tuple[int, ...]]]:
    return [("Latency", stages.latency_ns), *((name, stages.of(stage)) for name, stage in METRICS)]


def _figures(samples_ns: Sequence[int]) -> Dict[str, float]:
    values = np.asarray(samples_ns, dtype=np.float64) / 1e6
    return {
        "min": float(values.min()), "max": float(values.max()), "mean": float(values.mean()),
        "median": float(np.median(values)), **{f"p{q}": float(np.percentile(values, q)) for q in PERCENTILES},
    }  # fmt: skip


def _metric_line(name: str, samples_ns: Sequence[int]) -> str:
    figures = _figures(samples_ns)
    shown = ", ".join(f"{key} = {figures[key]:.4g} ms" for key in ("min", "max", "mean", "median"))
    return f"{name}: {shown}, " + ", ".join(f"percentile({q}%) = {figures[f'p{q}']:.4g} ms" for q in PERCENTILES)
