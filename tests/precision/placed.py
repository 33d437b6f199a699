"""Small networks and plans for the tests of Q/DQ: weights from a seed, scales from the maxima of one random sample."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.artifacts import FusionGroup, TensorScale
from hwc.graph.evaluate import Evaluator
from hwc.passes.form_fusion_groups import form_fusion_groups
from hwc.precision.find_points import find_points
from hwc.precision.plan import QuantPlan, QuantPoint, QuantRules
from hwc.precision.quantize_weights import quantize_weights
from tests.passes.build import build, node, weight
from tests.passes.check import context, random_feeds

CPU = QuantRules(unsigned=True, quantize_sum=True, split_pool=True, shift_signed=True)
TENSORRT = QuantRules(unsigned=False)
OLD_TENSORRT = QuantRules(unsigned=False, stored_int8=False)


def groups_of(model: ir.Model) -> tuple[FusionGroup, ...]:
    return form_fusion_groups(model, context()).groups


def points_of(model: ir.Model, rules: QuantRules = TENSORRT, high=frozenset()) -> dict[str, QuantPoint]:
    points, _ = find_points(model, groups_of(model), rules, high)
    return {point.tensor: point for point in points}


def watched(model: ir.Model, tensors) -> Evaluator:
    """The model with these tensors as further outputs."""
    model = model.clone()
    made = {v.name: v for n in model.graph for v in n.outputs}
    known = {v.name for v in (*model.graph.outputs, *model.graph.inputs)}
    model.graph.outputs.extend(made[name] for name in tensors if name not in known)
    return Evaluator(model)


def scales_of(model: ir.Model, points, rules: QuantRules, feeds) -> dict[str, TensorScale]:
    values = {**feeds, **watched(model, [point.tensor for point in points]).run(feeds)}
    top: dict[str, float] = {}
    for point in points:
        top[point.share] = max(top.get(point.share, 1e-6), float(np.abs(values[point.tensor]).max()))
    scales = {}
    for point in points:
        dtype = "uint8" if point.is_unsigned and rules.unsigned else "int8"
        step = float(np.float32(top[point.share] / (255 if dtype == "uint8" else 127)))
        scales[point.tensor] = TensorScale((step,), None, dtype, "max")
    return scales


def plan_of(model: ir.Model, rules: QuantRules = TENSORRT, high=frozenset(), feeds=None) -> QuantPlan:
    groups = groups_of(model)
    points, _ = find_points(model, groups, rules)
    weights = quantize_weights(model, groups, points, rules)
    scales = scales_of(model, points, rules, feeds or random_feeds(model))
    return QuantPlan(model, groups, rules, points, scales, weights, frozenset(high))


def residual(seed: int = 0) -> ir.Model:
    """Conv+Relu+MaxPool, a residual block with a depthwise Conv, Concat, ConvTranspose, pooling and Gemm."""
    w = weight
    arrays = {
        "w0": w(8, 3, 3, 3, seed=seed), "b0": w(8, seed=seed + 1), "wd": w(8, 1, 3, 3, seed=seed + 2),
        "w1": w(8, 8, 1, 1, seed=seed + 3), "b1": w(8, seed=seed + 4), "w2": w(6, 8, 3, 3, seed=seed + 5),
        "wt": w(14, 5, 2, 2, seed=seed + 6), "wg": w(4, 5, seed=seed + 7), "bg": w(4, seed=seed + 8),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], name="conv0", pads=[1] * 4),
        node("Relu", ["c0"], ["r0"], name="relu0"),
        node("MaxPool", ["r0"], ["p0"], name="pool0", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p0", "wd"], ["cd"], name="depthwise", pads=[1] * 4, group=8),
        node("Relu", ["cd"], ["rd"], name="relu_d"),
        node("Conv", ["rd", "w1", "b1"], ["c1"], name="conv1"),
        node("Add", ["c1", "p0"], ["sum"], name="add"),
        node("Relu", ["sum"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1] * 4),
        node("Concat", ["r1", "c2"], ["cat"], name="concat", axis=1),
        node("ConvTranspose", ["cat", "wt"], ["up"], name="deconv", strides=[2, 2]),
        node("Relu", ["up"], ["r3"], name="relu3"),
        node("GlobalAveragePool", ["r3"], ["mean"], name="average"),
        node("Flatten", ["mean"], ["flat"], name="flatten"),
        node("Gemm", ["flat", "wg", "bg"], ["y"], name="gemm", transB=1),
    ]
    return build(nodes, {"x": [1, 3, 8, 8]}, ["y"], arrays)
