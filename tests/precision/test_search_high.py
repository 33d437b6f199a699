"""The result passes, and every group in it is needed; few trials; resumable."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.errors import UsageError
from hwc.graph.evaluate import Evaluator
from hwc.precision.place_qdq import place_qdq
from hwc.precision.search_high import search_high
from hwc.precision.sensitivity import measure_noise, rank_groups
from hwc.precision.trial_log import TrialLog
from tests.precision.fragile_model import fragile_group, make_photos, make_plan

GROUPS = [f"g{i}" for i in range(20)]


def needs(*wanted):
    """Passes when all of `wanted` are high; one point is lost for each that is not."""
    return lambda high: (set(wanted) <= high, float(len(set(wanted) - high)))


def test_nothing_is_put_back_where_nothing_hurts():
    found = search_high(GROUPS, needs())
    assert found.high == () and found.cost_us is None and len(found.trials) == 1
    assert search_high(GROUPS, needs(), cost=lambda _: 1.0, cost_source="estimate").cost_us == 0


@pytest.mark.parametrize("wanted", [("g0",), ("g13",), ("g19",), ("g0", "g19"), ("g2", "g5", "g11"), tuple(GROUPS)])
def test_exactly_what_is_needed_is_found(wanted):
    found = search_high(GROUPS, needs(*wanted), cost=lambda group: 2.5, cost_source="measured")
    assert found.high == wanted and found.drop == 0.0
    assert found.cost_us == 2.5 * len(wanted) and found.cost_source == "measured"
    assert len({trial.high for trial in found.trials}) == len(found.trials)  # no set twice


def test_one_needed_among_many_takes_few_trials():
    many = [f"g{i}" for i in range(256)]
    assert len(search_high(many, needs("g0")).trials) <= 3
    assert len(search_high(many, needs("g200")).trials) <= 34
    assert len(search_high(many, needs("g3", "g100", "g200")).trials) <= 60


@settings(max_examples=150, deadline=None)
@given(st.lists(st.frozensets(st.integers(0, 7), min_size=1, max_size=4), min_size=1, max_size=4), st.booleans())
def test_whatever_the_requirement_no_single_group_can_be_left_out(alternatives, is_monotone):
    """Also where putting one more back makes it worse, as when two noises cancel."""

    def evaluate(high):
        numbers = {int(group[1:]) for group in high}
        passed = any(option <= numbers if is_monotone else option == numbers for option in alternatives)
        return passed, 0.0 if passed else 1.0

    order = GROUPS[:8]
    found = search_high(order, evaluate)
    if found.high is None:
        assert not evaluate(frozenset(order))[0] or not is_monotone
        return
    assert evaluate(frozenset(found.high))[0]
    for group in found.high:
        assert not evaluate(frozenset(found.high) - {group})[0]


def test_no_set_that_passes_is_said():
    found = search_high(GROUPS[:4], lambda high: (False, 5.0 - len(high)))
    assert found.high is None and found.drop == 1.0 and found.cost_us is None
    assert found.trials[-1].high == tuple(GROUPS[:4])


def test_fixed_groups_are_in_every_trial_and_not_in_the_answer():
    seen = []

    def evaluate(high):
        seen.append(high)
        return needs("g1", "kept")(high)

    assert search_high(GROUPS, evaluate, fixed=frozenset({"kept"})).high == ("g1",)
    assert all("kept" in high for high in seen)


def test_an_interrupted_search_goes_on(tmp_path):
    path, asked = tmp_path / "trials.jsonl", []

    def evaluate(high, stop_after=10**9):
        if len(asked) == stop_after:
            raise KeyboardInterrupt
        asked.append(high)
        return needs("g3", "g11")(high)

    with pytest.raises(KeyboardInterrupt):
        search_high(GROUPS, lambda high: evaluate(high, 5), log=TrialLog(path, "k"))
    found = search_high(GROUPS, evaluate, log=TrialLog(path, "k"))
    whole = search_high(GROUPS, needs("g3", "g11"))
    assert found.high == ("g3", "g11") and len(asked) == len(set(asked)) == len(found.trials)
    assert [t.high for t in found.trials] == [t.high for t in whole.trials]
    search_high(GROUPS, evaluate, log=TrialLog(path, "another limit"))
    assert len(asked) == 2 * len(found.trials)


def test_options_are_checked_and_progress_stays_in_range():
    with pytest.raises(UsageError):
        search_high(["g0", "g0"], needs())
    with pytest.raises(UsageError, match="measured"):
        search_high(GROUPS, needs(), cost=lambda _: 1.0)
    fractions = []
    search_high(GROUPS, needs(*GROUPS), progress=lambda _, fraction: fractions.append(fraction))
    assert fractions == sorted(fractions) and fractions[-1] < 1


def test_the_fragile_layer_is_the_one_that_is_put_back():
    plan, photos = make_plan(), make_photos(6)
    baseline = Evaluator(plan.model).run

    def evaluate(high):
        noise = measure_noise(Evaluator(place_qdq(plan.replace(high=high))).run, baseline, photos, None)
        return noise.sqnr_db >= 23.0, -noise.sqnr_db

    order = [s.group for s in rank_groups(plan, baseline, photos, without_worst=0)]
    assert search_high(order, evaluate).high == (fragile_group(plan),)
    # A useless order costs trials, not the answer.
    assert search_high(order[::-1], evaluate).high == (fragile_group(plan),)
