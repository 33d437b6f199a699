"""A cheap tensor that waits over the peak is made again; a dear one, or one that saves nothing, is not."""

from hwc.graph.verify import verify_model
from hwc.reduce.live_bytes import peak_bytes
from hwc.reduce.recompute_cheap import recompute_cheap
from tests.reduce.nets import PRICE, Network, finish, largest_difference


def waiting(kind: str):
    """A wide tensor made from the small input waits while two wider ones are made and read."""
    net = Network("waiting", (4, 8, 8))
    wide = net.upsample(net.input, 2) if kind == "cheap" else net.conv(net.upsample(net.input, 2), 4, 3, act="")
    x = net.conv(net.conv(net.pool(wide, 2, 2), 64, 1, act=""), 64, 1, act="")
    x = net.upsample(net.conv(x, 4, 1, act=""), 2)
    return finish(net, net.add(x, wide), net.act(net.input, "relu"))


def test_a_cheap_guest_leaves_over_the_peak():
    model = waiting("cheap")
    lowered, names = recompute_cheap(model, PRICE.node_seconds, share=0.2)
    assert len(names) == 1 and names[0].startswith("Resize")
    verify_model(lowered, "after recomputing")
    assert peak_bytes(lowered) == peak_bytes(model) - 4 * 16 * 16 * 4
    assert largest_difference(model, lowered) == 0.0


def test_a_dear_guest_stays():
    model = waiting("cheap")
    lowered, names = recompute_cheap(model, PRICE.node_seconds, share=0.0)
    assert names == () and lowered is model


def test_no_copy_is_kept_that_does_not_lower_the_peak():
    net = Network("plain", (4, 8, 8))
    model = finish(net, net.conv(net.conv(net.input, 16, 3), 4, 3))
    assert recompute_cheap(model, PRICE.node_seconds, share=1.0)[1] == ()
