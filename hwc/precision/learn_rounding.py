"""Learns the rounding of every weight from the samples, layer by layer, each under the noise of those before it.

A frontier of values is carried through the graph twice, in FP32 and in INT8, fusion group by fusion group. At a layer
y = W x + b that sees x~ where the FP32 graph has x, with H = mean of (x~ - mean)(x~ - mean)^T:

    Q  = round_rows(W / s) under H               second-order rounding, see second_order
    b' = b + W mean(x) - s Q mean(x~)            so that the mean of y stays

Off-diagonal entries of H shrink by n / (n + columns / 2) where it rests on n windows. Both limits were measured:
without them, and with a W refitted to x~ first (as AdaRound's asymmetric target does), layers with more columns than
windows are learned by heart, which cost EfficientNet-Lite0 up to 2 dB on samples not seen.

Where the scale is free (pairs are limited, so no engine derives it from a maximum) each row also tries finer steps and
keeps the one with the least error: clipping a few weights may cost less than a coarse step for all.

Time and memory are bounded: at most `most` samples, fewer if the frontier would not fit in `memory_bytes`; a sample of
windows per layer. Layers without rows (ConvTranspose, a weight with several readers) keep their rounding and are
counted. It takes seconds to a minute, where gradient steps of AdaRound (Nagel et al. 2020, arXiv:2004.10568) take many.
Sources: see second_order.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from hwc.artifacts import FusionGroup
from hwc.graph.model import constant_array
from hwc.precision.differentiate import Tensor, TorchGraph
from hwc.precision.fake_quantize import PlanGraph, Sample, anchors, pair_positions, split_samples
from hwc.precision.layer_inputs import has_rows, input_rows, partner_columns, weight_from_rows, weight_rows
from hwc.precision.measure_plan import Progress, keep_if_better, teach, to_torch, with_constants
from hwc.precision.plan import QuantPlan, QuantWeight
from hwc.precision.quantize_weights import spread
from hwc.precision.second_order import factor, round_rows, row_errors

_DAMPING = 0.01
_SHRINK = 0.5  # with as many windows as columns, correlations between inputs are believed by two thirds
_FINER = (1.0, 0.92, 0.85, 0.78, 0.7, 0.62)  # steps tried, as shares of the scale that clips nothing
_WINDOWS = 6  # windows per column of the weight, and a few thousand more


@dataclass
class _Frontier:
    """Values that later groups still read, per sample: FP32 and INT8."""

    exact: list[dict[str, Tensor]]
    noisy: list[dict[str, Tensor]]


@dataclass
class _Learned:
    weights: dict[str, QuantWeight]
    biases: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: int = 0


def learn_rounding(
    plan: QuantPlan, samples: Sequence[Sample], *, teacher: ir.Model | None = None, most: int = 64,
    memory_bytes: int = 1 << 30, seed: int = 0, progress: Progress = lambda what, fraction: None,
) -> tuple[QuantPlan, dict[str, float]]:  # fmt: skip
    """The plan with learned integers, scales of weights (where free) and biases.

    Args:
        samples: feeds; every eighth is held out and decides whether the result is kept.
        teacher: the FP32 graph with the plan's value names; the plan's own by default.

    Returns:
        The plan (unchanged if it would get worse) and effects: SQNR before and after in dB, layers learned and skipped.

    Raises:
        TargetError: an operator has no torch form.
    """
    import torch

    teacher = teacher if teacher is not None else plan.model
    taught, held = split_samples(samples)
    student, exact = PlanGraph(plan), TorchGraph(teacher)
    learned = _Learned(dict(plan.weights))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        count = _affordable(exact, plan.groups, samples[0], memory_bytes, most)
        chosen = [to_torch(samples[i]) for i in taught[:count]] or [to_torch(samples[0])]
        frontier = _Frontier([dict(s) for s in chosen], [dict(s) for s in chosen])
        for index, group in enumerate(plan.groups):
            progress("learn rounding", index / len(plan.groups))
            for name, node in _weights_of(group, student):
                _learn_layer(name, node, plan, student, exact, frontier, learned, generator)
            _advance(index, plan.groups, exact, student, frontier, learned)
    after = plan.replace(weights=learned.weights, model=with_constants(plan.model, learned.biases))
    effects = {
        "learn_rounding.layers": float(len(student.readers) - learned.skipped),
        "learn_rounding.skipped": float(learned.skipped),
        "learn_rounding.samples": float(len(chosen)),
    }
    judged = [samples[i] for i in held] or list(samples)
    return keep_if_better("learn_rounding", plan, after, judged, teach(teacher, judged), effects)


def _weights_of(group: FusionGroup, student: PlanGraph) -> list[tuple[str, ir.Node]]:
    """(weight, first reader) of the group's integer weights, in graph order."""
    return [(name, nodes[0]) for name, nodes in student.readers.items() if nodes[0].name in group.nodes]


def _advance(
    index: int, groups: Sequence[FusionGroup], exact: TorchGraph, student: PlanGraph, frontier: _Frontier,
    learned: _Learned,
) -> None:  # fmt: skip
    """Runs one group on all samples and drops what nobody reads any more."""
    group = groups[index]
    needed = {name for later in groups[index + 1 :] for name in later.inputs}
    wanted = tuple(name for name in group.outputs if name in needed)
    constants, reads = _constants(group, student, learned), student.reads()
    for values, graph, noisy in ((frontier.exact, exact, False), (frontier.noisy, student.graph, True)):
        for value in values:
            if wanted:
                given = {n: value[n] for n in group.inputs}
                run = functools.partial(graph.run, constants=constants, reads=reads) if noisy else graph.run
                value.update(run(given, wanted))
            for name in value.keys() - needed:
                del value[name]


def _constants(group: FusionGroup, student: PlanGraph, learned: _Learned) -> dict[str, Tensor]:
    import torch

    weights = {n: learned.weights[n].dequantize() for n, _ in _weights_of(group, student)}
    return {n: torch.from_numpy(np.asarray(a, np.float32)) for n, a in {**weights, **learned.biases}.items()}


def _learn_layer(
    name: str, node: ir.Node, plan: QuantPlan, student: PlanGraph, exact: TorchGraph, frontier: _Frontier,
    learned: _Learned, generator: object,
) -> None:  # fmt: skip
    import torch

    array, old = constant_array(node.inputs[1]), learned.weights[name]
    assert array is not None
    if len(student.readers[name]) > 1 or not has_rows(node) or (old.axis is None):
        learned.skipped += 1
        return
    rows = torch.from_numpy(np.ascontiguousarray(weight_rows(array.astype(np.float64), node)))
    hessian, mean, noisy_mean, seen = _moments(node, array.shape, student, exact, frontier, generator)
    bias = _own_bias(node)
    if bias is None:  # nothing takes up a shift of the mean, so it counts as an error
        hessian = hessian + noisy_mean.unsqueeze(2) * noisy_mean.unsqueeze(1)
    hessian = _shrunk(hessian, seen)
    upper = factor(hessian, _DAMPING)
    scale = _rows_like(spread(old.scale.astype(np.float64), old.axis, array.ndim), node, array.shape)
    pairs = pair_positions([node], array.shape, plan.rules)
    partner = torch.from_numpy(partner_columns(node, array.shape, pairs)) if pairs is not None else None
    fixed = torch.from_numpy(np.ascontiguousarray(weight_rows(anchors(old, plan.rules), node)))
    # The integers that the plan has are a candidate too: the order of columns may be an unlucky one.
    q = torch.from_numpy(np.ascontiguousarray(weight_rows(old.integers.astype(np.float64), node)))
    best = (row_errors(q * scale - rows, hessian), q, scale[:, :, :1])
    for finer in _FINER if plan.rules.pair_limit is not None else (1.0,):
        step = scale * finer
        q = round_rows(rows / step, upper, largest=plan.rules.weight_max, fixed=fixed, partner=partner,
                       limit=plan.rules.pair_limit)  # fmt: skip
        error = row_errors(q * step - rows, hessian)
        better = error < best[0]
        best = (torch.where(better, error, best[0]), torch.where(better.unsqueeze(2), q, best[1]),
                torch.where(better.unsqueeze(2), step[:, :, :1], best[2]))  # fmt: skip
    _, q, step = best
    integers = weight_from_rows(q.numpy(), node, array.shape).astype(np.int8)
    scales = step.reshape(-1).numpy().astype(np.float32)
    learned.weights[name] = QuantWeight(np.ascontiguousarray(integers), scales, old.axis)
    if bias is not None:
        shift = (rows * mean.unsqueeze(1)).sum(2) - (q * step * noisy_mean.unsqueeze(1)).sum(2)
        before = constant_array(bias)
        assert before is not None
        learned.biases[str(bias.name)] = (before + shift.reshape(-1).numpy()).astype(np.float32)


def _rows_like(spread_scale: np.ndarray, node: ir.Node, shape: tuple[int, ...]) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(weight_rows(np.broadcast_to(spread_scale, shape), node)))


def _own_bias(node: ir.Node) -> ir.Value | None:
    """The node's bias if it is a vector of its own that may be changed."""
    bias = node.inputs[2] if len(node.inputs) > 2 and node.op_type in ("Conv", "Gemm") else None
    if bias is None or not bias.is_initializer() or len(bias.uses()) != 1 or bias.shape is None or len(bias.shape) != 1:
        return None
    weight = node.inputs[1]
    outputs = weight_rows(np.empty(tuple(weight.shape), bool), node).shape  # type: ignore[union-attr, arg-type]
    return bias if bias.shape[0] == outputs[0] * outputs[1] else None


def _shrunk(moment: Tensor, windows: int) -> Tensor:
    """Off-diagonal entries made smaller where few windows were seen: what they say of each other is then chance."""
    import torch

    diagonal = torch.diag_embed(moment.diagonal(dim1=1, dim2=2))
    return diagonal + (moment - diagonal) * (windows / (windows + _SHRINK * moment.shape[1]))


def _moments(
    node: ir.Node, shape: tuple[int, ...], student: PlanGraph, exact: TorchGraph, frontier: _Frontier,
    generator: object,
) -> tuple[Tensor, Tensor, Tensor, int]:  # fmt: skip
    """(H, mean x, mean x~, windows), float64, by group (first axis)."""
    name, edge = str(node.inputs[0].name), (str(node.name), 0)  # type: ignore[union-attr]
    reads = student.reads()
    most, seen = 0, 0
    total: list[Tensor] = []
    for clean, noisy in zip(frontier.exact, frontier.noisy):
        x = exact.run(_given(clean, name), (name,))[name]
        y = student.graph.run(_given(noisy, name), (name,), reads=reads)[name]
        if name in reads and edge in reads[name][0]:
            y = reads[name][1](y)
        most = most or -(-(_WINDOWS * int(np.prod(shape)) // shape[0] + 2048) // len(frontier.exact))
        a, b = (t.double().transpose(0, 1) for t in input_rows(node, shape, (x, y), most, generator))
        parts = [b.transpose(1, 2) @ b, a.sum(1), b.sum(1)]
        total = [t + p for t, p in zip(total, parts)] if total else parts
        seen += a.shape[1]
    square, mean, noisy_mean = (t / seen for t in total)
    return square - noisy_mean.unsqueeze(2) * noisy_mean.unsqueeze(1), mean, noisy_mean, seen


def _given(values: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """What to feed for `name`: itself where it is at hand."""
    return {name: values[name]} if name in values else dict(values)


def _affordable(
    graph: TorchGraph, groups: Sequence[FusionGroup], sample: Sample, memory_bytes: int, most: int
) -> int:
    """How many samples the frontier may hold at its widest, FP32 and INT8 together; at least one."""
    feeds = to_torch(sample)
    values = graph.run(feeds, tuple(name for group in groups for name in group.outputs))
    size = {name: value.numel() * value.element_size() for name, value in {**feeds, **values}.items()}
    widest, live = 1, set(feeds)
    for index, group in enumerate(groups):
        live.update(group.outputs)
        widest = max(widest, 2 * sum(size[name] for name in live))
        live &= {name for later in groups[index + 1 :] for name in later.inputs}
    return max(1, min(most, memory_bytes // widest))
