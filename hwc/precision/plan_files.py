"""A QuantPlan in a folder: model.onnx (FP32), scales and integers. No pickle; what is derived is derived again.

Groups and rules are the caller's; points follow from them and the graph, so they are not written.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir

from hwc.artifacts import FusionGroup, TensorScale
from hwc.graph.save import save_model
from hwc.precision.find_points import find_points
from hwc.precision.plan import QuantPlan, QuantRules, QuantWeight
from hwc.serialize import from_json, to_json

_MODEL, _ORIGINAL, _SCALES, _WEIGHTS = "plan.onnx", "original.onnx", "scales.json", "weights.npz"


def write_plan(folder: Path, plan: QuantPlan) -> None:
    """Writes the plan's graph, scales, integers and put-back groups into `folder`."""
    save_model(plan.model, folder / _MODEL)
    if plan.original is not None:
        save_model(plan.original, folder / _ORIGINAL)
    scales = {name: json.loads(to_json(scale)) for name, scale in plan.scales.items()}
    axes = {name: weight.axis for name, weight in plan.weights.items()}
    record = {"scales": scales, "axes": axes, "high": sorted(plan.high)}
    (folder / _SCALES).write_text(json.dumps(record), encoding="utf-8")
    arrays = {}
    for index, weight in enumerate(plan.weights.values()):
        # Numbered, because a tensor's name may hold what a file name in the archive may not.
        arrays[f"integers{index}"], arrays[f"scale{index}"] = weight.integers, weight.scale
    np.savez(folder / _WEIGHTS, **arrays)  # type: ignore[arg-type]


def read_plan(folder: Path, groups: tuple[FusionGroup, ...], rules: QuantRules) -> QuantPlan:
    """The plan that `write_plan` left there, for the same groups and rules."""
    model = ir.load(folder / _MODEL)
    record = json.loads((folder / _SCALES).read_text(encoding="utf-8"))
    points, _ = find_points(model, groups, rules)
    with np.load(folder / _WEIGHTS, allow_pickle=False) as arrays:
        weights = {
            name: QuantWeight(arrays[f"integers{index}"], arrays[f"scale{index}"], axis)
            for index, (name, axis) in enumerate(record["axes"].items())
        }
    scales = {name: from_json(TensorScale, json.dumps(scale)) for name, scale in record["scales"].items()}
    original = ir.load(folder / _ORIGINAL) if (folder / _ORIGINAL).is_file() else None
    return QuantPlan(model, groups, rules, points, scales, weights, frozenset(record["high"]), original)
