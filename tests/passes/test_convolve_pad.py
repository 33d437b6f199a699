import pytest

from hwc.passes.base import run_pass
from hwc.passes.convolve_pad import convolve_pad
from tests.passes.build import weight
from tests.passes.check import ops
from tests.passes.for_dla import graph, on, rewrite


def padded(pads: str, mode: str = ""):
    return graph(f"p = Constant<value_ints=[{pads}]>() y = Pad{mode}(x, p)", "2,3,5,6", "a,b,c,d")


def conv(attributes: str, kernel: int = 3):
    return graph(f"y = Conv<{attributes}>(x, w)", "2,3,9,10", "a,b,c,d", {"w": weight(4, 3, kernel, kernel)})


@pytest.mark.parametrize("pads", ["0,0,1,1,0,0,1,1", "0,0,1,0,0,0,0,2", "0,0,0,3,0,0,4,1"])
def test_pad_becomes_a_conv(pads) -> None:
    after, _, _ = rewrite(convolve_pad, padded(pads))
    assert ops(after) == ["Conv"]
    own = list(after.graph[0].attributes["pads"].as_ints())
    kernel = list(after.graph[0].attributes["kernel_shape"].as_ints())
    assert own[:2] == own[2:] and all(pad < size for pad, size in zip(own, [*kernel, *kernel]))


@pytest.mark.parametrize(
    "attributes", ["pads=[6,6,6,6], dilations=[6,6]", "pads=[3,0,5,1]", "pads=[4,4,4,4], strides=[2,2]"]
)
def test_padding_as_large_as_the_kernel(attributes) -> None:
    after, _, _ = rewrite(convolve_pad, conv(attributes))
    assert ops(after) == ["Conv", "Conv"]
    for node in after.graph:
        size = list(node.inputs[1].shape)[2:]
        assert all(pad < side for pad, side in zip(node.attributes["pads"].as_ints(), [*size, *size]))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (padded("0,1,0,0,0,0,0,0"), "batch or channels"),
        (padded("0,0,-1,0,0,0,0,0"), "crops"),
        (padded("0,0,1,1,0,0,1,1", '<mode="edge">'), "mode is edge"),
        (padded("0,0,20,0,0,0,20,0"), "padding of 40"),
    ],
)
def test_near_misses(model, reason) -> None:
    _, step, report = run_pass(model, convolve_pad, on())  # the reference evaluator cannot crop
    assert step.rewrites == 0
    assert reason in report.misses[0].reason


def test_small_padding_is_not_near() -> None:
    _, _, report = rewrite(convolve_pad, conv("pads=[2,2,2,2]"), rewrites=0)
    assert report.misses == ()
