"""Learns all roundings, biases and activation scales of a plan together, from the FP32 network as teacher.

What `learn_rounding` does layer by layer cannot see how errors of several layers meet. Here the whole INT8 form runs on
calibration samples, and gradients reach

* each weight in units of its step (the scale stays), rounded with pairs and anchors kept,
* each bias that a quantized node owns,
* the logarithm of each activation scale, save where a bounded operator (Clip, Sigmoid, ...) says the range.

Loss, per sample and in units where 10 log10 is the SQNR that is lost:

    log(|r - q|^2 / |r|^2) over the outputs  +  the mean of the same over a few inner tensors

so samples and tensors of any size count alike, and a small loss at the outputs cannot be bought by inner tensors that
no longer mean what the teacher's do (300 samples would be learned by heart). Straight-through gradients, cosine decay;
Adam for biases and scales. A weight tensor's gradient is divided by its RMS, not by one of each element: only elements
with a steady gradient that stands out get far enough to round differently, where Adam would move all of them alike.
Every eighth sample is held out: it picks the best state on the way, and whether anything is kept.

The run is bounded in seconds: the number of steps is what fits, measured on the first ones, or `steps` where the result
must be the same on every machine. With a checkpoint an interrupted run goes on. Sources: knowledge distillation of
INT8, Li et al. BRECQ 2021 (arXiv:2102.05426); the gradients are in fake_quantize.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.artifacts import TensorScale
from hwc.graph.text import digest_model
from hwc.precision.differentiate import Tensor, TorchGraph
from hwc.precision.fake_quantize import Sample, split_samples
from hwc.precision.measure_plan import Progress, keep_if_better, teach, to_torch
from hwc.precision.plan import QuantPlan
from hwc.precision.trainable_plan import TrainablePlan

_FEATURES = 8  # inner tensors that are compared
# An element with a steady gradient of its tensor's RMS goes half of this many grid steps in the whole run; a flip takes
# half a step, so only what stands out and stays flips. Larger values were measured to lose more than they gain.
_WEIGHT_WAY = 0.35
_STEEPEST = 2.5  # gradients have long tails; more than this many RMS count as this
_OTHER_RATE = 5e-4
_CHECKS = 8  # how often the held-out samples are looked at on the way
_TRIAL = 3  # steps timed before the number of steps is fixed
_MOST = 1200


def distill_rounding(
    plan: QuantPlan, samples: Sequence[Sample], *, teacher: ir.Model | None = None, seconds: float = 300.0,
    steps: int | None = None, batch: int = 8, seed: int = 0, checkpoint: Path | None = None,
    progress: Progress = lambda what, fraction: None,
) -> tuple[QuantPlan, dict[str, float]]:  # fmt: skip
    """The plan with learned integers, biases and scales.

    Args:
        samples: feeds; every eighth is held out.
        teacher: the FP32 graph with the plan's value names; the plan's own by default.
        seconds: bound on learning, measured from the first step; checking comes on top, a few per cent.
        steps: number of updates; None takes what fits in `seconds`.
        checkpoint: file that keeps the state; one of another plan, data or setting is ignored.

    Returns:
        The plan (unchanged if it would get worse), and effects: SQNR before and after in dB, steps, seconds.

    Raises:
        TargetError: an operator has no torch form.
    """
    import torch

    teacher = teacher if teacher is not None else plan.model
    taught, held = split_samples(samples)
    judged = [samples[i] for i in held] or list(samples)
    run = _Run(plan, teacher, [to_torch(samples[i]) for i in taught or range(len(samples))], batch, seed)
    expected = teach(teacher, judged)
    key = _key(plan, teacher, samples, (steps, batch, seed))
    start, total, spent, best = run.resume(checkpoint, key)
    total = steps if steps is not None else total
    begun = time.monotonic() - spent
    step = start
    while total is None or step < total:
        if total is None and step == _TRIAL:
            each = (time.monotonic() - begun) / _TRIAL
            total = max(_TRIAL, min(_MOST, int(seconds / each)))
        if time.monotonic() - begun > seconds and step > start:
            break
        # Until the number of steps is known the rate rises anyway.
        run.step(step, total or _MOST)
        step += 1
        progress("distill rounding", step / (total or _MOST))
        if total is not None and step % max(1, total // _CHECKS) == 0:
            found = run.held_db(judged, expected)
            if found > best[0]:
                best = (found, run.state())
            if checkpoint is not None:
                run.save(checkpoint, key, (step, total, time.monotonic() - begun), best)
    found = run.held_db(judged, expected)
    if found < best[0]:
        run.restore(best[1])
    effects = {"distill_rounding.steps": float(step), "distill_rounding.seconds": time.monotonic() - begun}
    with torch.no_grad():
        after = run.student.finish()
    return keep_if_better("distill_rounding", plan, after, judged, expected, effects)


class _Run:
    """Student, teacher, optimizer and the order of the samples."""

    def __init__(
        self, plan: QuantPlan, teacher: ir.Model, feeds: list[dict[str, Tensor]], batch: int, seed: int
    ) -> None:
        import torch

        self.teacher = TorchGraph(teacher)
        self.student = TrainablePlan(plan, seed)
        self.feeds, self.seed = feeds, seed
        self.features = _pick_features(plan)
        self.batch = min(batch, len(feeds))
        with torch.no_grad():
            self.stacked = self.batch > 1 and self.teacher.can_batch(feeds)
        groups = self.student.parameters()
        weights = groups.pop("weights", [])
        self.weights = torch.optim.SGD(weights, momentum=0.9, dampening=0.9) if weights else None
        self.others = torch.optim.Adam([{"params": v} for v in groups.values()], betas=(0.9, 0.99)) if groups else None

    def step(self, index: int, total: int) -> None:
        """One update with the samples that belong to this index."""
        import torch

        feeds = [self.feeds[i] for i in _batch_at(index, self.batch, len(self.feeds), self.seed)]
        for optimizer in self._optimizers().values():
            optimizer.zero_grad()
        if self.stacked:
            feeds = [{name: torch.cat([feed[name] for feed in feeds]) for name in feeds[0]}]
        for feed in feeds:
            count = self.batch if self.stacked else 1
            wanted = (*self.teacher.outputs, *self.features)
            with torch.no_grad():
                goal = self.teacher.run(feed, wanted, batch=count)
            got = self.student.run(feed, wanted, batch=count)
            loss = self._loss(goal, got, count) / len(feeds)
            if bool(loss.isfinite()):
                loss.backward()
        self._update(0.5 * (1 + math.cos(math.pi * min(1.0, index / total))) * min(1.0, (index + 1) / 8), total)

    def _update(self, decay: float, total: int) -> None:
        rates = {"weights": _WEIGHT_WAY / total, "others": _OTHER_RATE}
        for kind, optimizer in self._optimizers().items():
            for group in optimizer.param_groups:
                group["lr"] = rates[kind] * decay
                for value in group["params"] if kind == "weights" else ():
                    if value.grad is not None:
                        value.grad /= value.grad.square().mean().sqrt() + 1e-30
                        value.grad.clamp_(-_STEEPEST, _STEEPEST)
            optimizer.step()

    def _optimizers(self) -> dict[str, Any]:
        kinds = {"weights": self.weights, "others": self.others}
        return {kind: optimizer for kind, optimizer in kinds.items() if optimizer is not None}

    def _loss(self, goal: Mapping[str, Tensor], got: Mapping[str, Tensor], count: int) -> Tensor:
        outputs = [n for n in self.teacher.outputs if goal[n].is_floating_point()]
        loss = sum(_log_noise(goal[n], got[n], count) for n in outputs) / max(1, len(outputs))
        if self.features:
            loss = loss + sum(_log_noise(goal[n], got[n], count) for n in self.features) / len(self.features)
        return loss

    def held_db(self, judged: Sequence[Sample], expected: Sequence[Mapping[str, Tensor]]) -> float:
        """Mean SQNR of the held-out samples."""
        import torch

        from hwc.precision.measure_plan import sqnr_of

        with torch.no_grad():
            runs = [self.student.run(to_torch(sample), tuple(reference)) for sample, reference in zip(judged, expected)]
        return float(np.mean([sqnr_of(reference, got) for reference, got in zip(expected, runs)]))

    def state(self) -> Any:
        return copy.deepcopy(self.student.state())

    def restore(self, state: Any) -> None:
        self.student.load(state)

    def save(self, path: Path, key: str, at: tuple[int, int, float], best: tuple[float, Any]) -> None:
        """Writes beside and renames, so that a killed run leaves the old state."""
        import torch

        partial = path.with_name(f".{path.name}.tmp")
        torch.save({"key": key, "at": at, "best": best, "state": self.student.state(),
                    "optimizers": {k: o.state_dict() for k, o in self._optimizers().items()}}, partial)  # fmt: skip
        os.replace(partial, path)

    def resume(self, path: Path | None, key: str) -> tuple[int, int | None, float, tuple[float, Any]]:
        """(next step, planned steps, seconds spent, best) of a state of the same key; a fresh start otherwise."""
        import torch

        fresh = (0, None, 0.0, (-math.inf, None))
        if path is None or not path.exists():
            return fresh
        kept = torch.load(path, weights_only=True)
        if kept["key"] != key:
            return fresh
        self.student.load(kept["state"])
        for kind, optimizer in self._optimizers().items():
            optimizer.load_state_dict(kept["optimizers"][kind])
        step, total, seconds = kept["at"]
        return step, total, seconds, kept["best"]


def _log_noise(goal: Tensor, got: Tensor, count: int) -> Tensor:
    """Mean over samples of log(noise power / signal power), which 1e-7 keeps finite."""
    goal, got = goal.reshape(count, -1), got.reshape(count, -1)
    keep = goal.isfinite()
    difference = ((goal - got) * keep).nan_to_num()
    power = (goal * keep).nan_to_num().pow(2).sum(1)
    return ((difference.pow(2).sum(1) + 1e-7 * power + 1e-20) / (power + 1e-20)).log().mean()


def _batch_at(index: int, batch: int, count: int, seed: int) -> list[int]:
    """The samples of one step: every epoch is a shuffle of its own, so that a resumed run sees what it would have."""
    wanted = range(index * batch, (index + 1) * batch)
    orders: dict[int, np.ndarray] = {}
    for position in wanted:
        epoch = position // count
        orders.setdefault(epoch, np.random.default_rng((seed, epoch)).permutation(count))
    return [int(orders[position // count][position % count]) for position in wanted]


def _pick_features(plan: QuantPlan) -> tuple[str, ...]:
    """Inner tensors to compare: computed points, signed ones first (nothing was clipped away there), spread evenly."""
    inputs = {value.name for value in plan.model.graph.inputs}
    computed = [point for point in plan.points if point.tensor not in inputs]
    names = [p.tensor for p in computed if not p.is_unsigned] or [p.tensor for p in computed]
    if len(names) <= _FEATURES:
        return tuple(names)
    return tuple(names[round(i * (len(names) - 1) / (_FEATURES - 1))] for i in range(_FEATURES))


def _key(plan: QuantPlan, teacher: ir.Model, samples: Sequence[Sample], settings: tuple[Any, ...]) -> str:
    sha = hashlib.sha256(f"{digest_model(plan.model)} {digest_model(teacher)} {settings} {plan.high}".encode())
    for name in sorted(plan.weights):
        sha.update(name.encode() + plan.weights[name].integers.tobytes() + plan.weights[name].scale.tobytes())
    scales: dict[str, TensorScale] = dict(sorted(plan.scales.items()))
    sha.update(repr(scales).encode())
    for sample in samples:
        for name in sorted(sample):
            sha.update(np.ascontiguousarray(sample[name]).tobytes())
    return sha.hexdigest()
