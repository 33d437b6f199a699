"""The judge of plans agrees with a count of every byte, and each kind of wrong plan is seen to fail."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwc.artifacts_memory import Buffer
from hwc.errors import InternalError
from hwc.memory.check import check_plan, fault_of_offsets, fault_of_plan
from hwc.memory.planners import plan
from tests.memory.problems import clash_by_bytes, problems

# A busy machine is no fault of the code.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@CALM
@given(problems(), st.data())
def test_any_offsets_are_judged_as_a_count_of_every_byte_does(buffers, data):
    offsets = tuple(data.draw(st.integers(0, 24)) for _ in buffers)
    assert bool(fault_of_offsets(buffers, offsets)) == clash_by_bytes(buffers, offsets)


@CALM
@given(problems(alignments=(1, 4), lanes=("", "copy")), st.data())
def test_a_corrupted_offset_is_caught_unless_the_plan_is_still_right(buffers, data):
    made = plan(buffers, seconds=0)
    check_plan(made)
    index = data.draw(st.integers(0, len(buffers) - 1))
    wrong = data.draw(st.integers(-4, made.height_bytes + 4).filter(lambda offset: offset != made.offsets[index]))
    offsets = (*made.offsets[:index], wrong, *made.offsets[index + 1:])
    top = max(offset + b.size_bytes for b, offset in zip(buffers, offsets))
    lanes = {lane.name: lane for lane in made.lanes}
    part = lanes[buffers[index].lane]
    is_right = (
        wrong >= 0 and wrong % buffers[index].alignment == 0 and top == made.height_bytes
        and part.base_bytes <= wrong <= part.base_bytes + part.height_bytes - buffers[index].size_bytes
        and not clash_by_bytes(buffers, offsets)
    )  # fmt: skip
    fault = fault_of_plan(replace(made, offsets=offsets))
    assert (fault == "") == is_right


@settings(CALM, max_examples=200)
@given(st.data())
def test_in_a_perfect_packing_any_moved_buffer_is_caught(data):
    # Every tick is full to the last byte, so there is nowhere else for any buffer to be.
    buffers = (*(Buffer(f"a{k}", 3, k, k + 1) for k in range(4)), Buffer("b", 5, 0, 4), Buffer("c", 2, 0, 2),
               Buffer("d", 2, 2, 4))  # fmt: skip
    made = plan(buffers)
    assert made.height_bytes == 10 and made.is_optimal
    index = data.draw(st.integers(0, len(buffers) - 1))
    wrong = data.draw(st.integers(-3, 13).filter(lambda offset: offset != made.offsets[index]))
    offsets = (*made.offsets[:index], wrong, *made.offsets[index + 1:])
    assert fault_of_plan(replace(made, offsets=offsets))


def right_plan():
    return plan((Buffer("a", 4, 0, 2), Buffer("b", 4, 1, 3), Buffer("c", 2, 0, 1, "copy"), Buffer("d", 0, 0, 9)))


def test_every_statement_of_a_plan_is_checked():
    good = right_plan()
    check_plan(good)
    copy = next(lane for lane in good.lanes if lane.name == "copy")
    for changes, word in (
        ({"height_bytes": good.height_bytes + 1}, "the last byte used"),
        ({"offsets": good.offsets[:-1]}, "offsets"),
        ({"bound_bytes": good.bound_bytes - 1}, "sum of the lanes"),
        ({"lanes": good.lanes[:1]}, ""),
        ({"lanes": (replace(copy, base_bytes=copy.base_bytes - 1), *[x for x in good.lanes if x is not copy])}, ""),
        ({"lanes": (*good.lanes, copy)}, "one lane"),
        ({"lanes": tuple(replace(x, bound_bytes=x.bound_bytes - 1) for x in good.lanes),
          "bound_bytes": good.bound_bytes - len(good.lanes)}, "alive at once"),
        ({"lanes": tuple(replace(x, bound_bytes=99) for x in good.lanes)}, "less than its bound"),
    ):  # fmt: skip
        with pytest.raises(InternalError) as caught:
            check_plan(replace(good, **changes))
        assert word in caught.value.got


def test_lanes_that_share_bytes_are_refused():
    buffers = (Buffer("a", 4, 0, 1), Buffer("b", 4, 5, 6, "copy"))
    assert "share bytes" in fault_of_offsets(buffers, (0, 3))
    assert fault_of_offsets(buffers, (0, 4)) == ""
