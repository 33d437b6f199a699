import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.dla.cut_problem import CutProblem, Transfer
from hwc.dla.partition import check_order, find_loadables
from hwc.errors import InternalError
from tests.dla.problems import all_labels, problems


def graph(size: int, *edges: tuple[int, int], batch: tuple[int, ...] = ()) -> CutProblem:
    """Units joined by one tensor per edge, at no cost."""
    transfers = tuple(Transfer(f"{a}-{b}", a, (b,), False, 0, 0) for a, b in edges)
    return CutProblem((0,) * size, (0,) * size, transfers, batch)


def reach(problem: CutProblem, start: int) -> set[int]:
    found, queue = set(), [start]
    while queue:
        at = queue.pop()
        for a, b in problem.edges():
            if a == at and b not in found:
                found.add(b)
                queue.append(b)
    return found


@settings(max_examples=150, deadline=None)
@given(problems(batches=True), st.data())
def test_every_cut_has_an_order(problem: CutProblem, data) -> None:
    labels = data.draw(st.sampled_from(all_labels(problem)))
    loadables = find_loadables(problem, labels)  # judged by check_order inside
    assert sorted(unit for part in loadables for unit in part) == [u for u in range(problem.size) if labels[u]]
    for part in loadables:
        assert len({problem.batch_at(unit) for unit in part}) == 1
        # Convex: whatever lies between two of its units is in it, by search and not by levels.
        between = {u for a in part for u in reach(problem, a) if reach(problem, u) & set(part)}
        assert between <= set(part)
        # Connected.
        inside = {part[0]}
        while True:
            more = {u for a, b in problem.edges() for u in (a, b) if {a, b} <= set(part) and {a, b} & inside}
            if more <= inside:
                break
            inside |= more
        assert inside == set(part)


def test_a_chain_is_cut_where_the_device_changes() -> None:
    assert find_loadables(graph(4, (0, 1), (1, 2), (2, 3)), (True, True, False, True)) == ((0, 1), (3,))


def test_a_skip_over_the_gpu_cuts_a_loadable() -> None:
    # 0 feeds 2 both directly and through 1 on the GPU: one loadable would wait for its own output.
    problem = graph(3, (0, 1), (1, 2), (0, 2))
    assert find_loadables(problem, (True, False, True)) == ((0,), (2,))
    assert find_loadables(problem, (True, True, True)) == ((0, 1, 2),)


def test_levels_alone_would_cut_more_than_needed() -> None:
    # 4 reads DLA unit 0 and, through the GPU, DLA unit 2, which has nothing to do with 0: 0 and 4 can be one.
    problem = graph(5, (0, 4), (1, 2), (2, 3), (3, 4))
    assert find_loadables(problem, (True, False, True, False, True)) == ((0, 4), (2,))


def test_batches_are_not_mixed() -> None:
    assert find_loadables(graph(2, (0, 1), batch=(1, 8)), (True, True)) == ((0,), (1,))


def test_the_check_bites() -> None:
    problem = graph(3, (0, 1), (1, 2), (0, 2))
    with pytest.raises(InternalError, match="waits for its own output"):
        check_order(problem, [(0, 2)])
    with pytest.raises(InternalError, match="share a unit"):
        check_order(problem, [(0, 1), (1, 2)])
    check_order(problem, [(0, 1, 2)])


def test_the_check_sees_two_loadables_that_wait_for_each_other() -> None:
    problem = graph(4, (0, 1), (2, 3), (1, 2))
    check_order(problem, [(0, 1), (2, 3)])
    with pytest.raises(InternalError, match="waits"):
        check_order(graph(4, (0, 1), (2, 3)), [(0, 3), (1, 2)])
