"""The float graph of the other dialect: whoever takes its largest weight / 127 as scale finds the plan's integers."""

import numpy as np
import pytest

from hwc.graph.evaluate import Evaluator
from hwc.graph.text import digest_model
from hwc.precision.put_on_grid import put_on_grid
from tests.passes.build import build, node, weight
from tests.passes.check import random_feeds
from tests.precision.placed import CPU, OLD_TENSORRT, TENSORRT, plan_of, residual
from tests.precision.slow_integers import weight_integers

WEIGHTED = ("Conv", "ConvTranspose", "Gemm")


def weights_of(model):
    return {n.name: n.inputs[1].const_value.numpy() for n in model.graph if n.op_type in WEIGHTED}


@pytest.mark.parametrize("rules", [TENSORRT, OLD_TENSORRT])
def test_a_reader_that_knows_no_scale_finds_the_same_integers(rules):
    plan = plan_of(residual(), rules)
    before = digest_model(plan.model)
    found = weights_of(put_on_grid(plan))
    names = {n.name: n.inputs[1].name for n in plan.model.graph if n.op_type in WEIGHTED}
    assert len(found) == len(plan.weights) == 6
    for layer, array in found.items():
        kept = plan.weights[names[layer]]
        integers, scale = weight_integers(array, kept.axis)
        np.testing.assert_array_equal(integers, kept.integers)
        np.testing.assert_array_equal(np.ravel(scale), np.ravel(kept.scale))
    assert digest_model(plan.model) == before  # the plan is a value; its graph is not touched


def test_no_pair_is_placed_and_the_function_moves_by_rounding_only():
    plan = plan_of(residual(), CPU)
    grid = put_on_grid(plan)
    assert not [n for n in grid.graph if n.op_type.endswith("Linear")]
    feeds = random_feeds(plan.model)
    a, b = (Evaluator(model).run(feeds)["y"] for model in (plan.model, grid))
    assert 0 < np.abs(a - b).max() < 0.05 * np.abs(a).max()


def test_a_group_that_was_put_back_keeps_its_weights():
    plan = plan_of(residual())
    group = next(group for group in plan.groups if "conv1" in group.nodes)
    before, after = weights_of(plan.model), weights_of(put_on_grid(plan.replace(high=frozenset({group.id}))))
    assert [name for name in before if np.array_equal(before[name], after[name])] == ["conv1"]


def test_one_weight_of_two_layers_is_on_the_grid_for_the_one_that_reads_integers():
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="first", pads=[1] * 4),
        node("Relu", ["a"], ["r"], name="relu"),
        node("Conv", ["r", "w"], ["y"], name="second", pads=[1] * 4),
    ]
    plan = plan_of(build(nodes, {"x": [1, 3, 6, 6]}, ["y"], {"w": weight(3, 3, 3, 3)}))
    both = weights_of(put_on_grid(plan))
    np.testing.assert_array_equal(both["first"], both["second"])
    group = next(group for group in plan.groups if "second" in group.nodes)
    mixed = weights_of(put_on_grid(plan.replace(high=frozenset({group.id}))))
    np.testing.assert_array_equal(mixed["first"], both["first"])
    np.testing.assert_array_equal(mixed["second"], weight(3, 3, 3, 3))
