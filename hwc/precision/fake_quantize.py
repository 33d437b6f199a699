"""A QuantPlan in torch: integers are rounded as in the engine, gradients pass straight through the rounding.

    activation   y = clamp(round_half_even(x / s), lowest, highest) * s      dy/dx = 1 inside the range, 0 outside
                 dy/ds by learned step size: round(x/s) - x/s inside, lowest or highest outside
    weight       v = w / s is trained; q = limit_pairs(clamp(round(v), -127, 127));  w^ = q * s,  dw^/dv = s

Sources: straight-through estimator, Bengio et al. 2013 (arXiv:1308.3432); learned step size, Esser et al. 2020
(arXiv:1902.08153). The plan's own scales are float32 and torch divides by multiplying with 1 / s, so an element that
lies on the border of two integers may fall on the other side; `simulate` and the engines judge, this file only teaches.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.artifacts import TensorScale
from hwc.precision.differentiate import Reads, Tensor, TorchGraph
from hwc.precision.find_points import drop_high
from hwc.precision.plan import QuantPlan, QuantPoint, QuantRules, QuantWeight
from hwc.precision.quantize_weights import has_pairs, pair_rows, weight_readers

Sample = Mapping[str, np.ndarray]
LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


class PlanGraph:
    """The FP32 graph of a plan in torch, and the points and weights that the plan makes integers.

    Raises:
        TargetError: an operator has no torch form (unless `allow_missing`).
    """

    def __init__(self, plan: QuantPlan, *, allow_missing: bool = False) -> None:
        self.plan = plan
        self.graph = TorchGraph(plan.model, allow_missing=allow_missing)
        self.points: tuple[QuantPoint, ...] = drop_high(plan.model, plan.points, plan.groups, plan.high)
        self.readers: dict[str, list[ir.Node]] = weight_readers(plan.model, self.points)

    def weights(self) -> dict[str, Tensor]:
        """Dequantized float32 weights by name."""
        import torch

        return {name: torch.from_numpy(self.plan.weights[name].dequantize()) for name in self.readers}

    def reads(self) -> Reads:
        """The quantizer of each point, for `TorchGraph.run`."""
        return reads_of(self.points, self.plan.scales)

    def run(self, feeds: Mapping[str, Tensor], wanted: Sequence[str] = (), *, batch: int = 1) -> dict[str, Tensor]:
        """The wanted values of the INT8 form, without gradients."""
        import torch

        with torch.no_grad():
            return self.graph.run(feeds, wanted, constants=self.weights(), reads=self.reads(), batch=batch)


def reads_of(points: Iterable[QuantPoint], scales: Mapping[str, TensorScale]) -> Reads:
    """Value name -> (its uses as integers, the quantizer), for `TorchGraph.run`."""
    return {p.tensor: (frozenset(p.readers), activation(scales[p.tensor])) for p in points}


def activation(scale: TensorScale) -> Callable[[Tensor], Tensor]:
    """Fake quantization of one tensor with a fixed scale."""
    lowest, highest = LIMITS[scale.dtype]
    return lambda x: _functions()[0].apply(x, scale.scale[0], lowest, highest)


def learned_activation(log_scale: Tensor, dtype: str) -> Callable[[Tensor], Tensor]:
    """Fake quantization whose scale, exp(log_scale), gets a gradient, damped by 1 / sqrt(elements * highest)."""
    lowest, highest = LIMITS[dtype]
    return lambda x: _functions()[1].apply(x, log_scale, lowest, highest)


@functools.cache
def _functions() -> tuple[Any, Any]:
    """The two quantizers of activations as autograd functions; made once torch is wanted.

    torch has both as operators. These are in place, keep no mask where nothing was clipped, and take half the time.
    """
    import torch

    def rounded(x: Tensor, scale: float, lowest: int, highest: int) -> Tensor:
        return (x * (1.0 / scale)).round_().clamp_(lowest, highest).mul_(scale)

    def inside(x: Tensor, scale: float, lowest: int, highest: int) -> Tensor | None:
        low, high = torch.aminmax(x)
        if float(low) >= lowest * scale and float(high) <= highest * scale:
            return None
        return (x >= lowest * scale) & (x <= highest * scale)

    class Fixed(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor, scale: float, lowest: int, highest: int) -> Tensor:
            context.mask = inside(x, scale, lowest, highest) if context.needs_input_grad[0] else None
            return rounded(x, scale, lowest, highest)

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Any:
            return gradient if context.mask is None else gradient * context.mask, None, None, None

    class Learned(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor, log_scale: Tensor, lowest: int, highest: int) -> Tensor:
            scale = math.exp(float(log_scale))
            y = rounded(x, scale, lowest, highest)
            context.mask, context.damping = inside(x, scale, lowest, highest), (x.numel() * highest) ** -0.5
            context.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Any:
            x, y = context.saved_tensors
            passed = gradient if context.mask is None else gradient * context.mask
            # s dy/ds is y - x inside the range and y outside it.
            slope = torch.dot(gradient.flatten(), y.flatten()) - torch.dot(passed.flatten(), x.flatten())
            return passed, slope * context.damping, None, None

    return Fixed, Learned


def round_weight(value: Tensor, largest: int, pairs: Tensor | None, limit: int | None) -> Tensor:
    """Integers (as floats) of weights in units of their step; the gradient passes straight through.

    Args:
        pairs: int64 (number of pairs, 2), flat positions of adjacent input channels; None where sums are exact.
    """
    import torch

    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, v: Tensor) -> Tensor:
            q = v.round().clamp_(-largest, largest)
            return q if pairs is None or limit is None else _limited(q, pairs, limit)

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return gradient

    return Rounded.apply(value)


def _limited(q: Tensor, pairs: Tensor, limit: int) -> Tensor:
    """Takes what a pair has too much from both elements, half each, the odd one from the first."""
    import torch

    flat = q.reshape(-1).clone()
    first, second = flat[pairs[:, 0]], flat[pairs[:, 1]]
    over = (first.abs() + second.abs() - limit).clamp(min=0)
    if bool(over.any()):
        half = torch.ceil(over / 2)
        flat[pairs[:, 0]] = first - first.sign() * half
        flat[pairs[:, 1]] = second - second.sign() * (over - half)
    return flat.reshape(q.shape)


def pair_positions(nodes: Sequence[ir.Node], shape: tuple[int, ...], rules: QuantRules) -> np.ndarray | None:
    """Flat positions (pairs, 2) of weights that are adjacent input channels of a kernel; None if nothing is limited."""
    found = []
    for node in nodes if rules.pair_limit is not None else ():
        if has_pairs(node, rules):
            rows = pair_rows(np.arange(int(np.prod(shape))).reshape(shape), node, rules)
            even = rows.shape[1] // 2 * 2
            found.append(np.stack([rows[:, 0:even:2].reshape(-1), rows[:, 1:even:2].reshape(-1)], axis=1))
    return np.concatenate(found) if found else None


def anchors(weight: QuantWeight, rules: QuantRules) -> np.ndarray:
    """bool mask of elements that must keep their integer: one of magnitude 127 per channel.

    An engine that finds the scale of a weight by its maximum must find ours. Where pairs are limited no engine does.
    """
    mask = np.zeros(weight.integers.shape, bool)
    if rules.pair_limit is None:
        mask |= np.abs(weight.integers.astype(np.int16)) == rules.weight_max
    return mask


def split_samples(samples: Sequence[Sample], every: int = 8) -> tuple[list[int], list[int]]:
    """Positions to learn from and positions held out: each `every`-th, and at least one of two or more."""
    held = list(range(0, len(samples), every)) if len(samples) > 1 else []
    return [i for i in range(len(samples)) if i not in set(held)], held
