"""A budget is kept by the graph that comes back, the cheapest way first, or the least that fits is named."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.errors import TargetError, UsageError
from hwc.graph.verify import verify_model
from hwc.reduce.live_bytes import peak_bytes
from hwc.reduce.lower_peak import lower_peak
from tests.passes.check import model_of
from tests.reduce.nets import PRICE, Network, chain, finish, largest_difference, random_net, small_unet


def test_what_fits_is_not_touched():
    model = chain()
    found = lower_peak(model, peak_bytes(model), PRICE)
    assert len(found) == 1 and found[0].model is model and found[0].steps == ()


def test_an_order_is_enough_where_it_is_enough():
    net = Network("branches", (1, 8, 8))
    wide = [net.conv(net.input, 16, 1, act="") for _ in range(4)]
    model = finish(net, net.concat(*[net.conv(x, 1, 1, act="") for x in wide]))
    found = lower_peak(model, peak_bytes(model) // 2, PRICE)
    assert len(found) == 1 and found[0].seconds == found[0].seconds_before
    assert "another order" in found[0].steps[0] and peak_bytes(found[0].model) <= peak_bytes(model) // 2


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("share", [0.7, 0.43])
def test_a_unet_fits_a_share_of_its_peak(norm, share):
    model = small_unet((1, 16, 16, 16), norm=norm)
    budget = int(peak_bytes(model) * share)
    found = lower_peak(model, budget, PRICE)
    assert [f.seconds for f in found] == sorted(f.seconds for f in found)
    for lowered in found:
        verify_model(lowered.model, "after fitting")
        assert lowered.peak_bytes == peak_bytes(lowered.model) <= budget
        assert largest_difference(model, lowered.model) < 2e-6


def test_a_larger_budget_never_costs_more():
    model = small_unet((1, 16, 16, 16))
    seconds = [lower_peak(model, int(peak_bytes(model) * share), PRICE)[0].seconds for share in (0.5, 0.7, 0.9, 1.0)]
    assert seconds == sorted(seconds, reverse=True)


def test_the_least_that_fits_is_named_and_does_fit():
    model = small_unet((1, 16, 16, 16))
    with pytest.raises(TargetError, match="no set of rewrites found fits") as caught:
        lower_peak(model, 1000, PRICE)
    least = int(re.search(r"\((\d+) bytes", caught.value.got).group(1))
    assert lower_peak(model, least, PRICE)[0].peak_bytes <= least < peak_bytes(model)


def test_open_sizes_are_refused():
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[n,3,8,8] x) => (float[n,3,8,8] y) { y = Relu(x) }"""
    with pytest.raises(UsageError, match="fixed shapes only"):
        lower_peak(model_of(text), 100, PRICE)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0.3, 1.0))
def test_random_networks_keep_budget_and_numbers(seed, share):
    model = random_net(seed)
    budget = int(peak_bytes(model) * share)
    try:
        lowered = lower_peak(model, budget, PRICE)[0]
    except TargetError:
        return
    assert peak_bytes(lowered.model) <= budget
    assert largest_difference(model, lowered.model) < 2e-5
