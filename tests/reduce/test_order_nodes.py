"""Orders against every order there is, on small graphs; and never worse than the one given."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.graph.verify import verify_model
from hwc.reduce.live_bytes import Flow, bytes_along, flow_of, peak_bytes
from hwc.reduce.order_nodes import order_nodes, reorder_model
from tests.reduce.nets import Network, dims, finish, largest_difference, random_net


@st.composite
def flows(draw, most=7):
    """Node i makes buffer i + 1 and reads some earlier ones; buffer 0 is the graph's input."""
    n = draw(st.integers(2, most))
    sizes = tuple(draw(st.integers(1, 20)) for _ in range(n + 1))
    reads = tuple(tuple(sorted(draw(st.sets(st.integers(0, i), min_size=1, max_size=3)))) for i in range(n))
    after = tuple(frozenset(b - 1 for b in read if b) for read in reads)
    kept = frozenset(draw(st.sets(st.integers(1, n), max_size=2)) | {n})
    return Flow(sizes, tuple((i + 1,) for i in range(n)), reads, frozenset({0}), kept, after)


def legal(flow: Flow, order) -> bool:
    seen: set[int] = set()
    for node in order:
        if not flow.after[node] <= seen:
            return False
        seen.add(node)
    return sorted(order) == list(range(len(flow.reads)))


def brute_force(flow: Flow) -> int:
    orders = permutations(range(len(flow.reads)))
    return min(max(bytes_along(flow, order)) for order in orders if legal(flow, order))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(flows(6))
def test_no_order_at_all_is_better(flow):
    order = order_nodes(flow)
    assert legal(flow, order)
    assert max(bytes_along(flow, order)) == brute_force(flow)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(flows(14), st.integers(1, 20))
def test_a_capped_search_is_legal_and_never_worse(flow, limit):
    order = order_nodes(flow, limit=limit)
    assert legal(flow, order)
    assert max(bytes_along(flow, order)) <= max(bytes_along(flow))


def test_bytes_alive_by_hand():
    # 0 reads the input (8 bytes) and makes 4; 1 makes 2 from that; 2 reads both and makes 1, which is the output.
    flow = Flow((8, 4, 2, 1), ((1,), (2,), (3,)), ((0,), (1,), (1, 2)), frozenset({0}), frozenset({3}),
                (frozenset(), frozenset({0}), frozenset({0, 1})))  # fmt: skip
    assert bytes_along(flow) == [12, 6, 7]


def test_a_view_takes_no_bytes_and_keeps_its_source_alive():
    net = Network("view", (2, 4, 4))
    flat = net.reshape(net.softmax(net.input, 1), 1, 32)
    model = finish(net, net.softmax(net.softmax(flat, 1), 1))
    assert bytes_along(flow_of(model)) == [256, 128, 256, 256]


def test_an_activation_is_in_place_unless_its_input_is_read_again():
    net = Network("place", (2, 4, 4))
    x = net.conv(net.input, 2, 1, act="")
    once = finish(net, net.act(x, "relu"))
    assert bytes_along(flow_of(once)) == [256, 128]
    net = Network("place", (2, 4, 4))
    x = net.conv(net.input, 2, 1, act="")
    twice = finish(net, net.act(x, "relu"), net.softmax(x, 1))
    assert bytes_along(flow_of(twice)) == [256, 256, 384]


def test_a_wide_branch_is_finished_before_the_next_is_begun():
    net = Network("branches", (1, 8, 8))
    wide = [net.conv(net.input, 16, 1, act="") for _ in range(4)]
    model = finish(net, net.concat(*[net.conv(x, 1, 1, act="") for x in wide]))
    before = peak_bytes(model)
    original = model.clone()
    assert reorder_model(model)
    verify_model(model, "after ordering")
    assert before == (1 + 4 * 16) * 256
    assert peak_bytes(model) == (16 + 4) * 256
    assert largest_difference(original, model) == 0.0
    assert not reorder_model(model)


def test_random_networks_compute_the_same_in_another_order():
    for seed in range(8):
        model = random_net(seed)
        assert dims(model.graph.outputs[0])
        before, original = peak_bytes(model), model.clone()
        reorder_model(model)
        verify_model(model, "after ordering")
        assert peak_bytes(model) <= before
        assert largest_difference(original, model) == 0.0
