"""Bias correction: adds to each bias what the mean of its layer lost to INT8.

    b' = b + mean over samples and positions of (y - y~), per output channel

y in FP32, y~ in INT8 with every earlier bias corrected already, so a shift is repaired once and where it arises. What
learned rounding does with a few dozen samples and sampled windows, this does with more samples and all positions. The
bias of a product without one is the constant that is added to its result. Source: Nagel et al., "Data-Free
Quantization", 2019 (arXiv:1906.04721), section 4.2, in its empirical form.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from hwc.graph.model import constant_array
from hwc.precision.fake_quantize import Sample, split_samples
from hwc.precision.frontier import Frontier
from hwc.precision.layer_inputs import channel_axis, own_bias
from hwc.precision.measure_plan import Progress, keep_if_better, teach
from hwc.precision.plan import QuantPlan


def correct_bias(
    plan: QuantPlan, samples: Sequence[Sample], *, teacher: ir.Model | None = None, most: int = 128,
    memory_bytes: int = 1 << 30, progress: Progress = lambda what, fraction: None,
) -> tuple[QuantPlan, dict[str, float]]:  # fmt: skip
    """The plan with corrected biases in its model.

    Args:
        samples: feeds; every eighth is held out and decides whether the result is kept.
        teacher: the FP32 graph with the plan's value names; the plan's own by default.

    Returns:
        The plan (unchanged if it would get worse) and effects: SQNR before and after in dB, biases corrected.

    Raises:
        TargetError: an operator has no torch form.
    """
    import torch

    teacher = teacher if teacher is not None else plan.model
    taught, held = split_samples(samples)
    learnable = [samples[i] for i in taught] or list(samples)
    frontier = Frontier(plan, teacher, learnable, most=most, memory_bytes=memory_bytes)
    with torch.no_grad():
        for group in frontier.walk("correct bias", progress):
            for _, node in frontier.layers(group):
                bias = own_bias(node)
                if bias is None:
                    continue
                shifts = [_mean_shift(x, y, channel_axis(node)) for x, y in frontier.outputs(node, group)]
                before = constant_array(bias)
                assert before is not None
                moved = before + np.mean(shifts, axis=0).reshape(before.shape)
                frontier.biases[str(bias.name)] = moved.astype(np.float32)
    judged = [samples[i] for i in held] or list(samples)
    effects = {"correct_bias.biases": float(len(frontier.biases)), "correct_bias.samples": float(len(frontier.exact))}
    return keep_if_better("correct_bias", plan, frontier.finish(), judged, teach(teacher, judged), effects)


def _mean_shift(exact: object, noisy: object, axis: int) -> np.ndarray:
    """Mean of exact - noisy per channel, float64."""
    difference = (exact - noisy).double()  # type: ignore[operator]
    return difference.mean([i for i in range(difference.dim()) if i != axis % difference.dim()]).numpy()
