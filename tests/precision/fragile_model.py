"""A small classifier with one layer that INT8 breaks, and the plan that quantizes all of it.

The second Conv writes one channel a thousand times as large as the others, and the third weighs that channel down by as
much. In FP32 nothing is odd; in INT8 one scale per tensor has to hold both, so what the third Conv reads of the other
channels is zero. The third Conv is the one to put back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwc.artifacts import TensorScale
from hwc.calibrate.measure_ranges import measure_ranges
from hwc.graph.evaluate import Evaluator
from hwc.passes.form_fusion_groups import form_fusion_groups
from hwc.precision.find_points import find_points
from hwc.precision.plan import QuantPlan, QuantRules
from hwc.precision.quantize_weights import quantize_weights
from tests.passes.build import build, node, weight
from tests.passes.check import context

FRAGILE = "third"


@dataclass(frozen=True)
class Photo:
    feeds: dict[str, np.ndarray]
    label: int
    name: str


def make_plan(*, outlier: float = 1000.0, fragile: bool = True) -> QuantPlan:
    """Five Convs and a Gemm on 1x3x8x8, 4 classes; max calibration on 16 samples."""
    arrays = {f"w{i}": weight(8, 3 if i == 1 else 8, 3, 3, seed=i) * 1.5 for i in range(1, 6)}
    arrays["w6"] = weight(4, 8, seed=6)
    if fragile:
        arrays["w2"][0] *= outlier
        arrays["w3"][:, 0] /= outlier
    nodes, source = [], "x"
    for i, name in enumerate(("first", "second", "third", "fourth", "fifth"), 1):
        nodes.append(node("Conv", [source, f"w{i}"], [f"c{i}"], name=name, pads=[1, 1, 1, 1]))
        nodes.append(node("Relu", [f"c{i}"], [f"r{i}"], name=f"{name}_relu"))
        source = f"r{i}"
    nodes += [
        node("GlobalAveragePool", [source], ["p"], name="pool"),
        node("Flatten", ["p"], ["f"], name="flatten"),
        node("Gemm", ["f", "w6"], ["y"], name="classes", transB=1),
    ]
    model = build(nodes, {"x": [1, 3, 8, 8]}, ["y"], arrays)
    groups = form_fusion_groups(model, context()).groups
    rules = QuantRules(unsigned=False)
    points, _ = find_points(model, groups, rules)
    amax = measure_ranges(model, [photo.feeds for photo in make_photos(16, seed=1)])
    scales = {point.tensor: TensorScale((amax[point.tensor] / 127.0,), method="max") for point in points}
    return QuantPlan(model, groups, rules, points, scales, quantize_weights(model, groups, points, rules))


def make_photos(count: int, seed: int = 0) -> list[Photo]:
    """Random inputs, all of label 0; `labelled` gives them the model's own answers."""
    rng = np.random.default_rng(seed)
    return [Photo({"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)}, 0, f"photo{i}") for i in range(count)]


def labelled(plan: QuantPlan, photos: list[Photo]) -> list[Photo]:
    """The photos with the FP32 model's answers as labels."""
    run = Evaluator(plan.model).run
    return [Photo(p.feeds, int(run(p.feeds)["y"].argmax()), p.name) for p in photos]


def fragile_group(plan: QuantPlan) -> str:
    """The id of the group that the third Conv is in."""
    return next(group.id for group in plan.groups if FRAGILE in group.nodes)
