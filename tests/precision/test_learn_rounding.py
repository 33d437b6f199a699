"""Learned rounding on small networks: SQNR rises on samples held out, constraints hold, and worse is refused."""

import numpy as np
import pytest
import torch

from hwc.graph.evaluate import Evaluator
from hwc.precision.fake_quantize import pair_positions
from hwc.precision.learn_rounding import learn_rounding
from hwc.precision.measure_plan import sqnr_of
from hwc.precision.place_qdq import place_qdq
from hwc.precision.plan import QuantRules
from hwc.precision.quantize_weights import weight_readers
from tests.passes.build import build, node, weight
from tests.passes.check import random_feeds
from tests.precision.placed import plan_of, residual

# Four bits: so the error of the weights stands above that of the activations, in networks this small.
PLAIN = QuantRules(unsigned=False, weight_max=7)
PAIRED = QuantRules(unsigned=True, weight_max=7, pair_limit=8)


def samples_of(model, count=24):
    """Mixtures of three patterns and a little noise: real data is correlated, and learning lives on that."""
    patterns = [random_feeds(model, 100 + i)["x"] for i in range(3)]
    rng = np.random.default_rng(0)
    mixtures = [sum(rng.normal() * p for p in patterns) + 0.1 * random_feeds(model, i)["x"] for i in range(count)]
    return [{"x": (2.0 * x / np.abs(x).max()).astype(np.float32)} for x in mixtures]


def chain():
    """A Conv1d, a transposed product, a MatMul with positions and a weight that two nodes read."""
    arrays = {"wc": weight(12, 3, 5), "wm": weight(12, 10, seed=2) * 3, "wg": weight(10, 10, seed=3),
              "bg": weight(6, seed=4), "wl": weight(10, 6, seed=5), "s": np.array([-1, 10], np.int64)}  # fmt: skip
    nodes = [
        node("Conv", ["x", "wc"], ["c"], name="conv", pads=[2, 2], strides=[2]),
        node("Relu", ["c"], ["r"], name="relu"),
        node("Transpose", ["r"], ["t"], name="turn", perm=[0, 2, 1]),
        node("MatMul", ["t", "wm"], ["m"], name="matmul"),
        node("Gelu", ["m"], ["g"], name="gelu"),
        node("Reshape", ["g", "s"], ["f"], name="flat"),
        node("Gemm", ["f", "wg"], ["a"], name="first"),
        node("Gemm", ["a", "wg"], ["b"], name="second"),
        node("Gemm", ["b", "wl", "bg"], ["y"], name="last"),
    ]
    return build(nodes, {"x": [1, 3, 16]}, ["y"], arrays, opset=20)


@pytest.mark.parametrize(("network", "rules"), [(residual, PLAIN), (residual, PAIRED), (chain, PLAIN)])
def test_sqnr_rises_and_the_integers_stay_legal(network, rules):
    model = network()
    plan = plan_of(model, rules, feeds=samples_of(model)[1])
    learned, effects = learn_rounding(plan, samples_of(model))
    assert effects["learn_rounding.kept"] == 1
    assert effects["learn_rounding.sqnr_db.after"] > effects["learn_rounding.sqnr_db.before"] + 0.3
    for name, nodes in weight_readers(plan.model, plan.points).items():
        before, after = plan.weights[name], learned.weights[name]
        assert after.integers.dtype == np.int8 and after.integers.shape == before.integers.shape
        assert np.abs(after.integers.astype(int)).max() <= 7 and after.scale.dtype == np.float32
        pairs = pair_positions(nodes, after.integers.shape, rules)
        if rules.pair_limit is None:
            # An engine that takes the maximum of each channel finds the same scale again.
            assert np.array_equal(after.scale, before.scale)
            other = tuple(i for i in range(after.integers.ndim) if i != after.axis)
            assert (np.abs(after.integers.astype(int)).max(axis=other) == 7).all()
        elif pairs is not None:
            assert np.abs(after.integers.reshape(-1)[pairs].astype(int)).sum(axis=1).max() <= 8


def test_the_placed_graph_agrees_with_what_was_measured():
    model = residual()
    samples = samples_of(model)
    learned, effects = learn_rounding(plan_of(model, PAIRED), samples)
    exact, placed = Evaluator(model), Evaluator(place_qdq(learned))
    found = []
    for sample in samples[::8]:
        a, b = exact.run(sample)["y"], placed.run(sample)["y"]
        found.append(sqnr_of({"y": torch.from_numpy(a)}, {"y": torch.from_numpy(b)}))
    # An element on the border of two integers may fall to either side.
    assert abs(np.mean(found) - effects["learn_rounding.sqnr_db.after"]) < 0.5


def test_the_same_samples_give_the_same_integers():
    model = residual()
    first, second = (learn_rounding(plan_of(model, PAIRED), samples_of(model, 8))[0] for _ in range(2))
    assert all(np.array_equal(first.weights[n].integers, second.weights[n].integers) for n in first.weights)


def test_what_would_be_worse_is_not_kept(monkeypatch):
    model = residual()
    plan = plan_of(model, PLAIN)
    # Rounding of anything else than the layer's own weight.
    monkeypatch.setattr("hwc.precision.learn_rounding.row_errors", lambda difference, hessian: -difference.abs().sum(2))
    monkeypatch.setattr("hwc.precision.learn_rounding.round_rows", lambda weight, upper, **_: weight.round() * 0 + 3)
    same, effects = learn_rounding(plan, samples_of(model, 8))
    assert same is plan and effects["learn_rounding.kept"] == 0
    assert effects["learn_rounding.sqnr_db.after"] < effects["learn_rounding.sqnr_db.before"]


def test_layers_without_rows_are_counted_and_groups_put_back_are_left():
    model = residual()
    plan = plan_of(model, PLAIN)
    _, effects = learn_rounding(plan, samples_of(model, 8))
    assert effects["learn_rounding.skipped"] == 1 and effects["learn_rounding.layers"] == 5  # the ConvTranspose
    high = plan.replace(high=frozenset(g.id for g in plan.groups if "conv1" in g.nodes))
    learned, effects = learn_rounding(high, samples_of(model, 8))
    assert effects["learn_rounding.layers"] == 4 and learned.weights["w1"] is plan.weights["w1"]
