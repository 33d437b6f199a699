import pytest

from hwc.dla.estimate_times import (
    ENTER_SECONDS,
    LAYER_SECONDS,
    LEAVE_SECONDS,
    estimate_crossing_seconds,
    estimate_dla_seconds,
    estimate_gpu_seconds,
    estimate_reformat_seconds,
)
from tests.dla.judged import ORIN, XAVIER, board, model


def conv(channels: int, group: int = 1, size: int = 56):
    graph = model(
        f"c = Conv<pads=[1,1,1,1], group={group}>(x, w) y = Relu(c)", f"float[1,{channels},{size},{size}] x",
        f"float[1,{channels},{size},{size}] y", arrays={"w": (channels, channels // group, 3, 3)},
    )
    return list(graph.graph)


def test_a_large_convolution_takes_operations_over_rate() -> None:
    flops = 2 * 256 * 256 * 9 * 56 * 56
    expected = flops / (11.43e12 / 2 * 0.6) + LAYER_SECONDS
    assert estimate_dla_seconds(conv(256), board(precision="int8")) == pytest.approx(expected)
    assert estimate_dla_seconds(conv(256), board(XAVIER)) == pytest.approx(expected + flops / (11.43e12 / 2 * 0.6))


def test_channels_are_padded_to_whole_vectors() -> None:
    on = board(precision="int8")
    few, full = (estimate_dla_seconds(conv(n, size=112), on) for n in (33, 64))
    assert few > full / 2 * 1.01  # 33 input channels cost like 64, on half the outputs


def test_depthwise_is_slow_on_the_first_generation_alone() -> None:
    nodes = conv(512, group=512)
    bound = 512 * 56 * 56 * 2 / (136.5e9 * 0.4)  # what reading and writing would take
    assert estimate_dla_seconds(nodes, board(precision="int8")) > 1.5 * bound
    assert estimate_dla_seconds(nodes, board(ORIN, "int8")) < estimate_dla_seconds(nodes, board(precision="int8"))


def test_a_rider_costs_nothing_of_its_own() -> None:
    nodes = conv(256)
    on = board(precision="int8")
    assert estimate_dla_seconds(nodes, on) == pytest.approx(estimate_dla_seconds(nodes[:1], on), rel=0.01)


def test_a_crossing_is_a_kernel_and_a_wait() -> None:
    value, on = conv(64)[0].inputs[0], board(XAVIER)
    into, back = estimate_crossing_seconds(value, on)
    kernel = 6e-6 + 2 * 64 * 56 * 56 * 2 / (136.5e9 * 0.8)
    assert (into, back) == pytest.approx((kernel + ENTER_SECONDS, kernel + LEAVE_SECONDS))
    assert estimate_reformat_seconds(value, on) == pytest.approx(kernel)


def test_what_has_no_static_cost_has_no_estimate() -> None:
    branches = "then_branch = t () => (float[2] u) { u = Relu(x) }, else_branch = e () => (float[2] v) { v = Neg(x) }"
    nodes = list(model(f"y = If(c) <{branches}>", "float[2] x, bool c", "float[2] y").graph)
    assert estimate_gpu_seconds(nodes, board(XAVIER)) is None
    assert estimate_gpu_seconds(conv(64), board(XAVIER)) > 0
