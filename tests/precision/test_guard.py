"""Verdicts on engines whose true quality is known, and the two failures that the guard exists for."""

import dataclasses

import numpy as np
import pytest

from hwc.artifacts import Verdict
from hwc.errors import UsageError
from hwc.graph.evaluate import Evaluator
from hwc.precision.guard import judge
from hwc.precision.place_qdq import place_qdq
from hwc.precision.remember_baseline import Baseline
from hwc.serialize import from_json, to_json
from tests.precision.fragile_model import fragile_group, labelled, make_photos, make_plan


@dataclasses.dataclass(frozen=True)
class Sample:
    feeds: dict
    label: int | None
    name: str
    labels: tuple = ()


def samples(count, label=1):
    return [Sample({"x": np.array([i])}, label, f"s{i}") for i in range(count)]


def right(feeds):
    return {"y": np.array([[0.0, 1.0, 0.5]], np.float32)}


def wrong_on(*numbers):
    def run(feeds):
        answer = right(feeds)["y"]
        return {"y": answer[:, ::-1] - answer if int(feeds["x"][0]) in numbers else answer}

    return run


def verdict(candidate, data, baseline=right, **options):
    return judge(baseline, candidate, data, **{"metric": "top1", "judged": "likely", **options})


def test_equal_engines_pass_once_there_are_enough_samples():
    found = verdict(right, samples(900), look_every=0)
    assert found.decision == "passed" and found.drop == 0 and -0.5 < found.drop_low < 0 < found.drop_high < 0.5
    assert (found.baseline, found.candidate, found.agreement, found.sqnr_db) == (100, 100, 1.0, 140.0)
    assert found.samples == 900 and found.note == "" and found.judged == "likely"
    assert from_json(Verdict, to_json(found)) == found


def test_too_few_samples_are_said_with_the_number_that_would_do():
    found = verdict(right, samples(20))
    assert found.decision == "undecided" and found.drop_high > 10
    assert found.note.startswith("not enough images to tell 0.5 points apart: 20 images bound the drop to -17")
    needed = int(found.note.split("about ")[1].split()[0])
    assert verdict(right, samples(needed)).decision == "passed"
    assert verdict(right, samples(needed - 30)).decision == "undecided"


def test_a_measured_drop_over_the_limit_fails_also_where_it_may_be_chance():
    found = verdict(wrong_on(3), samples(100))
    assert found.decision == "failed" and found.drop == pytest.approx(1.0) and found.drop_low < 0.5 < found.drop_high
    assert "not beyond chance" in found.note and found.agreement == 0.99
    assert verdict(wrong_on(3), samples(100), max_drop=1.0).decision == "undecided"
    assert "no number of images" in verdict(wrong_on(3), samples(100), max_drop=1.0).note


def test_a_broken_engine_stops_the_run():
    calls = []

    def broken(feeds):
        calls.append(1)
        return {"y": -right(feeds)["y"]}

    found = verdict(broken, samples(5000))
    assert found.decision == "failed" and found.samples == len(calls) == 50 and found.drop_low > 50
    assert found.note == "plain after 50 of 5000 samples; the rest was not run" and found.sqnr_db < 0
    assert verdict(broken, samples(5000), look_every=0).samples == 5000
    assert verdict(broken, samples(5000), look_every=20, min_samples=35).samples == 40


def test_an_engine_without_a_drop_stops_the_run_where_the_limit_is_wide():
    found = verdict(right, samples(5000), max_drop=5.0)
    assert found.decision == "passed" and found.samples < 500 and found.drop_high <= 5.0


def test_a_list_is_visited_in_random_order_and_a_stream_as_it_comes():
    """A folder sorted by class: the first 300 of 2000 are one that the candidate gets wrong, 15 % in all."""
    bad = wrong_on(*range(300))
    assert verdict(bad, samples(2000), max_drop=20.0).decision == "passed"
    assert verdict(bad, iter(samples(2000)), max_drop=20.0).decision == "failed"
    assert verdict(bad, iter(samples(2000)), max_drop=20.0, look_every=0).decision == "passed"


def test_a_relative_limit_is_of_the_baselines_own_score():
    half = wrong_on(*range(0, 1000, 2))
    worse = wrong_on(*range(0, 1000, 2), 1, 3, 5, 7, 9)
    found = verdict(worse, samples(1000), baseline=half, drop_type="relative", max_drop=3.0, look_every=0)
    assert found.baseline == 50 and found.drop == pytest.approx(1.0) and found.decision == "passed"
    assert found.drop_type == "relative" and found.limit == 3.0


def test_batches_are_scored_as_the_mean_of_their_elements():
    batch = [Sample({"x": np.array([0])}, None, "b", (0, 1)) for _ in range(10)]
    found = verdict(lambda _: {"y": np.eye(2)}, batch, baseline=lambda _: {"y": np.eye(2)})
    assert found.baseline == 100
    assert verdict(lambda _: {"y": np.ones((2, 2))}, batch, baseline=lambda _: {"y": np.eye(2)}).candidate == 50


def test_what_has_no_classes_has_no_agreement():
    found = judge(lambda _: {"y": np.ones(1)}, lambda _: {"y": np.full(1, 1.1)}, samples(30), metric="sqnr",
                  judged="verified", max_drop=2.0)  # fmt: skip
    assert found.agreement is None and found.sqnr_db == pytest.approx(20.0) and found.drop == pytest.approx(1.0)
    two = {"a": np.ones(2), "b": np.ones(3)}
    assert judge(lambda _: two, lambda _: two, samples(30), metric="cosine", judged="likely").agreement is None
    assert judge(lambda _: two, lambda _: two, samples(30), metric="agreement:a", judged="likely").agreement == 1.0


def test_what_cannot_be_judged_is_refused():
    for options, match in (
        ({"max_drop": -1.0}, "of range"), ({"confidence": 0.4}, "of range"), ({"look_every": -1}, "of range"),
        ({"drop_type": "percent"}, "absolute and relative"), ({"judged": "sure"}, "verified"),
        ({"data": []}, "no sample"), ({"data": samples(3, label=None)}, "needs a label"),
        ({"baseline": wrong_on(*range(99)), "data": samples(99)}, "itself scores 0"),
        ({"candidate": lambda _: {"y": np.ones((1, 4))}}, "shape"),
    ):  # fmt: skip
        options = {"candidate": right, "data": samples(10), **options}
        with pytest.raises(UsageError, match=match):
            verdict(options.pop("candidate"), options.pop("data"), **options)


def test_a_baseline_that_is_never_right_does_not_pass_early():
    with pytest.raises(UsageError, match="itself scores 0"):
        verdict(right, samples(3000, label=0), max_drop=10.0)


def test_the_baseline_runs_once_for_many_candidates():
    baseline, fractions = Baseline(right), []
    for _ in range(3):
        verdict(right, samples(60), baseline=baseline, progress=lambda _, fraction: fractions.append(fraction))
    assert baseline.runs == 60 and fractions[:60] == sorted(fractions[:60]) and fractions[59] == 1.0


def test_a_fragile_layer_is_caught_and_the_repaired_plan_is_better():
    plan = make_plan()
    photos = labelled(plan, make_photos(120, seed=4))
    baseline = Baseline(Evaluator(plan.model).run)

    def verdict_of(changed, **options):
        return judge(baseline, Evaluator(place_qdq(changed)).run, photos, judged="likely", **options)

    caught = verdict_of(plan, metric="top1", max_drop=2.0)
    assert caught.decision == "failed" and caught.sqnr_db < 15
    repaired = plan.replace(high=frozenset({fragile_group(plan)}))
    assert verdict_of(repaired, metric="top1", max_drop=2.0).drop < caught.drop
    passed = verdict_of(repaired, metric="sqnr", max_drop=5.0)
    assert passed.decision == "passed" and passed.sqnr_db > 25
    assert verdict_of(plan, metric="sqnr", max_drop=5.0).decision == "failed"


def test_scales_from_a_wrong_preprocessing_are_caught():
    """Calibrated on pixels of 0 to 1 where the model is fed normal ones of some 20 times the range."""
    plan = make_plan(fragile=False)
    photos = labelled(plan, make_photos(60, seed=4))
    narrow = {name: dataclasses.replace(scale, scale=(scale.scale[0] / 20,)) for name, scale in plan.scales.items()}
    run = Evaluator(plan.model).run
    good = judge(run, Evaluator(place_qdq(plan)).run, photos, metric="sqnr", judged="likely", look_every=0)
    bad = judge(run, Evaluator(place_qdq(plan.replace(scales=narrow))).run, photos, metric="sqnr", judged="likely")
    assert good.sqnr_db > 25 and good.drop < 0.5
    assert bad.decision == "failed" and bad.samples == 50 and bad.sqnr_db < 10
