"""Equalisation: the function stays, ranges come together, and only what is measured to be better is kept."""

import numpy as np
import pytest

from hwc.graph.evaluate import Evaluator
from hwc.precision.channel_classes import find_channel_classes
from hwc.precision.equalize_layers import channel_ranges, equalize_layers, scale_channels
from hwc.precision.plan import QuantRules
from tests.passes.build import build, node, weight
from tests.passes.check import random_feeds
from tests.precision.placed import groups_of, plan_of, points_of

CPU = QuantRules(unsigned=True)


def uneven(last: str = "Relu"):
    """A residual chain, a depthwise layer and a Clip, with channels whose ranges differ a hundredfold."""
    spread = np.geomspace(0.05, 5, 8).astype(np.float32)
    arrays = {
        "w0": weight(8, 3, 3, 3) * spread[:, None, None, None], "b0": weight(8) * spread,
        "w1": weight(8, 8, 1, 1, seed=2), "b1": weight(8, seed=3), "wd": weight(8, 1, 3, 3, seed=4),
        "bd": weight(8, seed=5), "w2": weight(8, 8, 1, 1, seed=6) * spread[::-1, None, None, None],
        "wg": weight(4, 8, seed=7),
        "low": np.array(0, np.float32), "high": np.array(6, np.float32), "slope": weight(8, 1, 1, seed=8),
    }  # fmt: skip
    ends = {"Relu": ["c2"], "PRelu": ["c2", "slope"], "Sigmoid": ["c2"]}
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], name="conv0", pads=[1] * 4),
        node("Conv", ["c0", "w1", "b1"], ["c1"], name="conv1"),
        node("Clip", ["c1", "low", "high"], ["r1"], name="clip"),
        node("Conv", ["r1", "wd", "bd"], ["d"], name="depthwise", group=8, pads=[1] * 4),
        node("Conv", ["d", "w2"], ["p"], name="conv2"),
        node("Add", ["p", "c0"], ["c2"], name="add"),
        node(last, ends[last], ["r2"], name="act"),
        node("GlobalAveragePool", ["r2"], ["m"], name="mean"),
        node("Flatten", ["m"], ["f"], name="flat"),
        node("Gemm", ["f", "wg"], ["y"], name="gemm", transB=1),
    ]
    return build(nodes, {"x": [1, 3, 8, 8]}, ["y"], arrays)


def samples_of(model, count=16):
    return [random_feeds(model, seed) for seed in range(count)]


def ranges_of(model, samples):
    return channel_ranges(model, list(points_of(model, CPU)), samples)


def test_a_residual_chain_is_one_class_and_a_clip_joins_only_when_asked():
    model = uneven()
    plain = find_channel_classes(model, clips=False)
    assert [(c.tensors, c.ceiling) for c in plain] == [(["c0", "p", "c2", "r2", "m", "f"], np.inf), (["d"], np.inf)]
    chain = plain[0]
    assert [n.name for n in chain.producers] == ["conv0", "conv2"]
    assert [n.name for n in chain.consumers] == ["conv1", "gemm"]
    with_clips = find_channel_classes(model, clips=True)
    assert [(c.tensors, c.ceiling) for c in with_clips][1] == (["c1", "r1"], 6.0)


@pytest.mark.parametrize("last", ["Relu", "PRelu"])
@pytest.mark.parametrize("exponent", [0.5, 1.0])
@pytest.mark.parametrize("clips", [False, True])
def test_the_function_stays(last, exponent, clips):
    model = uneven(last)
    samples = samples_of(model)
    changed, count = scale_channels(model, ranges_of(model, samples), exponent=exponent, clips=clips)
    assert count == 2 + clips
    for sample in samples:
        np.testing.assert_allclose(
            Evaluator(changed).run(sample)["y"], Evaluator(model).run(sample)["y"], rtol=1e-4, atol=1e-5
        )


def test_ranges_come_together():
    model = uneven()
    samples = samples_of(model)
    before = ranges_of(model, samples)
    changed, _ = scale_channels(model, before, exponent=1.0, clips=True)
    after = ranges_of(changed, samples)
    for names in (("c0", "r2", "f"), ("d",)):
        old, new = (np.max([r[n] for n in names if n in r], axis=0) for r in (before, after))
        assert new.max() / new.min() < 1.01 and old.max() / old.min() > 3
    assert after["r1"].max() <= 6.0


def test_an_operator_that_does_not_commute_freezes_its_class():
    assert [c.tensors for c in find_channel_classes(uneven("Sigmoid"), clips=True)] == [["c1", "r1"], ["d"]]


def test_a_shared_weight_freezes_its_class():
    nodes = [node("Conv", ["x", "w"], ["a"], name="a"), node("Conv", ["a", "w"], ["b"], name="b"),
             node("Conv", ["b", "v"], ["y"], name="c")]  # fmt: skip
    model = build(nodes, {"x": [1, 4, 5, 5]}, ["y"], {"w": weight(4, 4, 1, 1), "v": weight(4, 4, 1, 1, seed=2)})
    assert find_channel_classes(model, clips=True) == ()


def test_the_better_graph_is_kept_and_its_gain_is_measured():
    model = uneven()
    samples = samples_of(model)
    changed, effects = equalize_layers(model, samples, lambda m: plan_of(m, CPU, feeds=samples[1]))
    assert effects["equalize_layers.kept"] == 1 and changed is not model
    assert effects["equalize_layers.sqnr_db.after"] > effects["equalize_layers.sqnr_db.before"] + 1
    assert groups_of(changed) == groups_of(model)


def test_a_worse_graph_is_not_kept(monkeypatch):
    model = uneven()
    samples = samples_of(model)


    def broken(model, ranges, **_):
        return scale_channels(uneven(), ranges, exponent=-2.0, clips=False)

    monkeypatch.setattr("hwc.precision.equalize_layers.scale_channels", broken)
    same, effects = equalize_layers(model, samples, lambda m: plan_of(m, CPU, feeds=samples[1]))
    assert same is model and effects["equalize_layers.kept"] == 0
    assert effects["equalize_layers.sqnr_db.after"] == effects["equalize_layers.sqnr_db.before"]
