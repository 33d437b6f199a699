"""Tiles against the whole graph: the same numbers, whatever is cut and wherever."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.graph.match import attribute
from hwc.graph.shapes import infer_shapes
from hwc.graph.verify import verify_model
from hwc.reduce.plan_tiles import Tiler
from hwc.reduce.write_tiles import write_tiles
from tests.passes.check import evaluate, random_feeds
from tests.reduce.nets import PRICE, chain, largest_difference, random_net, small_unet, tile

TOLERANCE = 2e-6


def check(before, after, tolerance=TOLERANCE):
    verify_model(after, "after tiling")
    infer_shapes(after)
    assert [v.name for v in after.graph.outputs] == [v.name for v in before.graph.outputs]
    assert [list(v.shape) for v in after.graph.outputs] == [list(v.shape) for v in before.graph.outputs]
    assert largest_difference(before, after) <= tolerance


def test_a_chain_of_convolutions_is_equal_to_the_bit():
    before = chain((3, 33, 35))  # of smaller ones one tile is the least: halos outweigh what more would save
    after = tile(before)
    assert sum(node.op_type == "Slice" for node in after.graph) >= 2
    check(before, after, tolerance=0.0)


def test_the_reference_evaluator_agrees():
    before = small_unet((1, 8, 8, 8), 2)
    after = tile(before)
    feeds = random_feeds(before)
    np.testing.assert_allclose(evaluate(after, feeds)[0], evaluate(before, feeds)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_unet_in_three_dimensions(norm):
    before = small_unet(norm=norm)
    after = tile(before)
    check(before, after)
    assert not any(node.op_type == "InstanceNormalization" for node in after.graph)


def test_the_comparison_bites_when_padding_is_wrong():
    before = chain((3, 33, 35))
    after = tile(before)
    conv = next(n for n in after.graph if n.op_type == "Conv" and any(attribute(n, "pads")))
    pads = attribute(conv, "pads")
    conv.attributes.add(ir.AttrInt64s("pads", pads[2:] + pads[:2]))
    assert largest_difference(before, after) > 1e-3


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 3), st.data())
def test_random_graphs_with_any_choice_of_virtual_values(seed, axes, data):
    before = random_net(seed, axes)
    tiler = Tiler(before, PRICE)
    virtual = {v for v in tiler.optional if data.draw(st.booleans())}
    budget = data.draw(st.integers(0, 200000))
    check(before, write_tiles(before, tiler.plan(virtual, budget)), tolerance=2e-5)
