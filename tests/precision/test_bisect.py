"""The layer at fault is named, alone or with its accomplice, with figures that were measured."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.artifacts import FusionGroup
from hwc.errors import UsageError
from hwc.graph.evaluate import Evaluator
from hwc.precision.bisect import find_breaking_layer
from hwc.precision.place_qdq import place_qdq
from hwc.precision.sensitivity import measure_noise, quantized_groups, source_layers
from hwc.precision.trial_log import TrialLog
from tests.precision.fragile_model import FRAGILE, fragile_group, make_photos, make_plan

GROUPS = [FusionGroup(f"g{i}", "Conv+Relu", (f"conv{i}", f"relu{i}"), (), ()) for i in range(16)]
LAYERS = {group.id: (f"net.{group.id}",) for group in GROUPS}
IDS = frozenset(LAYERS)


def bisect(breaks, **options):
    """`breaks(low)`: whether the model is bad with these groups low. A run is just the set of groups in low."""

    def measure(low):
        return not breaks(low), 10.0 if breaks(low) else 0.1

    return find_breaking_layer(GROUPS, lambda high: IDS - high, measure, layers=LAYERS, **options)


@pytest.mark.parametrize("index", [0, 7, 15])
def test_a_single_layer_is_named(index):
    found = bisect(lambda low: f"g{index}" in low)
    assert found.answer == "single" and found.repair == (f"g{index}",) and found.causes == ((f"g{index}",),)
    (suspect,) = found.suspects
    assert suspect.layers == (f"net.g{index}",) and suspect.breaks_alone and suspect.repairs
    assert (suspect.drop_alone, suspect.drop_without) == (10.0, 0.1)
    name = f"g{index} (Conv+Relu: net.g{index})"
    assert found.sentence() == f"{name} breaks the model; putting back {name} repairs it"
    assert found.trials <= 14


def test_two_layers_that_break_it_only_together():
    found = bisect(lambda low: {"g3", "g12"} <= low)
    assert found.answer == "together" and found.causes == (("g3", "g12"),) and len(found.repair) == 1
    assert [(s.group, s.breaks_alone, s.repairs) for s in found.suspects] == [("g3", False, True), ("g12", False, True)]
    assert "no single layer: g3 (Conv+Relu: net.g3) and g12 (Conv+Relu: net.g12) together" in found.sentence()


def test_two_layers_that_each_break_it():
    found = bisect(lambda low: bool({"g3", "g12"} & low))
    assert found.answer == "several" and sorted(found.causes) == [("g12",), ("g3",)]
    assert sorted(found.repair) == ["g12", "g3"]
    assert all(s.breaks_alone and not s.repairs for s in found.suspects)
    assert found.sentence().startswith("no single layer: g")


def test_noise_of_many_is_not_blamed_on_one():
    found = bisect(lambda low: len(low) > 8)
    assert found.answer == "many" and found.repair == () and "no small set" in found.sentence()


def test_one_layer_and_the_noise_of_many():
    found = bisect(lambda low: "g5" in low and len(low) > 8)
    assert found.answer == "single" and found.repair == ("g5",) and "noise of many others" in found.sentence()
    (suspect,) = found.suspects
    assert not suspect.breaks_alone and suspect.repairs


def test_both_ends_are_told_apart():
    assert bisect(lambda low: False).answer == "nothing"
    elsewhere = bisect(lambda low: True)
    assert elsewhere.answer == "elsewhere" and "not the precision" in elsewhere.sentence() and elsewhere.trials == 2
    with pytest.raises(UsageError):
        find_breaking_layer([], lambda high: None, lambda run: (True, 0.0), layers={})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.frozensets(st.integers(0, 15), min_size=1, max_size=3), min_size=1, max_size=4))
def test_every_cause_breaks_alone_and_is_smallest_and_the_repair_repairs(conflicts):
    def breaks(low):
        return any({f"g{i}" for i in conflict} <= low for conflict in conflicts)

    found = bisect(breaks)
    for cause in found.causes:
        assert breaks(set(cause))
        assert not any(breaks(set(cause) - {group}) for group in cause)
    if found.repair:
        assert not breaks(IDS - set(found.repair))
    singles = [group for group in IDS if not breaks(IDS - {group})]
    assert (len(found.repair) == 1) == bool(singles)
    if found.answer == "single":
        assert found.repair[0] in singles


def test_an_interrupted_search_goes_on(tmp_path):
    asked = []

    def breaks(low, stop_after=10**9):
        if len(asked) == stop_after:
            raise KeyboardInterrupt
        asked.append(low)
        return "g9" in low

    def measure(low, **options):
        bad = breaks(low, **options)
        return not bad, float(bad)

    path = tmp_path / "trials.jsonl"
    with pytest.raises(KeyboardInterrupt):
        find_breaking_layer(GROUPS, lambda high: IDS - high, lambda run: measure(run, stop_after=4), layers=LAYERS,
                            log=TrialLog(path, "k"))  # fmt: skip
    found = find_breaking_layer(GROUPS, lambda high: IDS - high, measure, layers=LAYERS, log=TrialLog(path, "k"))
    assert found.repair == ("g9",) and len(asked) == len(set(asked)) == found.trials


def test_the_fragile_layer_of_a_real_graph_is_named():
    plan, photos = make_plan(), make_photos(6)
    baseline = Evaluator(plan.model).run

    def measure(run):
        noise = measure_noise(run, baseline, photos, None)
        return noise.sqnr_db >= 23.0, -noise.sqnr_db

    ids = quantized_groups(plan)
    found = find_breaking_layer(
        [group for group in plan.groups if group.id in ids],
        lambda high: Evaluator(place_qdq(plan.replace(high=high))).run, measure,
        layers=source_layers(plan.model, plan.groups),
    )  # fmt: skip
    assert found.answer == "single" and found.repair == (fragile_group(plan),)
    assert FRAGILE in found.sentence() and found.suspects[0].drop_without < -23 < found.suspects[0].drop_alone
