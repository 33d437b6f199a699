"""Layers that were put back compute with the constants of the FP32 graph, not with those fitted to integers."""

import numpy as np

from hwc.graph.evaluate import Evaluator
from hwc.precision.measure_plan import with_constants
from hwc.precision.place_qdq import place_qdq
from hwc.precision.plan_files import read_plan, write_plan
from hwc.precision.put_on_grid import put_on_grid
from hwc.precision.sensitivity import quantized_groups
from tests.passes.check import random_feeds
from tests.precision.placed import plan_of, residual


def fitted_plan():
    """The residual network with all its weights and biases moved, as learning would move them."""
    plan = plan_of(residual())
    moved = {
        name: value.const_value.numpy() * 1.5
        for name, value in plan.model.graph.initializers.items()
        if value.const_value.numpy().dtype == np.float32
    }
    return plan.replace(model=with_constants(plan.model, moved), original=plan.model)


def run(model, feeds):
    return Evaluator(model).run(feeds)["y"]


def test_with_every_layer_put_back_the_graph_is_the_original():
    plan = fitted_plan()
    feeds = random_feeds(plan.original)
    everything = frozenset(quantized_groups(plan))
    for make in (place_qdq, put_on_grid):
        np.testing.assert_array_equal(run(make(plan.replace(high=everything)), feeds), run(plan.original, feeds))
    without = plan.replace(high=everything, original=None)
    assert np.abs(run(place_qdq(without), feeds) - run(plan.original, feeds)).max() > 0.1


def test_layers_on_integers_keep_what_was_fitted_to_them():
    plan = fitted_plan()
    (first, *_) = quantized_groups(plan)
    names = {name for group in plan.groups if group.id == first for name in group.nodes}
    graph = place_qdq(plan.replace(high=frozenset({first}))).graph
    fitted, original = plan.model.graph.initializers, plan.original.graph.initializers
    for name, value in graph.initializers.items():
        readers = {use.node.name for use in value.uses()}
        if name in fitted and fitted[name].const_value.numpy().dtype == np.float32:
            expected = original if readers and readers <= names else fitted
            np.testing.assert_array_equal(value.const_value.numpy(), expected[name].const_value.numpy())


def test_the_original_survives_the_file(tmp_path):
    plan = fitted_plan()
    write_plan(tmp_path, plan)
    back = read_plan(tmp_path, plan.groups, plan.rules)
    feeds = random_feeds(plan.original)
    np.testing.assert_array_equal(run(back.original, feeds), run(plan.original, feeds))
