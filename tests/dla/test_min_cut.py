import pytest
from hypothesis import given, settings

from hwc.dla.cut_problem import OUTSIDE, CutProblem, Transfer, cost_of
from hwc.dla.min_cut import find_min_cut
from tests.dla.problems import all_labels, best_cost, problems


@settings(max_examples=150, deadline=None)
@given(problems())
def test_no_other_cut_is_cheaper(problem: CutProblem) -> None:
    labels = find_min_cut(problem)
    assert cost_of(problem, labels) == best_cost(problem)
    # Of all cheapest cuts it has the fewest units on DLA.
    assert sum(labels) == min(sum(cut) for cut in all_labels(problem) if cost_of(problem, cut) == best_cost(problem))


@settings(max_examples=50, deadline=None)
@given(problems())
def test_pinned_units_stay(problem: CutProblem) -> None:
    pinned = range(0, problem.size, 2)
    labels = find_min_cut(problem, fixed_on_gpu=pinned)
    assert not any(labels[unit] for unit in pinned)
    free = [cut for cut in all_labels(problem) if not any(cut[unit] for unit in pinned)]
    assert cost_of(problem, labels) == min(cost_of(problem, cut) for cut in free)


def test_a_tensor_with_two_readers_is_paid_once() -> None:
    # Units 1 and 2 both save 6 on DLA and read one tensor that costs 10 to bring there: worth it together.
    shared = Transfer("t", 0, (1, 2), False, 10, 0)
    problem = CutProblem((0, 6, 6), (None, 0, 0), (shared,))
    assert find_min_cut(problem) == (False, True, True)
    apart = (Transfer("a", 0, (1,), False, 10, 0), Transfer("b", 0, (2,), False, 10, 0))
    assert find_min_cut(CutProblem((0, 6, 6), (None, 0, 0), apart)) == (False, False, False)


def test_the_way_out_is_paid_for() -> None:
    out = Transfer("y", 0, (), True, 0, 5)
    assert find_min_cut(CutProblem((4,), (0,), (out,))) == (False,)
    assert find_min_cut(CutProblem((6,), (0,), (out,))) == (True,)


def test_a_penalty_keeps_everything_on_the_gpu() -> None:
    problem = CutProblem((9,), (0,), (Transfer("x", OUTSIDE, (0,), False, 1, 1),))
    assert find_min_cut(problem) == (True,)
    assert find_min_cut(problem, entry_penalty=100) == (False,)


def test_a_deep_graph_does_not_exhaust_the_stack() -> None:
    size = 5000
    chain = tuple(Transfer(f"t{i}", i, (i + 1,), False, 3, 3) for i in range(size - 1))
    labels = find_min_cut(CutProblem((2,) * size, (1,) * size, chain))
    assert labels == (True,) * size


def test_a_unit_that_may_not_be_there_has_no_cost_there() -> None:
    with pytest.raises(ValueError, match="may not run on DLA"):
        cost_of(CutProblem((1,), (None,), ()), (True,))
