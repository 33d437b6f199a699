"""A profile as people read it: trtexec's metric names and units, then layers, then what the machine was.

The names (Throughput, Latency with min, max, mean, median, percentile(90%), ...) are those of trtexec's performance
summary, so scripts that read trtexec's output read ours.

Where the session times its stages, Latency is trtexec's too: copies and kernels of one run. The wall-clock time of a
run, which holds Python and waiting as well, is then Run Walltime.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np

from hwc.artifacts import Profile
from hwc.profile.measure_power import Measurement
from hwc.profile.report_power import format_power, summarize_power
from hwc.profile.stage_times import METRICS, STAGES, StageTimes, jitter_ms

PERCENTILES = (90, 95, 99)


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


def summarize(profile: Profile) -> Dict[str, object]:
    """The figures of a profile under stable keys, for `--format json`. Times in milliseconds."""
    times = profile.latency_ns
    return {
        "engine": profile.engine,
        "runs": len(times),
        "throughput_qps": profile.throughput_qps,
        "latency_ms": {
            "min": min(times) / 1e6,
            "max": max(times) / 1e6,
            "mean": profile.mean_ms,
            "median": profile.p50_ms,
            **{f"p{q}": profile.percentile_ms(q) for q in PERCENTILES},
        },
        "is_stationary": profile.is_stationary,
        "warmup_runs": len(profile.warmup_ns),
        "machine": dict(profile.machine),
    }


def format_profile(profile: Profile, *, layers: int = 0) -> str:
    """The performance summary.

    Args:
        layers: how many of the slowest layers to list; 0 for none.
    """
    times = profile.latency_ns
    tail = ", ".join(f"percentile({q}%) = {profile.percentile_ms(q):.4g} ms" for q in PERCENTILES)
    lines = [
        f"=== Performance summary: {profile.engine} ===",
        f"Throughput: {profile.throughput_qps:.4g} qps",
        f"Latency: min = {min(times) / 1e6:.4g} ms, max = {max(times) / 1e6:.4g} ms, mean = {profile.mean_ms:.4g} ms, "
        f"median = {profile.p50_ms:.4g} ms, {tail}",
        f"Total Host Walltime: {sum(times) / 1e9:.4g} s over {len(times)} runs, warm-up {len(profile.warmup_ns)} runs",
    ]
    if not profile.is_stationary:
        lines.append("WARNING: latency did not settle during warm-up; these figures are of a moving target")
    state = dict(profile.machine)
    lines.append("Machine: " + ", ".join(f"{key} {state[key]}" for key in sorted(state)))
    if layers:
        lines += _layer_lines(profile, layers)
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


def _layer_lines(profile: Profile, count: int) -> List[str]:
    timed = [kernel for kernel in profile.layers if kernel.time_us is not None]
    if not timed:
        return ["Layers: this engine does not time layers"]
    total = sum(kernel.time_us or 0.0 for kernel in timed) or 1.0
    lines = [f"Layers: {len(timed)} timed, {total / 1e3:.4g} ms together; the slowest:"]
    for kernel in sorted(timed, key=lambda k: -(k.time_us or 0.0))[:count]:
        share = 100 * (kernel.time_us or 0.0) / total
        figures = f"{kernel.time_us:9.1f} us {share:5.1f} %"
        lines.append(f"  {figures}  {kernel.kind:<16} {kernel.precision:<6} {kernel.name}")
    return lines
