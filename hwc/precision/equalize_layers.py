"""Cross-layer equalisation: scales channels so that one range fits them all; the function of the network stays.

For each class of tensors that `find_channel_classes` finds, with r_c the largest |x| that integers have to hold in
channel c and w_c the largest |weight| that reads it:

    s_c = w_c^(1-a) / r_c^a, divided by its geometric mean        producers: W[c] s_c, b[c] s_c;   consumers: W[:, c] /
    s_c

a = 1 makes all ranges equal and puts the whole difference into the consumers' weights; a = 0.5 shares it. A depthwise
consumer has a scale per channel, so nothing is lost there and a = 1 is right. Behind a Clip from 0 to m the factor is
(m / r_c)^a, between 1 and m / r_c with a reserve: never below 1, where the Clip would bite too early.

Which a, and whether Clips take part, is not guessed: `candidates` are tried and measured by a plan made of each on
samples held out. Source: DFQ (arXiv:1906.04721); the exponent as in SmoothQuant, Xiao et al. 2022 (arXiv:2211.10438).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from hwc.graph.match import attribute
from hwc.graph.model import constant_array
from hwc.precision.channel_classes import ChannelClass, find_channel_classes, is_depthwise
from hwc.precision.differentiate import TorchGraph
from hwc.precision.fake_quantize import Sample, split_samples
from hwc.precision.measure_plan import Progress, plan_sqnr_db, teach, to_torch, with_constants
from hwc.precision.plan import QuantPlan

CANDIDATES = ((0.5, False), (0.5, True))
_RESERVE = 1.1  # a channel behind a Clip may grow to this many times what was seen before it saturates
_WIDEST = 32.0  # no channel is scaled further than this from the mean


def equalize_layers(
    model: ir.Model, samples: Sequence[Sample], make_plan: Callable[[ir.Model], QuantPlan], *,
    candidates: Sequence[tuple[float, bool]] = CANDIDATES, most: int = 32,
    progress: Progress = lambda what, fraction: None,
) -> tuple[ir.Model, dict[str, float]]:  # fmt: skip
    """The model with scaled weights, or `model` itself if no candidate is better.

    Args:
        model: FP32, with names and shapes.
        samples: feeds; every eighth is held out for the choice, of the others `most` give the ranges.
        make_plan: statistics, scales and integers for a graph of the same structure; called once per candidate and once
            for the model as it is.
        candidates: (exponent a, whether classes with a Clip take part).

    Returns:
        The model and effects: SQNR before and after in dB, classes scaled, exponent and clips of the winner.

    Raises:
        TargetError: an operator has no torch form.
    """
    taught, held = split_samples(samples)
    judged = [samples[i] for i in held] or list(samples)
    expected = teach(model, judged)
    plan = make_plan(model)
    looked = [samples[i] for i in taught[:most]] or list(samples)
    ranges = channel_ranges(model, [point.tensor for point in plan.points], looked)
    before = plan_sqnr_db(plan, judged, expected)
    best, kept = before, model
    effects = {"equalize_layers.sqnr_db.before": before, "equalize_layers.kept": 0.0}
    for index, (exponent, clips) in enumerate(candidates):
        progress("equalize layers", index / len(candidates))
        changed, count = scale_channels(model, ranges, exponent=exponent, clips=clips)
        found = plan_sqnr_db(make_plan(changed), judged, expected) if count else before
        effects[f"equalize_layers.sqnr_db.{exponent:g}{' with clips' if clips else ''}"] = found
        if found > best:
            best, kept = found, changed
            effects.update({
                "equalize_layers.kept": 1.0, "equalize_layers.exponent": exponent,
                "equalize_layers.clips": float(clips), "equalize_layers.classes": float(count),
            })  # fmt: skip
    return kept, {**effects, "equalize_layers.sqnr_db.after": best}


def scale_channels(
    model: ir.Model, ranges: Mapping[str, np.ndarray], *, exponent: float, clips: bool
) -> tuple[ir.Model, int]:
    """A clone with equalised channels and how many classes were scaled.

    Args:
        ranges: largest |x| per channel of the tensors that become integers, by name.
    """
    arrays: dict[str, np.ndarray] = {}
    count = 0
    for found in find_channel_classes(model, clips=clips):
        seen = [ranges[name] for name in found.tensors if name in ranges]
        factors = channel_factors(found, np.max(seen, axis=0), exponent) if seen else None
        if factors is None:
            continue
        count += 1
        for node in found.producers:
            _scale(arrays, node, factors, is_output=True)
        for node in found.consumers:
            _scale(arrays, node, 1.0 / factors, is_output=False)
    return with_constants(model, arrays), count


def channel_factors(found: ChannelClass, seen: np.ndarray, exponent: float) -> np.ndarray | None:
    """float64 factors of one class, all positive; None where there is nothing to gain."""
    alive = seen > 0
    if not alive.any():
        return None
    depthwise = all(is_depthwise(node) for node in found.consumers)
    power = 1.0 if depthwise else exponent
    if np.isfinite(found.ceiling):
        room = np.where(alive, found.ceiling / np.where(alive, seen * _RESERVE, 1.0), 1.0)
        return np.clip(room**power, 1.0, np.clip(room, 1.0, _WIDEST))
    weights = np.ones(len(seen)) if depthwise else np.max([_read_sizes(node) for node in found.consumers], axis=0)
    usable = alive & (weights > 0)
    if not usable.any():
        return None
    logs = np.where(usable, (1 - power) * np.log(np.where(usable, weights, 1.0))
                    - power * np.log(np.where(usable, seen, 1.0)), 0.0)  # fmt: skip
    logs = np.where(usable, logs - logs[usable].mean(), 0.0)
    return np.exp(np.clip(logs, -np.log(_WIDEST), np.log(_WIDEST)))


def _axes(node: ir.Node) -> tuple[int, int]:
    """(axis of output channels, axis of input channels) of the weight."""
    if node.op_type == "ConvTranspose" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        return 1, 0
    return 0, 1


def _read_sizes(node: ir.Node) -> np.ndarray:
    """Largest |weight| that reads each input channel; of a depthwise layer its channel's own."""
    array = constant_array(node.inputs[1])
    assert array is not None
    axis = 0 if is_depthwise(node) else _axes(node)[1]
    return np.abs(array).max(axis=tuple(i for i in range(array.ndim) if i != axis))


def _scale(arrays: dict[str, np.ndarray], node: ir.Node, factors: np.ndarray, *, is_output: bool) -> None:
    weight = node.inputs[1]
    assert weight is not None
    array = arrays.get(str(weight.name))
    if array is None:
        array = np.asarray(constant_array(weight), np.float64)
    axis = 0 if is_depthwise(node) else _axes(node)[0 if is_output else 1]
    arrays[str(weight.name)] = array * factors.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if is_output and bias is not None:
        old = arrays.get(str(bias.name))
        arrays[str(bias.name)] = (np.asarray(constant_array(bias), np.float64) if old is None else old) * factors


def channel_ranges(model: ir.Model, tensors: Sequence[str], samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Largest |x| per channel (axis 1) of those of `tensors` that a layer of the graph makes, over the samples."""
    import torch

    graph = TorchGraph(model)
    made = {str(v.name) for node in model.graph for v in node.outputs if v.shape is not None and len(v.shape) > 1}
    names = tuple(name for name in tensors if name in made)
    ranges: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for sample in samples if names else ():
            for name, value in graph.run(to_torch(sample), names).items():
                top = value.abs().amax(tuple(i for i in range(value.dim()) if i != 1)).numpy()
                ranges[name] = np.maximum(ranges.get(name, 0.0), top)
    return ranges
