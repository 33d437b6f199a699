"""The fragile layer is the most sensitive one, in both directions, and an interrupted ranking goes on."""

import numpy as np
import pytest

from hwc.errors import UsageError
from hwc.graph.evaluate import Evaluator
from hwc.precision.metrics import LIMIT_DB, load_metric
from hwc.precision.sensitivity import measure_noise, open_evaluator, quantized_groups, rank_groups, source_layers
from hwc.precision.trial_log import TrialLog
from tests.precision.fragile_model import FRAGILE, fragile_group, labelled, make_photos, make_plan


@pytest.fixture(scope="module")
def plan():
    return make_plan()


def rank(plan, **options):
    photos = labelled(plan, make_photos(8))
    return rank_groups(plan, Evaluator(plan.model).run, photos, metric=load_metric("top1"), **options)


def test_the_fragile_layer_is_named_first(plan):
    ranked = rank(plan)
    worst = ranked[0]
    assert worst.group == fragile_group(plan) and FRAGILE in worst.layers and worst.kind == "Conv+Relu"
    assert [s.group for s in ranked] == sorted((s.group for s in ranked), key=lambda g: _alone(ranked)[g])
    # 15 dB below the next one by itself, and nothing else is worth putting back.
    assert worst.sqnr_db_alone < ranked[1].sqnr_db_alone - 15
    assert worst.sqnr_db_without == max(s.sqnr_db_without for s in ranked)
    assert worst.sqnr_db_without > 15 + max(s.sqnr_db_without for s in ranked[1:])
    assert worst.drop_alone > 0 and worst.drop_without < worst.drop_alone
    assert all(s.drop_alone is not None and s.seconds > 0 for s in ranked)


def _alone(ranked):
    return {s.group: s.sqnr_db_alone for s in ranked}


def test_a_model_without_the_fault_has_no_such_layer():
    ranked = rank(make_plan(fragile=False))
    assert ranked[0].sqnr_db_alone > 25


def test_alone_and_without_are_what_they_say(plan):
    photos = make_photos(4)
    seen = []

    def place(changed):
        seen.append(changed.high)
        from hwc.precision.place_qdq import place_qdq

        return place_qdq(changed)

    ranked = rank_groups(plan, Evaluator(plan.model).run, photos, place=place, without_worst=1)
    everything = frozenset(quantized_groups(plan))
    assert seen[:-1] == [everything - {group} for group in quantized_groups(plan)]
    assert seen[-1] == {ranked[0].group} and [s.sqnr_db_without is None for s in ranked[:2]] == [False, True]
    assert all(s.drop_alone is None for s in ranked)


def test_groups_that_are_high_already_stay_so(plan):
    high = frozenset({fragile_group(plan)})
    ranked = rank_groups(plan.replace(high=high), Evaluator(plan.model).run, make_photos(4))
    assert fragile_group(plan) not in _alone(ranked) and len(ranked) == len(quantized_groups(plan)) - 1
    assert min(s.sqnr_db_alone for s in ranked) > 25


def test_an_interrupted_ranking_goes_on(plan, tmp_path):
    path, opened = tmp_path / "trials.jsonl", []

    def open_run(model, stop_after=10**9):
        if len(opened) == stop_after:
            raise KeyboardInterrupt
        opened.append(model)
        return open_evaluator(model)

    with pytest.raises(KeyboardInterrupt):
        rank(plan, log=TrialLog(path, "k"), open_run=lambda model: open_run(model, 4))
    assert len(TrialLog(path, "k")) == 4
    fractions = []
    resumed = rank(plan, log=TrialLog(path, "k"), open_run=open_run, progress=lambda _, f: fractions.append(f))
    assert len(opened) == 2 * len(resumed) and fractions == sorted(fractions) and fractions[-1] == 1.0
    strip = [(s.group, s.sqnr_db_alone, s.sqnr_db_without, s.drop_alone) for s in resumed]
    assert strip == [(s.group, s.sqnr_db_alone, s.sqnr_db_without, s.drop_alone) for s in rank(plan)]
    assert len(opened) == 2 * len(resumed)


def test_nothing_to_rank_is_refused(plan):
    with pytest.raises(UsageError, match="nothing to rank"):
        rank_groups(plan.replace(points=()), Evaluator(plan.model).run, make_photos(1))
    with pytest.raises(UsageError, match="nothing to rank"):
        rank_groups(plan, Evaluator(plan.model).run, [])


def test_noise_is_summed_over_samples_and_nan_is_the_worst():
    outputs = iter([np.array([10.0, 0.0]), np.array([0.0, 1.0])])
    noisy = iter([np.array([10.0, 1.0]), np.array([0.0, 1.0])])
    noise = measure_noise(lambda _: {"y": next(noisy)}, lambda _: {"y": next(outputs)}, make_photos(2), None)
    assert noise.sqnr_db == pytest.approx(10 * np.log10(101)) and noise.drop is None
    for got, decibels in ((np.nan, -LIMIT_DB), (1.0, LIMIT_DB), (np.inf, -LIMIT_DB)):
        one = measure_noise(lambda _, g=got: {"y": np.array([g])}, lambda _: {"y": np.ones(1)}, make_photos(1), None)
        assert one.sqnr_db == decibels


def test_layers_are_the_names_of_the_users_file(plan):
    nodes = {node.name: node for node in plan.model.graph}
    nodes[FRAGILE].metadata_props["hwc.origin"] = "net.3|net.4"
    try:
        assert source_layers(plan.model, plan.groups)[fragile_group(plan)] == ("net.3", "net.4", f"{FRAGILE}_relu")
    finally:
        del nodes[FRAGILE].metadata_props["hwc.origin"]
