"""The best of several builds of one engine: builders measure kernels, measurements scatter, so builds differ.

Three rules, the first that all builds can be judged by; which one it was is said, never left to be guessed:

1. measured latency: the median of runs of each engine on this machine's GPU
2. the builder's own tactic times: the sum, over the engine's layers, of the time that the builder measured for the
   tactic it chose; layers without one count nothing, so builds are compared only if equally many layers have one
3. fewest kernels, then least activation memory, then smallest plan: no measurement at all, so the word is `likely`

The spread is (largest - smallest) / smallest of the figure that ranked.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

from hwc.engines.tensorrt_read_back import ReadBack

MEASURED, TACTICS, SIZES = "measured latency", "the builder's own tactic times", "kernels, activations and plan size"


def choose_best(builds: Sequence[ReadBack]) -> Tuple[int, Tuple[str, ...]]:
    """The index of the best build, and notes with rule, figures and spread; the first of equals."""
    rule, figures, texts = _figures(builds)
    best = min(range(len(builds)), key=lambda index: (figures[index], index))
    low, high = min(figures), max(figures)
    # By the last rule the figures are three each; only what differs first can be told as a spread.
    spread = [f"{(b - a) / a:.1%}" for a, b in zip(low, high) if a and a != b][:1] or ["none"]
    notes = [
        f"{len(builds)} builds, number {best + 1} kept, ranked by {rule}: {'; '.join(texts)}; spread {spread[0]}",
    ]
    if rule == SIZES:
        notes.append("no build was measured, so the kept one is likely the best and no more")
    return best, tuple(notes)


def _figures(builds: Sequence[ReadBack]) -> Tuple[str, List[Tuple[float, ...]], List[str]]:
    latencies = [build.latency_ms for build in builds if build.latency_ms is not None]
    if len(latencies) == len(builds):
        return MEASURED, [(value,) for value in latencies], [f"{value:.4g} ms" for value in latencies]
    timed = {count for _, count in (build.tactics for build in builds)}
    if len(timed) == 1 and timed != {0}:
        sums = [build.tactics[0] for build in builds]
        return f"{TACTICS} ({timed.pop()} layers)", [(value,) for value in sums], [f"{value:.4g} ms" for value in sums]
    figures: List[Tuple[float, ...]] = [
        (float(len(build.kernels)), float(build.activation_bytes or 0), float(build.size_bytes)) for build in builds
    ]
    texts = [f"{kernels:.0f} kernels, {acts / 1e6:.2f} MB, plan {size / 1e6:.2f} MB" for kernels, acts, size in figures]
    return SIZES, figures, texts
