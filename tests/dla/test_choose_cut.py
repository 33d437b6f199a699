from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.dla.choose_cut import _drop_least, _raise_price, choose_cut, is_chain, solve_chain
from hwc.dla.cut_problem import CutProblem, Transfer, cost_of
from hwc.dla.min_cut import find_min_cut
from hwc.dla.partition import find_loadables
from tests.dla.problems import best_cost, problems

LIMITS = st.integers(min_value=0, max_value=3)


@settings(max_examples=200, deadline=None)
@given(problems(8, chain=True), LIMITS)
def test_a_chain_is_solved_exactly_within_the_limit(problem: CutProblem, limit: int) -> None:
    assert is_chain(problem)
    labels = choose_cut(problem, limit)
    assert len(find_loadables(problem, labels)) <= limit
    assert cost_of(problem, labels) == best_cost(problem, limit)


@settings(max_examples=100, deadline=None)
@given(problems(8, chain=True))
def test_the_two_methods_agree_on_chains(problem: CutProblem) -> None:
    assert cost_of(problem, solve_chain(problem, problem.size)) == cost_of(problem, find_min_cut(problem))


@settings(max_examples=150, deadline=None)
@given(problems(), LIMITS)
def test_a_graph_stays_within_the_limit_and_never_costs_more_than_the_gpu(problem: CutProblem, limit: int) -> None:
    labels = choose_cut(problem, limit)
    count = len(find_loadables(problem, labels))
    assert count <= limit
    assert cost_of(problem, labels) <= cost_of(problem, (False,) * problem.size)
    unlimited = find_min_cut(problem)
    if len(find_loadables(problem, unlimited)) <= limit:
        assert cost_of(problem, labels) == best_cost(problem)


def star(saves: tuple[int, ...]) -> CutProblem:
    """A GPU unit that feeds one unit per saving, each of which comes back to the GPU: as many loadables."""
    size = len(saves)
    feeds = [Transfer(f"in{i}", 0, (i + 1,), False, 1, 1) for i in range(size)]
    backs = [Transfer(f"out{i}", i + 1, (size + 1,), False, 1, 1) for i in range(size)]
    return CutProblem((0, *saves, 0), (None, *(0 for _ in saves), None), tuple(feeds + backs))


def test_the_least_valuable_loadables_go_to_the_gpu() -> None:
    problem = star((9, 4, 7, 5, 3, 8))
    labels = choose_cut(problem, 3)
    assert [i for i, on in enumerate(labels[1:-1]) if on] == [0, 2, 5]
    assert cost_of(problem, labels) == best_cost(problem, 3)
    assert sum(choose_cut(problem, 6)) == 6 and sum(choose_cut(problem, 0)) == 0
    # Each of the two ways finds it without the other.
    for labels in (_drop_least(problem, find_min_cut(problem), 3), _raise_price(problem, 3)):
        assert cost_of(problem, labels) == best_cost(problem, 3)


def test_what_is_no_chain_is_told_apart() -> None:
    assert not is_chain(star((1, 1)))
    assert not is_chain(CutProblem((1, 1), (0, 0), ()))  # nothing joins the two
    assert not is_chain(CutProblem((1, 1), (0, 0), (Transfer("t", 0, (1,), False, 0, 0),), (1, 2)))
