"""Times of the stages of a run on a GPU, under trtexec's names, next to the wall-clock time of the whole run.

    Latency           H2D Latency + GPU Compute Time + D2H Latency of one run
    Enqueue Time      host time to put a run into the stream
    H2D Latency       copy of the inputs to the device
    GPU Compute Time  kernels, by events in the stream
    D2H Latency       copy of the outputs back
    Jitter            mean absolute difference of two successive latencies: a drift does not count, an unsteady run does

A session without stages (an engine on the CPU) has only the wall-clock time, which is then its latency.
Source: trtexec's explanation of its performance metrics (NVIDIA/TensorRT, samples/trtexec/README.md).

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from hwc.artifacts import Kernel
from hwc.engines.base import Session
from hwc.errors import InternalError

STAGES = ("enqueue", "h2d", "gpu", "d2h")
METRICS = (
    ("Enqueue Time", "enqueue"), ("H2D Latency", "h2d"), ("GPU Compute Time", "gpu"), ("D2H Latency", "d2h")
)  # fmt: skip


@dataclass(frozen=True)
class StageTimes:
    """Nanoseconds of each measured run, in the order taken; all four have one entry for each run."""

    enqueue_ns: Tuple[int, ...]
    h2d_ns: Tuple[int, ...]
    gpu_ns: Tuple[int, ...]
    d2h_ns: Tuple[int, ...]

    @property
    def latency_ns(self) -> Tuple[int, ...]:
        """trtexec's latency of each run."""
        return tuple(sum(parts) for parts in zip(self.h2d_ns, self.gpu_ns, self.d2h_ns))

    def of(self, stage: str) -> Tuple[int, ...]:
        """The samples of "enqueue", "h2d", "gpu" or "d2h"."""
        samples: Tuple[int, ...] = getattr(self, f"{stage}_ns")
        return samples


class TimedSession(Session):
    """A session that notes when each run began and ended, and its stages if the one inside has any."""

    def __init__(self, inner: Session) -> None:
        self._inner = inner
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.starts_s: List[float] = []
        self.ends_s: List[float] = []
        self._stages: List[Dict[str, int]] = []

    def run(self, feeds: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """As the session inside; its errors."""
        start = time.perf_counter()
        outputs = self._inner.run(feeds)
        self.ends_s.append(time.perf_counter())
        self.starts_s.append(start)
        stages = self._inner.stage_times_ns()
        if stages:
            self._stages.append(stages)
        return outputs

    def layers(self) -> Tuple[Kernel, ...]:
        return self._inner.layers()

    def last_stages(self, runs: int) -> Tuple[StageTimes, ...]:
        """Stages of the last `runs` runs as one value, or nothing if the session has no stages.

        Raises:
            InternalError: the session told its stages for some runs only.
        """
        if not self._stages:
            return ()
        rows = self._stages[-runs:]
        if len(rows) != runs or any(set(row) != set(STAGES) for row in rows):
            raise InternalError("the session told its stages for some runs only", got=f"{len(rows)} of {runs} runs")
        return (StageTimes(*(tuple(row[stage] for row in rows) for stage in STAGES)),)


def jitter_ms(samples_ns: Sequence[int]) -> float:
    """Mean absolute difference of successive samples in milliseconds; 0 for a single one."""
    steps = [abs(b - a) for a, b in zip(samples_ns, samples_ns[1:])]
    return sum(steps) / len(steps) / 1e6 if steps else 0.0
