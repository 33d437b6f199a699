"""A plan is read back as it was written, whatever its tensors are called."""

import json
import zipfile

import numpy as np
import onnx_ir as ir
import pytest

from hwc.errors import UsageError
from hwc.graph.text import digest_model
from hwc.precision.place_qdq import place_qdq
from hwc.precision.plan_files import read_plan, write_plan
from tests.passes.build import build, node, weight
from tests.precision.placed import CPU, OLD_TENSORRT, TENSORRT, plan_of, residual


def assert_same(plan, back):
    assert (back.points, back.scales, back.high, back.rules) == (plan.points, dict(plan.scales), plan.high, plan.rules)
    assert list(back.weights) == list(plan.weights)
    for name, one in plan.weights.items():
        other = back.weights[name]
        assert (other.axis, other.integers.dtype, other.scale.dtype) == (one.axis, np.int8, np.float32)
        np.testing.assert_array_equal(other.integers, one.integers)
        np.testing.assert_array_equal(other.scale, one.scale)
    assert digest_model(back.model) == digest_model(plan.model)


@pytest.mark.parametrize("rules", [CPU, TENSORRT, OLD_TENSORRT])
def test_what_is_read_places_the_same_graph(tmp_path, rules):
    plan = plan_of(residual(), rules)
    plan = plan.replace(high=frozenset({plan.groups[1].id}))
    write_plan(tmp_path, plan)
    back = read_plan(tmp_path, plan.groups, rules)
    assert_same(plan, back)
    assert digest_model(place_qdq(back)) == digest_model(place_qdq(plan))


def test_names_that_are_no_file_names(tmp_path):
    odd = ["../w", "a/b: c", "größe", "w.npy"]
    nodes, source = [], "x"
    for index, name in enumerate(odd):
        nodes.append(node("Conv", [source, name], [f"c{index}"], name=f"conv{index}", pads=[1] * 4))
        source = f"c{index}"
    arrays = {name: weight(3, 3, 3, 3, seed=seed) for seed, name in enumerate(odd)}
    plan = plan_of(build(nodes, {"x": [1, 3, 6, 6]}, [source], arrays))
    (tmp_path / "plan").mkdir()
    write_plan(tmp_path / "plan", plan)
    assert_same(plan, read_plan(tmp_path / "plan", plan.groups, TENSORRT))
    assert list(plan.weights) == odd and [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_integers_are_not_unpickled(tmp_path):
    plan = plan_of(residual())
    write_plan(tmp_path, plan)
    (archive,) = tmp_path.glob("*.npz")
    with np.load(archive) as kept:
        arrays = dict(kept)
    np.savez(archive, **{**arrays, "integers0": np.array([print], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        read_plan(tmp_path, plan.groups, plan.rules)


def test_a_scale_that_is_none_is_refused(tmp_path):
    plan = plan_of(residual())
    write_plan(tmp_path, plan)
    (file,) = tmp_path.glob("*.json")
    record = json.loads(file.read_text())
    next(iter(record["scales"].values()))["scale"] = [0.0]
    file.write_text(json.dumps(record))
    with pytest.raises(UsageError, match="a scale must be positive"):
        read_plan(tmp_path, plan.groups, plan.rules)


def test_the_folder_holds_the_float_graph_and_two_files_of_numbers(tmp_path):
    plan = plan_of(residual())
    write_plan(tmp_path, plan)
    model, scales, weights = sorted(path.name for path in tmp_path.iterdir())
    assert (model, scales, weights) == ("plan.onnx", "scales.json", "weights.npz")
    assert not [n for n in ir.load(tmp_path / model).graph if n.op_type.endswith("Linear")]
    assert zipfile.is_zipfile(tmp_path / weights)
