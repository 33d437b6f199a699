"""The bound is the most alive at once, per lane."""

from hypothesis import HealthCheck, given, settings

from hwc.artifacts_memory import Buffer
from hwc.memory.lifetimes import live_bytes, lower_bound, peak_tick
from hwc.memory.sections import find_runs, find_sections, list_members
from tests.memory.problems import problems


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(most=12))
def test_the_bound_is_the_most_alive_at_any_tick(buffers):
    most = max(sum(b.size_bytes for b in buffers if b.start <= tick < b.end) for tick in range(9))
    assert lower_bound(buffers) == most == dict(live_bytes(buffers))[peak_tick(buffers)]


def test_lanes_add_up_and_half_open_ends_do_not_meet():
    assert lower_bound((Buffer("a", 3, 0, 1), Buffer("b", 4, 1, 2))) == 4
    assert lower_bound((Buffer("a", 3, 0, 1, "x"), Buffer("b", 4, 1, 2, "y"))) == 7
    assert lower_bound(()) == 0


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(most=12))
def test_two_buffers_clash_if_and_only_if_their_sections_meet(buffers):
    starts, ends = [b.start for b in buffers], [b.end for b in buffers]
    ticks = find_sections(starts, ends)
    first, last = find_runs(starts, ends, ticks)
    members = [set(inside) for inside in list_members(first, last, len(ticks))]
    for i, a in enumerate(buffers):
        assert first[i] <= last[i]
        for j, b in enumerate(buffers):
            assert (a.start < b.end and b.start < a.end) == any({i, j} <= inside for inside in members)
    # Maximal: none lies within another.
    assert not any(a < b for a in members for b in members)
