"""The searches on a network with one layer that INT8 breaks: it is found, named, priced, and nothing is tried twice."""

from __future__ import annotations

import numpy as np
import pytest

from hwc import search_layers, targets
from hwc.artifacts import TensorSpec
from hwc.calibrate.dataset import Sample
from hwc.engines.base import no_progress
from hwc.graph.evaluate import Evaluator
from hwc.optimize import Optimized
from hwc.precision.metrics import load_metric
from hwc.search_layers import find_breaking, find_put_back, measure_drop, open_plan
from tests.precision.fragile_model import fragile_group, labelled, make_photos, make_plan

TOP1 = load_metric("top1")


@pytest.fixture(scope="module")
def plan():
    return make_plan()


@pytest.fixture(scope="module")
def full(plan, tmp_path_factory) -> Optimized:
    inputs = (TensorSpec("x", "float32", (1, 3, 8, 8)),)
    outputs = (TensorSpec("y", "float32", (1, 4)),)
    return Optimized(tmp_path_factory.mktemp("full"), "fp32", inputs, outputs, "digest", (), plan.groups, ())


@pytest.fixture(scope="module")
def samples(plan):
    # Of 60, INT8 gets 15 wrong; with the fragile group in floats, 2.
    return [Sample(photo.feeds, photo.label, photo.name) for photo in labelled(plan, make_photos(60))]


@pytest.fixture(scope="module")
def baseline(plan):
    return Evaluator(plan.model).run


def search(plan, full, baseline, samples, work, *, limit=5.0, target="agx-orin-64gb", floating="fp16", key="key"):
    return find_put_back(
        plan, full, baseline, samples, TOP1, limit=limit, drop_type="absolute", target=targets.load(target),
        floating=floating, work=work, key=key, progress=no_progress,
    )  # fmt: skip


def test_the_fragile_group_is_put_back_with_its_price(plan, full, baseline, samples, tmp_path):
    found = search(plan, full, baseline, samples, tmp_path)
    group = fragile_group(plan)
    assert found.groups == {group}
    assert found.story.startswith("put back after ") and " trials on 60 calibration samples: " in found.story
    assert f"{group} (Conv+Relu: third" in found.story and "dB alone" in found.story
    assert "us (estimate)" in found.story


def test_finished_trials_are_not_made_again(plan, full, baseline, samples, tmp_path, monkeypatch):
    first = search(plan, full, baseline, samples, tmp_path)
    monkeypatch.setattr(search_layers, "open_plan", None)
    assert search(plan, full, baseline, samples, tmp_path) == first
    # Another limit asks about the same sets of layers, and what they lose is known.
    assert search(plan, full, baseline, samples, tmp_path, limit=6.0).groups == first.groups
    with pytest.raises(TypeError):  # another question is another search
        search(plan, full, baseline, samples, tmp_path, key="other")


def test_no_set_helps_where_even_floats_are_over_the_limit(plan, full, baseline, samples, tmp_path):
    found = search(plan, full, baseline, samples, tmp_path, limit=-1.0)
    assert found.groups is None
    assert found.story.startswith("no set of layers in fp16 keeps the accuracy: best drop 0.00 in ")


def test_no_layer_is_at_fault_where_calibration_samples_lose_nothing(full, baseline, tmp_path):
    sound = make_plan(fragile=False)
    run = Evaluator(sound.model).run
    samples = [Sample(p.feeds, p.label, p.name) for p in labelled(sound, make_photos(30))]
    found = search(sound, full, run, samples, tmp_path, limit=10.0)
    assert found.groups == frozenset() and found.groups is not None
    assert "no layer is at fault, the validation samples are unlike them" in found.story


def test_a_target_without_facts_has_no_prices(plan, full, baseline, samples, tmp_path):
    found = search(plan, full, baseline, samples, tmp_path, target="cpu", floating="bf16")
    assert found.groups == {fragile_group(plan)} and "estimate" not in found.story


def find(plan, full, baseline, samples, work):
    return find_breaking(
        plan, full, baseline, samples, TOP1, limit=5.0, drop_type="absolute", work=work, key="key",
        progress=no_progress,
    )  # fmt: skip


def test_the_layer_that_breaks_the_model_is_named(plan, full, baseline, samples, tmp_path, monkeypatch):
    breaking = find(plan, full, baseline, samples, tmp_path)
    assert breaking.answer == "single" and breaking.repair == (fragile_group(plan),)
    assert breaking.drop_low > 20 and breaking.drop_high == 0.0 and "third" in breaking.sentence()
    monkeypatch.setattr(search_layers, "open_plan", None)  # all trials are in the log
    assert find(plan, full, baseline, samples, tmp_path) == breaking


def test_only_one_engine_is_open_at_a_time(plan, full, baseline, samples, tmp_path, monkeypatch):
    opened, most = [], []
    real = search_layers.open_model

    def counted(*arguments):
        class Counting:
            def __enter__(self):
                self.inner = real(*arguments)
                opened.append(self)
                most.append(len(opened))
                return self.inner.__enter__()

            def __exit__(self, *error):
                opened.remove(self)
                return self.inner.__exit__(*error)

        return Counting()

    monkeypatch.setattr(search_layers, "open_model", counted)
    find(plan, full, baseline, samples[:10], tmp_path)
    assert len(most) > 3 and max(most) == 1 and not opened


def test_all_groups_in_floats_are_the_float_model(plan, full, baseline, samples):
    everything = frozenset(group.id for group in plan.groups)
    with open_plan(plan, full, everything) as run:
        got = run(samples[0].feeds)["y"]
    np.testing.assert_allclose(got, baseline(samples[0].feeds)["y"], rtol=1e-4, atol=1e-5)
    with open_plan(plan, full, frozenset()) as run:
        assert np.abs(run(samples[0].feeds)["y"] - got).max() > 0.1


# The measure of a loss.


def answers(*classes):
    """A run that gives these classes one after the other."""
    rest = list(classes)
    return lambda feeds: {"y": np.eye(4, dtype=np.float32)[[rest.pop(0)]]}


def test_a_drop_is_in_points_or_in_per_cent_of_the_baseline():
    labels = [Sample({}, label, str(label)) for label in (0, 1, 2, 3)]
    arguments = (labels, TOP1)
    right, wrong = (0, 1, 0, 0), (0, 0, 0, 0)  # two of four right, then one
    assert measure_drop(answers(*right), answers(*wrong), *arguments, "absolute") == pytest.approx(25.0)
    assert measure_drop(answers(*right), answers(*wrong), *arguments, "relative") == pytest.approx(50.0)
    assert measure_drop(answers(*wrong), answers(*right), *arguments, "absolute") == pytest.approx(-25.0)


def test_a_batch_is_scored_by_the_class_of_each_element():
    batch = [Sample({}, None, "two", (0, 1))]
    before = {"y": np.eye(4, dtype=np.float32)[[0, 1]]}
    after = {"y": np.eye(4, dtype=np.float32)[[0, 2]]}
    assert measure_drop(lambda f: before, lambda f: after, batch, TOP1, "absolute") == pytest.approx(50.0)
