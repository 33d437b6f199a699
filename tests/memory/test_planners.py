"""Plans are right and, where that can be known, as low as any: against every order, and minimalloc's instances."""

import pytest
from hypothesis import HealthCheck, given, settings

from hwc.artifacts_memory import Buffer
from hwc.errors import UsageError
from hwc.memory import compiled
from hwc.memory.check import check_plan
from hwc.memory.csv_file import read_problem
from hwc.memory.lifetimes import lower_bound
from hwc.memory.planners import plan
from tests.memory.problems import instance, optimum, problems


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(most=6, alignments=(1, 2, 4)))
def test_a_small_problem_is_solved_to_its_optimum(buffers):
    made = plan(buffers, seconds=20, may_compile=False)
    check_plan(made)
    assert made.height_bytes == optimum(buffers)
    assert made.height_bytes >= made.bound_bytes >= lower_bound(buffers)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(most=6))
def test_a_capacity_below_the_optimum_is_proved_impossible(buffers):
    best = optimum(buffers)
    if best == 0:
        return
    made = plan(buffers, best - 1, seconds=20, may_compile=False)
    check_plan(made)
    assert made.is_impossible and not made.fits and made.bound_bytes > best - 1


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(most=12, alignments=(1, 4), lanes=("", "copy", "compute")))
def test_lanes_are_stacked(buffers):
    made = plan(buffers, seconds=1, may_compile=False)
    check_plan(made)
    assert made.bound_bytes >= lower_bound(buffers)


@pytest.mark.parametrize("name", ["example", "C"])
def test_instances_are_solved_at_their_capacity_without_a_compiler(name):
    path, capacity = instance(name)
    made = plan(read_problem(path), capacity, seconds=120, may_compile=False)
    check_plan(made)
    assert made.fits and made.height_bytes <= capacity
    assert made.nodes == 0 or made.method == "search, interpreted"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["A", "C", "D", "F", "H", "I", "K"])
def test_instances_are_solved_at_their_capacity(name):
    path, capacity = instance(name)
    made = plan(read_problem(path), capacity, seconds=60)
    check_plan(made)
    assert made.fits and (name in ("C", "D") or made.is_optimal)


@pytest.mark.slow
def test_the_compiled_kernel_searches_as_the_interpreted_one_does():
    pytest.importorskip("numba")
    assert compiled.can_compile()
    path, capacity = instance("H")
    buffers = read_problem(path)
    fast, slow = plan(buffers, capacity, seconds=300), plan(buffers, capacity, seconds=300, may_compile=False)
    assert fast.method == "search, compiled" and slow.method == "search, interpreted"
    assert fast.offsets == slow.offsets


@pytest.mark.slow
def test_equal_problems_give_equal_plans():
    buffers = read_problem(instance("C")[0])
    first, second = (plan(buffers, seconds=60, capacity=1048576, may_compile=False) for _ in range(2))
    assert first.offsets == second.offsets


def test_greedy_alone_is_not_enough_on_a_hard_problem():
    path, capacity = instance("A")
    made = plan(read_problem(path), capacity, seconds=0)
    check_plan(made)
    assert not made.fits and not made.is_impossible and made.ratio > 1.17


def test_nothing_to_plan():
    made = plan(())
    check_plan(made)
    assert made.height_bytes == 0 and made.is_optimal and made.ratio == 1.0
    empty = plan((Buffer("a", 0, 0, 1), Buffer("b", 0, 0, 2)), 0)
    check_plan(empty)
    assert empty.fits


def test_bad_arguments_are_refused():
    with pytest.raises(UsageError, match="one name"):
        plan((Buffer("a", 1, 0, 1), Buffer("a", 1, 0, 1)))
    with pytest.raises(UsageError, match="negative"):
        plan((Buffer("a", 1, 0, 1),), -1)
    for size, start, end, alignment in ((-1, 0, 1, 1), (1, 1, 1, 1), (1, 0, 1, 0)):
        with pytest.raises(UsageError, match="a buffer needs"):
            Buffer("a", size, start, end, "", alignment)
