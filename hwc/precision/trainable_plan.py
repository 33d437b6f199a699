"""A QuantPlan whose integers, biases and scales are torch parameters; what `distill_rounding` trains.

A weight's parameter starts at the plan's integer, in the middle between two roundings: the first forward pass is the
plan itself, and no element flips by the noise of a few gradients. (Started at w / s, those that second-order rounding
sent the far way stand at the border, and their flips cost more than learning gains.) Anchors get no gradient.
A little dither spreads the flips over time: elements with the same steady gradient would otherwise flip in one step
and overshoot together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hwc.artifacts import TensorScale
from hwc.graph.model import constant_array
from hwc.precision.differentiate import Tensor
from hwc.precision.fake_quantize import (
    PlanGraph,
    activation,
    anchors,
    learned_activation,
    pair_positions,
    round_weight,
)  # fmt: skip
from hwc.precision.measure_plan import with_constants
from hwc.precision.plan import QuantPlan, QuantWeight
from hwc.precision.quantize_weights import spread

_DITHER = 0.3
# Their results have an end that the graph knows; a scale that reaches it exactly should stay.
_BOUNDED = ("Clip", "Sigmoid", "HardSigmoid", "Softmax", "Tanh")


class TrainablePlan:
    """Parameters made of a plan, the INT8 form that they give, and the plan that they end in."""

    def __init__(self, plan: QuantPlan, seed: int = 0) -> None:
        import torch

        self.plan = plan
        rng = np.random.default_rng(seed)
        self.base = PlanGraph(plan)
        self.values: dict[str, Tensor] = {}
        self.steps: dict[str, Tensor] = {}
        self.free: dict[str, Tensor | None] = {}
        self.pairs: dict[str, Tensor | None] = {}
        self.biases: dict[str, Tensor] = {}
        for name, nodes in self.base.readers.items():
            weight = plan.weights[name]
            array = constant_array(nodes[0].inputs[1])
            assert array is not None
            step = spread(weight.scale, weight.axis, array.ndim)
            dither = rng.uniform(-_DITHER, _DITHER, array.shape)
            self.values[name] = torch.from_numpy((weight.integers + dither).astype(np.float32)).requires_grad_()
            self.steps[name] = torch.from_numpy(np.array(step, np.float32))
            mask = anchors(weight, plan.rules)
            self.free[name] = torch.from_numpy(~mask) if mask.any() else None
            pairs = pair_positions(nodes, array.shape, plan.rules)
            self.pairs[name] = torch.from_numpy(pairs) if pairs is not None else None
            for node in nodes:
                bias = node.inputs[2] if len(node.inputs) > 2 and node.op_type != "MatMul" else None
                if bias is not None and bias.is_initializer() and len(bias.uses()) == 1:
                    self.biases[str(bias.name)] = self.base.graph.constants[str(bias.name)].clone().requires_grad_()
        self.scales = self._free_scales()

    def _free_scales(self) -> dict[str, Tensor]:
        """Logarithms of the scales that may move, by share."""
        import torch

        producers = {str(v.name): node for node in self.plan.model.graph for v in node.outputs}
        inputs = {value.name for value in self.plan.model.graph.inputs}
        bounded = inputs | {name for name, node in producers.items() if node.op_type in _BOUNDED}
        still = {point.share for point in self.base.points if point.tensor in bounded}
        scales = {p.share: self.plan.scales[p.tensor].scale[0] for p in self.base.points if p.share not in still}
        return {share: torch.tensor(math.log(scale)).requires_grad_() for share, scale in scales.items()}

    def parameters(self) -> dict[str, list[Tensor]]:
        """What an optimizer moves, by kind; kinds without members are left out."""
        kinds = {"weights": self.values, "biases": self.biases, "scales": self.scales}
        return {kind: list(members.values()) for kind, members in kinds.items() if members}

    def run(self, feeds: Mapping[str, Tensor], wanted: Sequence[str], *, batch: int = 1) -> dict[str, Tensor]:
        """The wanted values of the INT8 form, with gradients to the parameters."""
        constants = {name: self._rounded(name) * self.steps[name] for name in self.values}
        reads = {p.tensor: (frozenset(p.readers), self._quantizer(p.tensor, p.share)) for p in self.base.points}
        return self.base.graph.run(feeds, wanted, constants={**constants, **self.biases}, reads=reads, batch=batch)

    def _rounded(self, name: str) -> Tensor:
        import torch

        value, free = self.values[name], self.free[name]
        if free is not None:
            value = torch.where(free, value, value.detach())
        limit = self.plan.rules.pair_limit
        return round_weight(value, self.plan.rules.weight_max, self.pairs[name], limit)

    def _quantizer(self, tensor: str, share: str) -> Callable[[Tensor], Tensor]:
        scale = self.plan.scales[tensor]
        learned = self.scales.get(share)
        return activation(scale) if learned is None else learned_activation(learned, scale.dtype)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All parameters, detached but not copied."""
        kinds = {"weights": self.values, "biases": self.biases, "scales": self.scales}
        return {kind: {n: value.detach() for n, value in members.items()} for kind, members in kinds.items()}

    def load(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Takes over what `state` gave, in place."""
        import torch

        kinds = {"weights": self.values, "biases": self.biases, "scales": self.scales}
        with torch.no_grad():
            for kind, members in kinds.items():
                for name, value in members.items():
                    value.copy_(state[kind][name])

    def finish(self) -> QuantPlan:
        """The plan with these parameters rounded for good."""
        weights = dict(self.plan.weights)
        for name in self.values:
            old = weights[name]
            integers = self._rounded(name).detach().numpy().astype(np.int8)
            weights[name] = QuantWeight(integers, old.scale, old.axis)
        scales = dict(self.plan.scales)
        for point in self.plan.points:
            if point.share in self.scales:
                old_scale = scales[point.tensor]
                value = float(np.float32(math.exp(float(self.scales[point.share].detach()))))
                scales[point.tensor] = TensorScale((value,), None, old_scale.dtype, f"{old_scale.method}, distilled")
        biases = {name: value.detach().numpy() for name, value in self.biases.items()}
        return self.plan.replace(model=with_constants(self.plan.model, biases), weights=weights, scales=scales)

