"""Learns the rounding of every weight from the samples, layer by layer, each under the noise of those before it.

A frontier of values is carried through the graph twice, in FP32 and in INT8, fusion group by fusion group. At a layer
y = W x + b that sees x~ where the FP32 graph has x, with H = mean of (x~ - mean)(x~ - mean)^T:

    Q  = round_rows(W / s) under H               second-order rounding, see second_order
    b' = b + W mean(x) - s Q mean(x~)            so that the mean of y stays

Off-diagonal entries of H shrink by n / (n + columns / 2) where it rests on n windows. Both limits were measured:
without them, and with a W refitted to x~ first (as AdaRound's asymmetric target does), layers with more columns than
windows are learned by heart, which cost EfficientNet-Lite0 up to 2 dB on samples not seen.

Scales of weights stay as they are: finer ones that clip a few weights brought nothing when measured.

Time and memory are bounded: at most `most` samples, fewer if the frontier would not fit in `memory_bytes`; a sample of
windows per layer. Layers without rows (ConvTranspose, a weight with several readers) keep their rounding and are
counted. It takes seconds to a minute, where gradient steps of AdaRound (Nagel et al. 2020, arXiv:2004.10568) take many.
Sources: see second_order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from hwc.graph.model import constant_array
from hwc.precision.differentiate import Tensor
from hwc.precision.fake_quantize import Sample, anchors, pair_positions, split_samples
from hwc.precision.frontier import Frontier
from hwc.precision.layer_inputs import has_rows, input_rows, own_bias, partner_columns, weight_from_rows, weight_rows
from hwc.precision.measure_plan import Progress, keep_if_better, teach
from hwc.precision.plan import QuantPlan, QuantWeight
from hwc.precision.quantize_weights import spread
from hwc.precision.second_order import factor, round_rows, row_errors

_DAMPING = 0.01
_SHRINK = 0.5  # with as many windows as columns, correlations between inputs are believed by two thirds
_WINDOWS = 6  # windows per column of the weight, and a few thousand more


def learn_rounding(
    plan: QuantPlan, samples: Sequence[Sample], *, teacher: ir.Model | None = None, most: int = 64,
    memory_bytes: int = 1 << 30, seed: int = 0, progress: Progress = lambda what, fraction: None,
) -> tuple[QuantPlan, dict[str, float]]:  # fmt: skip
    """The plan with learned integers and biases.

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
    learnable = [samples[i] for i in taught] or list(samples)
    frontier = Frontier(plan, teacher, learnable, most=most, memory_bytes=memory_bytes)
    generator = torch.Generator().manual_seed(seed)
    learned = 0
    with torch.no_grad():
        for group in frontier.walk("learn rounding", progress):
            for name, node in frontier.layers(group):
                learned += _learn_layer(name, node, frontier, generator)
    effects = {
        "learn_rounding.layers": float(learned),
        "learn_rounding.skipped": float(len(frontier.student.readers) - learned),
        "learn_rounding.samples": float(len(frontier.exact)),
    }
    judged = [samples[i] for i in held] or list(samples)
    return keep_if_better("learn_rounding", plan, frontier.finish(), judged, teach(teacher, judged), effects)


def _learn_layer(name: str, node: ir.Node, frontier: Frontier, generator: object) -> bool:
    """Gives the layer new integers; False where it has no rows to learn from."""
    import torch

    array, old, rules = constant_array(node.inputs[1]), frontier.weights[name], frontier.plan.rules
    assert array is not None
    if len(frontier.student.readers[name]) > 1 or not has_rows(node) or old.axis is None:
        return False
    rows = torch.from_numpy(np.ascontiguousarray(weight_rows(array.astype(np.float64), node)))
    hessian, mean, noisy_mean, seen = _moments(node, array.shape, frontier, generator)
    bias = own_bias(node)
    if bias is None:  # nothing takes up a shift of the mean, so it counts as an error
        hessian = hessian + noisy_mean.unsqueeze(2) * noisy_mean.unsqueeze(1)
    hessian = _shrunk(hessian, seen)
    upper = factor(hessian, _DAMPING)
    scale = _rows_like(spread(old.scale.astype(np.float64), old.axis, array.ndim), node, array.shape)
    pairs = pair_positions([node], array.shape, rules)
    partner = torch.from_numpy(partner_columns(node, array.shape, pairs)) if pairs is not None else None
    fixed = torch.from_numpy(np.ascontiguousarray(weight_rows(anchors(old, rules), node)))
    # The integers that the plan has are a candidate too: the order of columns may be an unlucky one.
    q = torch.from_numpy(np.ascontiguousarray(weight_rows(old.integers.astype(np.float64), node)))
    learned = round_rows(rows / scale, upper, largest=rules.weight_max, fixed=fixed, partner=partner,
                         limit=rules.pair_limit)  # fmt: skip
    better = row_errors(learned * scale - rows, hessian) < row_errors(q * scale - rows, hessian)
    q = torch.where(better.unsqueeze(2), learned, q)
    integers = weight_from_rows(q.numpy(), node, array.shape).astype(np.int8)
    frontier.weights[name] = QuantWeight(np.ascontiguousarray(integers), old.scale, old.axis)
    if bias is not None:
        shift = (rows * mean.unsqueeze(1)).sum(2) - (q * scale * noisy_mean.unsqueeze(1)).sum(2)
        before = frontier.teacher.constants[str(bias.name)].numpy()  # the plan's own may be corrected already
        frontier.biases[str(bias.name)] = (before + shift.reshape(before.shape).numpy()).astype(np.float32)
    return True


def _rows_like(spread_scale: np.ndarray, node: ir.Node, shape: tuple[int, ...]) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(weight_rows(np.broadcast_to(spread_scale, shape), node)))


def _shrunk(moment: Tensor, windows: int) -> Tensor:
    """Off-diagonal entries made smaller where few windows were seen: what they say of each other is then chance."""
    import torch

    diagonal = torch.diag_embed(moment.diagonal(dim1=1, dim2=2))
    return diagonal + (moment - diagonal) * (windows / (windows + _SHRINK * moment.shape[1]))


def _moments(
    node: ir.Node, shape: tuple[int, ...], frontier: Frontier, generator: object
) -> tuple[Tensor, Tensor, Tensor, int]:
    """(H, mean x, mean x~, windows), float64, by group (first axis)."""
    most = -(-(_WINDOWS * int(np.prod(shape)) // shape[0] + 2048) // len(frontier.exact))
    seen, total = 0, []  # type: ignore[var-annotated]
    for inputs in frontier.inputs(node):
        a, b = (t.double().transpose(0, 1) for t in input_rows(node, shape, inputs, most, generator))
        parts = [b.transpose(1, 2) @ b, a.sum(1), b.sum(1)]
        total = [t + p for t, p in zip(total, parts)] if total else parts
        seen += a.shape[1]
    square, mean, noisy_mean = (t / seen for t in total)
    return square - noisy_mean.unsqueeze(2) * noisy_mean.unsqueeze(1), mean, noisy_mean, seen
