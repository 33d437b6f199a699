"""What may be virtual, and what a plan says about bytes against the graph that it writes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.reduce.choose_tiles import choose_tiles
from hwc.reduce.live_bytes import peak_bytes
from hwc.reduce.plan_tiles import Tiler
from hwc.reduce.write_tiles import write_tiles
from tests.reduce.nets import PRICE, Network, chain, finish, random_net, small_unet


def names(values) -> list[str]:
    return [value.producer().op_type for value in values]


def test_what_is_read_as_a_whole_is_stored():
    net = Network("head", (3, 8, 8))
    x = net.conv(net.input, 4, 3)
    model = finish(net, net.head(x, 10), net.reshape(net.conv(x, 2, 3, act=""), 1, 128))
    assert names(Tiler(model, PRICE).optional) == ["Conv", "Relu"]


def test_a_transpose_and_an_odd_factor_are_not_cut():
    net = Network("odd", (3, 8, 8))
    x = net.transpose(net.conv(net.input, 4, 3, act=""), 0, 1, 3, 2)
    model = finish(net, net.conv(x, 2, 3, act=""))
    assert names(Tiler(model, PRICE).optional) == []


def test_without_virtual_values_the_plan_is_the_graph():
    for model in (chain(), small_unet(), random_net(5)):
        plan = Tiler(model, PRICE).plan((), 0)
        assert plan.regions == () and plan.peak_bytes == peak_bytes(model)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.data())
def test_the_planned_peak_is_close_to_the_peak_of_what_is_written(seed, data):
    model = random_net(seed)
    tiler = Tiler(model, PRICE)
    virtual = {v for v in tiler.optional if data.draw(st.booleans())}
    plan = tiler.plan(virtual, data.draw(st.integers(0, 20000)))
    # Moments and shapes of tiles at the border are what it leaves out or rounds up.
    assert 0.4 * peak_bytes(write_tiles(model, plan)) <= plan.peak_bytes + 4096


def test_the_choice_is_the_same_every_time():
    model = small_unet((1, 16, 16, 16))
    budget = peak_bytes(model) // 2
    first, second = (choose_tiles(Tiler(model, PRICE), budget, tries=40)[0] for _ in range(2))
    assert [(r.node.name, g) for r, g in first.regions] == [(r.node.name, g) for r, g in second.regions]
