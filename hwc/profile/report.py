"""A profile as people read it: trtexec's metric names and units, then layers, then what the machine was.

The names (Throughput, Latency with min, max, mean, median, percentile(90%), ...) are those of trtexec's performance
summary, so scripts that read trtexec's output read ours.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from typing import Dict, List

from hwc.artifacts import Profile

PERCENTILES = (90, 95, 99)


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
