"""Distillation on a small network: SQNR rises on held-out samples, constraints hold, runs resume, worse is refused."""

import numpy as np
import pytest
import torch

from hwc.artifacts import TensorScale
from hwc.precision.distill_rounding import _batch_at, distill_rounding
from hwc.precision.fake_quantize import activation, learned_activation, pair_positions
from hwc.precision.place_qdq import place_qdq
from hwc.precision.quantize_weights import weight_readers
from tests.passes.build import build, node, weight
from tests.precision.placed import plan_of
from tests.precision.test_learn_rounding import PAIRED, PLAIN, samples_of


def network():
    arrays = {"w0": weight(8, 3, 3, 3), "b0": weight(8), "w1": weight(8, 8, 1, 1, seed=2), "b1": weight(8, seed=3),
              "wg": weight(6, 8, seed=4), "bg": weight(6, seed=5)}  # fmt: skip
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], name="conv0", pads=[1] * 4),
        node("Relu", ["c0"], ["r0"], name="relu0"),
        node("Conv", ["r0", "w1", "b1"], ["c1"], name="conv1"),
        node("Add", ["c1", "r0"], ["s"], name="add"),
        node("GlobalAveragePool", ["s"], ["m"], name="mean"),
        node("Flatten", ["m"], ["f"], name="flat"),
        node("Gemm", ["f", "wg", "bg"], ["y"], name="gemm", transB=1),
    ]
    return build(nodes, {"x": [1, 3, 6, 6]}, ["y"], arrays)


@pytest.mark.parametrize("rules", [PLAIN, PAIRED])
def test_sqnr_rises_and_the_integers_stay_legal(rules):
    model = network()
    samples = samples_of(model)
    plan = plan_of(model, rules, feeds=samples[1])
    learned, effects = distill_rounding(plan, samples, steps=60)
    assert effects["distill_rounding.kept"] == 1 and effects["distill_rounding.steps"] == 60
    assert effects["distill_rounding.sqnr_db.after"] > effects["distill_rounding.sqnr_db.before"] + 1
    assert any(not np.array_equal(learned.weights[n].integers, plan.weights[n].integers) for n in plan.weights)
    for name, nodes in weight_readers(plan.model, plan.points).items():
        q = learned.weights[name].integers
        assert q.dtype == np.int8 and np.array_equal(learned.weights[name].scale, plan.weights[name].scale)
        pairs = pair_positions(nodes, q.shape, rules)
        if rules.pair_limit is None:
            assert (np.abs(q.astype(int)).reshape(len(q), -1).max(axis=1) == 7).all()
        elif pairs is not None:
            assert np.abs(q.reshape(-1)[pairs].astype(int)).sum(axis=1).max() <= 8
    place_qdq(learned)  # scales of one share are still one


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path):
    model = network()
    samples = samples_of(model, 12)
    plan = plan_of(model, PLAIN, feeds=samples[1])
    whole, _ = distill_rounding(plan, samples, steps=16)

    class Stopped(Exception):
        pass

    def stop(what, fraction):
        if fraction > 0.7:
            raise Stopped

    path = tmp_path / "state.pt"
    with pytest.raises(Stopped):
        distill_rounding(plan, samples, steps=16, checkpoint=path, progress=stop)
    fractions = []
    resumed, _ = distill_rounding(
        plan, samples, steps=16, checkpoint=path, progress=lambda what, fraction: fractions.append(fraction)
    )
    assert 0 < len(fractions) < 16  # it did not begin anew
    assert all(np.array_equal(whole.weights[n].integers, resumed.weights[n].integers) for n in whole.weights)
    # A state of other data is not taken over.
    fractions.clear()
    distill_rounding(plan, samples[::-1], steps=16, checkpoint=path, progress=lambda what, f: fractions.append(f))
    assert len(fractions) == 16


def test_time_bounds_the_steps():
    model = network()
    samples = samples_of(model, 8)
    _, effects = distill_rounding(plan_of(model, PLAIN, feeds=samples[1]), samples, seconds=0.2)
    assert effects["distill_rounding.steps"] >= 1 and effects["distill_rounding.seconds"] < 3


def test_what_would_be_worse_is_not_kept(monkeypatch):
    model = network()
    samples = samples_of(model, 8)
    plan = plan_of(model, PLAIN, feeds=samples[1])
    module = "hwc.precision.distill_rounding"
    monkeypatch.setattr(f"{module}._log_noise", lambda goal, got, count: -((goal - got) ** 2).mean())
    monkeypatch.setattr(f"{module}._OTHER_RATE", 0.5)
    monkeypatch.setattr(f"{module}._CHECKS", 1)
    same, effects = distill_rounding(plan, samples, steps=12)
    assert same is plan and effects["distill_rounding.kept"] == 0


def test_every_sample_is_seen_once_an_epoch():
    seen = [i for step in range(5) for i in _batch_at(step, 4, 10, seed=3)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10)) and seen[:10] != seen[10:]


def test_quantizers_of_activations_round_half_to_even_clip_and_pass_gradients_inside_only():
    x = torch.tensor([-9.0, -1.0, -0.5, 0.25, 0.75, 3.0, 200.0], requires_grad=True)
    y = activation(TensorScale((0.5,), None, "int8"))(x)
    assert y.tolist() == [-9.0, -1.0, -0.5, 0.0, 1.0, 3.0, 63.5]
    y.sum().backward()
    assert x.grad.tolist() == [1, 1, 1, 1, 1, 1, 0]
    assert activation(TensorScale((0.5,), None, "uint8"))(x).min() == 0


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_learned_scale_has_the_gradient_of_learned_step_size(dtype):
    x = torch.linspace(-3, 300, 1000) if dtype == "uint8" else torch.linspace(-90, 90, 1000)
    lowest, highest = (0, 255) if dtype == "uint8" else (-128, 127)
    log_scale = torch.tensor(float(np.log(0.6)), requires_grad=True)
    # torch calls what rounds to the last integer inside; the paper, and this file, what does not exceed it.
    x = x[((x / 0.6 - highest).abs() > 0.6) & ((x / 0.6 - lowest).abs() > 0.6)]
    goal = x * 0.9
    (learned_activation(log_scale, dtype)(x) - goal).square().sum().backward()
    scale = torch.tensor([0.6], requires_grad=True)
    damping = 1.0 / (x.numel() * highest) ** 0.5
    other = torch._fake_quantize_learnable_per_tensor_affine(x, scale, torch.zeros(1), lowest, highest, damping)
    (other - goal).square().sum().backward()
    assert float(log_scale.grad) == pytest.approx(float(scale.grad) * 0.6, rel=1e-3)
