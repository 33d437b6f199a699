"""Lifetimes of a pipeline: pinned staging, inputs and outputs, and each engine's scratch (its activation block).

Stage k runs at tick k on its queue ("copy", "compute", ...). With `overlap=False` one frame is finished before the next
begins, so the ticks are one clock and everything on the device is one lane:

    scratch    alive during its stage: engines whose stages never overlap share one arena
    tensor     alive from the stage that makes it to the last that reads it, that one included

With `overlap=True` the queues work on different frames at once. Scratch keeps to the lane of its queue, shared by the
engines of that queue alone. A tensor that stays on one queue is as above, in that queue's lane. One that crosses from
a queue to another exists `depth` times and all the time, in the lane "crossing": one is filled while another is read.

Staging is host memory, pinned, in the lane "host": one block per tensor that a stage of the queue "copy" reads from
outside or leaves for outside, `depth` times when overlapping. Plan it apart from the device, which is another pool:
`[b for b in buffers if b.lane == HOST]`.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from hwc.artifacts_memory import Buffer
from hwc.errors import UsageError

HOST, CROSSING, COPY = "host", "crossing", "copy"


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline.

    Args:
        reads: names of tensors; one that no earlier stage makes comes from outside, and `outside` gives its bytes.
        makes: (tensor, bytes); one that no later stage reads is a result.
        scratch_bytes: what the stage needs while it runs, as an engine's activation memory.
    """

    name: str
    queue: str
    reads: Tuple[str, ...] = ()
    makes: Tuple[Tuple[str, int], ...] = ()
    scratch_bytes: int = 0
    outside: Tuple[Tuple[str, int], ...] = ()


def stage_buffers(
    stages: Sequence[Stage], *, overlap: bool = False, depth: int = 2, alignment: int = 256
) -> Tuple[Buffer, ...]:
    """All buffers of the pipeline, staging included.

    Args:
        overlap: whether queues work on different frames at once.
        depth: copies of what crosses between queues; used with `overlap`.
        alignment: bytes; 256 is what CUDA's own allocator gives.

    Raises:
        UsageError: a name is used twice, or a stage reads what nobody makes.
    """
    made: Dict[str, int] = {}
    size: Dict[str, int] = {}
    last: Dict[str, int] = {}
    buffers: List[Buffer] = []
    copies = depth if overlap else 1
    for tick, stage in enumerate(stages):
        outside = dict(stage.outside)
        for name in stage.reads:
            if name not in made and name not in outside:
                raise UsageError(f"stage '{stage.name}' reads '{name}', which no earlier stage makes",
                                 do="order the stages, or give the bytes of what comes from outside")  # fmt: skip
            last[name] = tick
        for name, size_bytes in stage.makes:
            if name in made:
                raise UsageError(f"two stages make '{name}'", where=f"stage '{stage.name}'")
            made[name], size[name], last[name] = tick, size_bytes, tick
        if stage.scratch_bytes:
            lane = stage.queue if overlap else ""
            buffers.append(Buffer(f"{stage.name}/scratch", stage.scratch_bytes, tick, tick + 1, lane, alignment))
        if stage.queue == COPY:
            results = [(name, size_bytes) for name, size_bytes in stage.makes if not _is_read(name, tick, stages)]
            for name, size_bytes in (*outside.items(), *results):
                # Another frame's copy may still be under way, so overlapping staging never shares.
                start, end = (0, len(stages)) if overlap else (tick, tick + 1)
                buffers += _copies(f"{name}/staging", size_bytes, start, end, HOST, alignment, copies)
    for name, tick in made.items():
        queues = {stages[tick].queue} | {stage.queue for stage in stages if name in stage.reads}
        is_staged = stages[tick].queue == COPY and not _is_read(name, tick, stages)
        if is_staged:
            continue  # a copy to the host leaves nothing on the device
        if overlap and len(queues) > 1:
            buffers += _copies(name, size[name], 0, len(stages), CROSSING, alignment, depth)
        else:
            lane = stages[tick].queue if overlap else ""
            buffers.append(Buffer(name, size[name], tick, last[name] + 1, lane, alignment))
    return tuple(buffers)


def _is_read(name: str, tick: int, stages: Sequence[Stage]) -> bool:
    return any(name in stage.reads for stage in stages[tick + 1:])


def _copies(name: str, size: int, start: int, end: int, lane: str, alignment: int, count: int) -> List[Buffer]:
    if count == 1:
        return [Buffer(name, size, start, end, lane, alignment)]
    return [Buffer(f"{name}#{k}", size, start, end, lane, alignment) for k in range(count)]
