import dataclasses

import pytest

from hwc.passes.symmetrize_padding import symmetrize_padding
from tests.passes.build import weight
from tests.passes.check import check_pass, ops
from tests.passes.for_dla import XAVIER, graph, on, with_facts

WANTED = dataclasses.replace(on(), target=with_facts(XAVIER, dla__asymmetric_padding=False))


def conv(attributes: str, group: int = 1, x: str = "1,4,9,8", kernel=(3, 3)):
    return graph(f"y = Conv<group={group}, {attributes}>(x, w)", x, "a,b,c,d", {"w": weight(4, 4 // group, *kernel)})


@pytest.mark.parametrize(
    ("model", "kernel"),
    [
        (conv("pads=[0,0,1,1], strides=[2,2]"), [4, 4]),
        (conv("pads=[2,0,0,1]"), [5, 4]),
        (conv("pads=[0,1,1,1]", group=4), [4, 3]),
        (conv('auto_pad="SAME_UPPER", strides=[2,2]'), [3, 4]),
        (conv("pads=[0,0,2,2], dilations=[2,1]"), [4, 5]),
    ],
)
def test_forms(model, kernel) -> None:
    after, _, _ = check_pass(symmetrize_padding, model, rewrites=1, ctx=WANTED)
    assert ops(after) == ["Conv"] and list(after.graph[0].attributes["kernel_shape"].as_ints()) == kernel
    pads = list(after.graph[0].attributes["pads"].as_ints())
    assert pads[:2] == pads[2:]


def test_only_where_it_is_known_to_be_needed() -> None:
    model = conv("pads=[0,0,1,1]")
    check_pass(symmetrize_padding, model, rewrites=0, ctx=on())
    able = dataclasses.replace(on(), target=with_facts(XAVIER, dla__asymmetric_padding=True))
    check_pass(symmetrize_padding, model, rewrites=0, ctx=able)
    check_pass(symmetrize_padding, model, rewrites=0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (conv("pads=[0,0,1,1], dilations=[2,2]"), "multiple of the dilation"),
        (conv("pads=[0,0,3,0]", x="1,4,64,8", kernel=(31, 1)), "would become 34"),
    ],
)
def test_near_misses(model, reason) -> None:
    _, _, report = check_pass(symmetrize_padding, model, rewrites=0, ctx=WANTED)
    assert reason in report.misses[0].reason


def test_equal_padding_is_not_near() -> None:
    _, _, report = check_pass(symmetrize_padding, conv("pads=[1,1,1,1]"), rewrites=0, ctx=WANTED)
    assert report.misses == ()
