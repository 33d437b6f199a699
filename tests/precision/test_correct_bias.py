"""Bias correction: means return, SQNR rises where rounding shifted them, and worse is refused."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from hwc.precision.correct_bias import correct_bias
from hwc.precision.fake_quantize import PlanGraph
from hwc.precision.frontier import Frontier
from hwc.precision.plan import QuantRules, QuantWeight
from tests.passes.build import build, node, weight
from tests.passes.check import random_feeds
from tests.precision.placed import plan_of, residual

RULES = QuantRules(unsigned=True)


def samples_of(model, count=16):
    return [random_feeds(model, seed) for seed in range(count)]


def shifted(plan):
    """The plan with all integers one too low: the classic case of a biased rounding."""
    weights = {
        n: QuantWeight(np.clip(w.integers.astype(int) - 2, -127, 127).astype(np.int8), w.scale, w.axis)
        for n, w in plan.weights.items()
    }
    return plan.replace(weights=weights)


def product():
    """A MatMul whose bias is an Add, behind a Relu, so that its input has a mean."""
    nodes = [node("Relu", ["x"], ["r"], name="relu"), node("MatMul", ["r", "w"], ["m"], name="matmul"),
             node("Add", ["b", "m"], ["y"], name="add")]  # fmt: skip
    return build(nodes, {"x": [1, 5, 8]}, ["y"], {"w": weight(8, 6), "b": weight(6)})


@pytest.mark.parametrize("network", [residual, product])
def test_a_shift_of_the_mean_is_taken_back(network):
    model = network()
    samples = samples_of(model)
    plan = shifted(plan_of(model, RULES, feeds=samples[1]))
    corrected, effects = correct_bias(plan, samples, teacher=model)
    assert effects["correct_bias.kept"] == 1
    assert effects["correct_bias.sqnr_db.after"] > effects["correct_bias.sqnr_db.before"] + 3
    assert corrected.weights == plan.weights and corrected.scales == plan.scales
    feeds = {"x": torch.from_numpy(np.concatenate([s["x"] for i, s in enumerate(samples) if i % 8]))}
    if network is product:  # without a batch of one written into it
        exact = PlanGraph(plan_of(model, RULES)).graph.run(feeds)["y"].mean((0, 1))
        assert torch.allclose(PlanGraph(corrected).run(feeds)["y"].mean((0, 1)), exact, atol=1e-5)


def test_the_first_plan_is_left_as_it_was():
    model = residual()
    plan = shifted(plan_of(model, RULES))
    before = {n: v.const_value.numpy().copy() for n, v in plan.model.graph.initializers.items()}
    correct_bias(plan, samples_of(model), teacher=model)
    assert all(np.array_equal(before[n], v.const_value.numpy()) for n, v in plan.model.graph.initializers.items())


def test_what_would_be_worse_is_not_kept(monkeypatch):
    model = residual()
    plan = plan_of(model, RULES)
    monkeypatch.setattr("hwc.precision.correct_bias._mean_shift", lambda x, y, axis: np.full(x.shape[axis], 3.0))
    same, effects = correct_bias(plan, samples_of(model))
    assert same is plan and effects["correct_bias.kept"] == 0


def test_memory_bounds_the_samples_and_one_is_always_taken():
    model = residual()
    plan = plan_of(model, RULES)
    assert len(Frontier(plan, model, samples_of(model), most=99, memory_bytes=1).exact) == 1
    assert len(Frontier(plan, model, samples_of(model), most=5, memory_bytes=1 << 30).exact) == 5


def test_the_frontier_ends_with_nothing_left():
    model = residual()
    frontier = Frontier(plan_of(model, RULES), model, samples_of(model, 2), most=2, memory_bytes=1 << 30)
    kinds = [group.kind for group in frontier.walk("walk", lambda what, fraction: None)]
    assert len(kinds) == len(frontier.plan.groups) and not any(frontier.exact) and not any(frontier.noisy)
    assert isinstance(frontier.finish().model, ir.Model)
