"""One streaming pass over calibration data: runs the graph, keeps statistics of chosen tensors, forgets the values.

The graph is run as it is written with those tensors as its outputs; what only other outputs need is cut off. Each
inference updates one fixed-size state per tensor, so memory is that of one inference whatever the number of samples.

`budget_bytes` bounds the tensors that are held at once: they are divided into chunks of at most that size and each
sample is run once per chunk. The cost is one session (weights included) per chunk and up to one whole inference per
chunk and sample; a chunk runs only what its tensors depend on.

With a checkpoint the state is written every few samples and an interrupted pass goes on from there, to the same bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from itertools import islice
from pathlib import Path

import numpy as np
import onnx_ir as ir

from hwc.calibrate.statistics_file import read_checkpoint, write_statistics
from hwc.calibrate.tensor_statistics import Accumulator, TensorStatistics
from hwc.errors import UsageError
from hwc.graph.evaluate import Evaluator
from hwc.graph.model import remove_dead
from hwc.graph.text import digest_model

Progress = Callable[[str, float], None]  # (what is being done, fraction done from 0 to 1)
_FORMAT = "hwc statistics 1"  # part of the key: a change of what is counted must not meet an old checkpoint


def _no_progress(what: str, fraction: float) -> None:
    """Shows nothing."""


def collect_statistics(
    model: ir.Model,
    tensors: Sequence[str],
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    channels: Mapping[str, int] | Collection[str] | None = None,
    budget_bytes: int | None = None,
    checkpoint: Path | None = None,
    data_digest: str = "",
    every: int = 25,
    total: int | None = None,
    progress: Progress = _no_progress,
) -> dict[str, TensorStatistics]:
    """Statistics of each of `tensors` over all of `feeds`.

    Args:
        tensors: names of values of the main graph; graph inputs and outputs may be among them, initializers not.
        feeds: one mapping input name -> array per inference; streamed.
        channels: tensors that also get sum and amax per channel: names (axis 1), or name -> axis. None: every tensor
            known to have rank 2 or more and a fixed number of channels on axis 1.
        budget_bytes: upper bound on the tensors fetched by one run; None: all in one run.
        checkpoint: .npz file to write every `every` samples and at the end, and to go on from. It is used only if it
            is intact and was made from the same graph, tensors and data; otherwise the log says why not.
        data_digest: digest of all of `feeds`, in order; needed with a checkpoint.
        total: how many feeds there are, for the progress; None: len(feeds) where it has one, else the fraction is 0.

    Raises:
        UsageError: no such tensor, no samples, an input is missing, or a value is not finite (tensor and sample named).
        EngineError: the graph cannot be run, or the checkpoint cannot be written.
    """
    axes = _channel_axes(model, tensors, channels)
    if checkpoint is not None and (not data_digest or every < 1):
        raise UsageError(
            "a checkpoint needs the digest of the data and a number of samples of at least 1",
            got=f"data_digest '{data_digest}', every {every}",
            do="give data_digest, so that a checkpoint of other data is never used",
        )
    key = _key(model, tensors, axes, data_digest) if checkpoint is not None else ""
    started = read_checkpoint(checkpoint, key) if checkpoint is not None else {}
    states = [Accumulator(name, axes.get(name), started.get(name)) for name in tensors]
    done = max((statistics.samples for statistics in started.values()), default=0)
    runs = [Evaluator(part) for part in _split(model, tensors, budget_bytes)]
    total = len(feeds) if total is None and isinstance(feeds, Sized) else total
    reader = iter(feeds)
    if sum(1 for _ in islice(reader, done)) < done:
        raise UsageError(
            "the checkpoint holds more samples than the data",
            where=str(checkpoint),
            do="remove it; equal digests must mean equal data",
        )
    for feed in reader:
        _add_sample(states, runs, feed, done)
        done += 1
        progress(f"calibrating: sample {done}" + (f" of {total}" if total else ""), done / total if total else 0.0)
        if checkpoint is not None and done % every == 0:
            write_statistics(checkpoint, {state.name: state.finish() for state in states}, key)
    if not done:
        raise UsageError("there is no calibration data", got="0 samples", do="give at least one; about 500 are usual")
    found = {state.name: state.finish() for state in states}
    if checkpoint is not None and done % every:
        write_statistics(checkpoint, found, key)
    return found


def _add_sample(
    states: Sequence[Accumulator], runs: Sequence[Evaluator], feed: Mapping[str, np.ndarray], sample: int
) -> None:
    waiting = {state.name: state for state in states}
    for name in [name for name in waiting if name in feed]:
        waiting.pop(name).add(np.asarray(feed[name]), sample)
    for run in runs:
        arrays = run.run(feed)
        for name in [name for name in waiting if name in arrays]:
            # Popped as it is read, so that this chunk's tensors are freed one by one.
            waiting.pop(name).add(np.asarray(arrays.pop(name)), sample)
    if waiting:
        raise UsageError(
            f"sample {sample} lacks an input of the graph", expected=", ".join(waiting), got=", ".join(feed)
        )


def _values(model: ir.Model) -> dict[str, ir.Value]:
    made = [value for node in model.graph for value in node.outputs]
    return {value.name: value for value in [*model.graph.inputs, *made] if value.name}


def _channel_axes(
    model: ir.Model, tensors: Sequence[str], channels: Mapping[str, int] | Collection[str] | None
) -> dict[str, int]:
    """Tensor -> axis of its channels, not negative."""
    values = _values(model)
    unknown = [name for name in [*tensors, *(channels or ())] if name not in values]
    if unknown or len(set(tensors)) != len(tensors):
        raise UsageError(
            f"'{unknown[0]}' is no computed value of the graph" if unknown else "a tensor is listed twice",
            do="take names of graph inputs or of node outputs of the main graph",
        )
    if channels is None:
        shapes = {name: values[name].shape for name in tensors}
        return {n: 1 for n, shape in shapes.items() if shape and len(shape) > 1 and isinstance(shape[1], int)}
    asked = dict(channels) if isinstance(channels, Mapping) else dict.fromkeys(channels, 1)
    return {name: _positive_axis(values[name], axis) for name, axis in asked.items()}


def _positive_axis(value: ir.Value, axis: int) -> int:
    rank = None if value.shape is None else len(value.shape)
    if (rank is None and axis < 0) or (rank is not None and not -rank <= axis < rank):
        raise UsageError(f"tensor '{value.name}' has no axis {axis}", got=f"rank {rank}")
    return axis if axis >= 0 else axis + (rank or 0)


def _split(model: ir.Model, tensors: Sequence[str], budget_bytes: int | None) -> list[ir.Model]:
    """Copies of the graph whose outputs are the tensors, each within the budget; a lone larger tensor has its own."""
    inputs = {value.name for value in model.graph.inputs}
    values = _values(model)
    chunks: list[list[str]] = []
    room = 0.0
    for name in tensors:
        if name in inputs:
            continue
        size = _bytes_of(values[name]) if budget_bytes is not None else 0.0
        if not chunks or size > room:
            chunks.append([])
            room = float(budget_bytes) if budget_bytes is not None else float("inf")
        chunks[-1].append(name)
        room -= size
    return [_with_outputs(model, chunk) for chunk in chunks]


def _bytes_of(value: ir.Value) -> float:
    """Size of one such tensor; infinite where the shape is open, which puts it into a chunk of its own."""
    if value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        return float("inf")
    return float(np.prod([int(dim) for dim in value.shape if isinstance(dim, int)], dtype=np.float64) * 4)


def _with_outputs(model: ir.Model, names: Sequence[str]) -> ir.Model:
    probe = model.clone()
    values = _values(probe)
    probe.graph.outputs.clear()
    probe.graph.outputs.extend(values[name] for name in names)
    remove_dead(probe)
    return probe


def _key(model: ir.Model, tensors: Sequence[str], axes: Mapping[str, int], data_digest: str) -> str:
    parts = [_FORMAT, digest_model(model), list(tensors), sorted(axes.items()), data_digest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
