"""The graph with Q/DQ: golden text, what is refused, twins for what was put back, names and determinism."""

import dataclasses

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from hwc.engines import base
from hwc.errors import InternalError, TargetError
from hwc.graph.evaluate import Evaluator
from hwc.graph.model import ORIGIN
from hwc.graph.text import digest_model, print_model
from hwc.precision.place_qdq import place_qdq
from tests.engines.contract import request, rtx_target
from tests.golden.compare_golden import compare_with_golden
from tests.passes.build import build, node, weight
from tests.passes.check import random_feeds
from tests.precision.placed import CPU, OLD_TENSORRT, TENSORRT, plan_of, residual


@pytest.mark.parametrize(
    ("name", "rules"), [("qdq_cpu", CPU), ("qdq_tensorrt", TENSORRT), ("qdq_tensorrt8", OLD_TENSORRT)]
)
def test_the_placed_graph_is_the_golden_one(name, rules):
    compare_with_golden(f"{name}.txt", print_model(place_qdq(plan_of(residual(), rules)), weights=False))


@pytest.mark.parametrize("rules", [CPU, TENSORRT, OLD_TENSORRT])
def test_the_placed_graph_is_legal_close_to_the_original_and_always_the_same(rules):
    model = residual()
    before = digest_model(model)
    plan = plan_of(model, rules)
    placed = place_qdq(plan)
    onnx.checker.check_model(ir.to_proto(placed), full_check=True)
    assert digest_model(model) == before and digest_model(place_qdq(plan)) == digest_model(placed)
    feeds = random_feeds(model)
    exact, got = Evaluator(model).run(feeds)["y"], Evaluator(placed).run(feeds)["y"]
    assert 0 < np.abs(exact - got).max() < 0.1 * np.abs(exact).max()


def test_bias_stays_float_and_zero_points_are_zero():
    placed = place_qdq(plan_of(residual(), TENSORRT))
    for name in ("conv0", "conv1", "gemm"):
        assert placed.graph.node(name).inputs[2].is_initializer()
    points = [v.const_value.numpy() for name, v in placed.graph.initializers.items() if name.endswith("_zero_point")]
    assert points and all(not p.any() and p.dtype in (np.int8, np.uint8) for p in points)


def test_new_nodes_say_where_they_came_from():
    placed = place_qdq(plan_of(residual(), CPU))
    found = {n.name: n.metadata_props.get(ORIGIN) for n in placed.graph if "Linear" in n.op_type}
    assert found["r0_quantize"] == "relu0" and found["w0_dequantize"] == "conv0"


def test_both_forms_of_weights_hold_the_same_values():
    model, feeds = residual(), random_feeds(residual())
    new = Evaluator(place_qdq(plan_of(model, TENSORRT))).run(feeds)["y"]
    old = Evaluator(place_qdq(plan_of(model, OLD_TENSORRT))).run(feeds)["y"]
    assert np.array_equal(new, old)


def test_everything_put_back_is_the_original():
    model = residual()
    plan = plan_of(model, CPU)
    placed = place_qdq(plan.replace(high=frozenset(g.id for g in plan.groups)))
    assert digest_model(placed) == digest_model(model)


def test_a_layer_that_was_put_back_reads_floats_through_a_twin_of_the_concat():
    nodes = [
        node("Relu", ["x"], ["a"], name="a"), node("Neg", ["x"], ["b"], name="b"),
        node("Concat", ["a", "b"], ["c"], name="concat", axis=1),
        node("Conv", ["c", "w"], ["y"], name="one"), node("Conv", ["c", "v"], ["z"], name="two"),
    ]  # fmt: skip
    arrays = {"w": weight(2, 8, 1, 1), "v": weight(2, 8, 1, 1, seed=3)}
    model = build(nodes, {"x": [1, 4, 3, 3]}, ["y", "z"], arrays)
    plan = plan_of(model)
    (two,) = (group.id for group in plan.groups if "two" in group.nodes)
    placed = place_qdq(plan.replace(high=frozenset([two])))
    feeds = random_feeds(model)
    exact, got = Evaluator(model).run(feeds), Evaluator(placed).run(feeds)
    assert np.array_equal(exact["z"], got["z"]) and not np.array_equal(exact["y"], got["y"])
    assert {n.name for n in placed.graph if n.op_type == "Concat"} == {"concat", "concat_float"}
    assert placed.graph.node("two").inputs[1].name == "v"


def test_a_weight_of_a_layer_that_was_put_back_stays_float_for_it_alone():
    nodes = [node("Conv", ["x", "w"], ["a"], name="one"), node("Conv", ["a", "w"], ["y"], name="two")]
    plan = plan_of(build(nodes, {"x": [1, 4, 3, 3]}, ["y"], {"w": weight(4, 4, 1, 1)}))
    (two,) = (group.id for group in plan.groups if "two" in group.nodes)
    placed = place_qdq(plan.replace(high=frozenset([two])))
    assert placed.graph.node("one").inputs[1].name == "w_dequantized" and placed.graph.node("two").inputs[1].name == "w"


def changed(plan, tensor, **changes):
    return plan.replace(scales={**plan.scales, tensor: dataclasses.replace(plan.scales[tensor], **changes)})


def test_broken_plans_are_refused():
    plan = plan_of(residual(), TENSORRT)
    without = {name: scale for name, scale in plan.scales.items() if name != "rd"}
    for bad, said in [
        (plan.replace(scales=without), "'rd' has no scale"),
        (changed(plan, "c2", scale=(0.5,)), "need one scale"),
        (changed(plan, "c2", dtype="uint8"), "may be negative"),
        (changed(plan, "rd", dtype="uint8"), "engine is signed"),
        (plan.replace(weights={}), "has none"),
    ]:
        with pytest.raises(InternalError, match=said):
            place_qdq(bad)


def test_an_old_opset_is_refused():
    nodes = [node("Conv", ["x", "w"], ["y"], name="n")]
    model = build(nodes, {"x": [1, 4, 3, 3]}, ["y"], {"w": weight(4, 4, 1, 1)}, 12)
    with pytest.raises(TargetError, match="newer opset"):
        place_qdq(plan_of(model))


def test_names_that_are_taken_are_left_alone():
    nodes = [node("Relu", ["x"], ["x_quantized"], name="x_quantize"), node("Conv", ["x", "w"], ["y"], name="n")]
    model = build(nodes, {"x": [1, 4, 3, 3]}, ["y", "x_quantized"], {"w": weight(4, 4, 1, 1)})
    placed = place_qdq(plan_of(model))
    assert placed.graph.node("x_quantize").op_type == "Relu"
    assert placed.graph.node("x_quantize_1").op_type == "QuantizeLinear"


def test_onnxruntime_joins_every_layer_of_the_shifted_form(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="a"), node("Conv", ["a", "v"], ["b"], name="b"),
        node("Add", ["b", "x"], ["s"], name="s"), node("Relu", ["s"], ["r"], name="r"),
        node("Conv", ["r", "w"], ["c"], name="c"), node("Conv", ["c", "v"], ["y"], name="y"),
    ]  # fmt: skip
    arrays = {"w": weight(8, 8, 1, 1), "v": weight(8, 8, 1, 1, seed=3)}
    plan = plan_of(build(nodes, {"x": [1, 8, 6, 6]}, ["y"], arrays), CPU)
    kinds = {}
    for shift in (False, True):
        placed = place_qdq(plan.replace(rules=dataclasses.replace(plan.rules, shift_signed=shift)))
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "seen.onnx"), 4
        onnxruntime.InferenceSession(ir.to_proto(placed).SerializeToString(), options)
        kinds[shift] = [n.op_type for n in onnx.load(tmp_path / "seen.onnx").graph.node]
    assert kinds[True].count("QLinearConv") == 3 and kinds[True].count("QLinearAdd") == 1
    assert kinds[False].count("QLinearConv") < 3  # so the shift is worth its line


@pytest.mark.parametrize("rules", [TENSORRT, OLD_TENSORRT])
def test_tensorrt_for_rtx_takes_the_graph_and_computes_int8(rules, tmp_path):
    """TensorRT itself needs a GPU; its sister parses the same Q/DQ and builds ahead of time."""
    pytest.importorskip("tensorrt_rtx", reason="the extra 'rtx' is not installed")
    placed = place_qdq(plan_of(residual(), rules))
    options = {"allow_int8_convolution": "yes"}
    engine = base.build("tensorrt_rtx", request(ir.to_proto(placed), tmp_path, target=rtx_target(), options=options))
    convolutions = [k for k in engine.kernels if k.kind in ("correlation", "gemm")]
    assert convolutions and all(k.precision == "int8" for k in convolutions)
    # It has no kernel of Conv, ReLU and MaxPool: the pool pools integers by itself.
    assert [k.precision for k in engine.kernels if k.kind == "maxpool"] == ["int8"]
