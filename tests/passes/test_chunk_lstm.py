import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hwc.artifacts import BuildKey
from hwc.engines import base
from hwc.graph.shapes import read_specs
from hwc.passes.base import run_pass
from hwc.passes.chunk_lstm import choose_chunk, chunk_lstm, unrolls_lstm
from tests.passes.build import RNG, assert_same_in_onnxruntime, node, run_onnxruntime
from tests.passes.check import check_pass, context, ops, prepare, random_feeds

DIRECTIONS = ("forward", "reverse", "bidirectional")
OUTPUTS = ("y", "y_h", "y_c")


def lstm(
    steps, direction="bidirectional", *, batch=1, inputs=3, hidden=4, bias=True, state=True, outputs=OUTPUTS, seed=0,
    opset=18, lengths=None, peepholes=False, arrays=True, **attributes,
) -> ir.Model:
    """One LSTM; `arrays=False` makes its weights graph inputs."""
    count = 2 if direction == "bidirectional" else 1
    random = RNG(seed)
    shapes = {"w": (count, 4 * hidden, inputs), "r": (count, 4 * hidden, hidden)}
    shapes |= {"b": (count, 8 * hidden)} if bias else {}
    shapes |= {"p": (count, 3 * hidden)} if peepholes else {}
    weights = {name: random.normal(size=shape).astype(np.float32) / 2 for name, shape in shapes.items()}
    if lengths is not None:
        weights["lengths"] = np.asarray(lengths, np.int32)
    starts = {"h0": (count, batch, hidden), "c0": (count, batch, hidden)} if state else {}
    layout = attributes.get("layout", 0)
    given = {"x": (batch, steps, inputs) if layout else (steps, batch, inputs), **starts}
    given |= {} if arrays else {name: weights.pop(name).shape for name in ("w", "r")}
    operands = ["x", "w", "r", "b" if bias else "", "" if lengths is None else "lengths",
                *(("h0", "c0") if state else ("", "")), "p" if peepholes else ""]
    one = node("LSTM", operands, list(outputs), name="lstm", hidden_size=hidden, direction=direction, **attributes)
    graph = helper.make_graph(
        [one], "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs if name],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return prepare(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))


def check(model: ir.Model) -> ir.Model:
    """Rewrites the one LSTM and compares in ONNX Runtime: the reference evaluator knows only the forward direction."""
    after, step, _ = run_pass(model, chunk_lstm, context())
    assert step.rewrites == 1, step.misses
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert "LSTM" not in {inner.op_type for inner in after.graph.all_nodes()}
    assert_same_in_onnxruntime(model, after)
    return after


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("steps", [1, 7, 79, 80])
def test_directions_and_lengths(steps, direction) -> None:
    after = check(lstm(steps, direction))
    assert ops(after).count("Scan") == (steps > 16)
    assert {"lstm"} == {inner.metadata_props["hwc.origin"] for inner in after.graph.all_nodes()}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("bias", "state"), [(False, False), (True, False), (False, True)])
def test_bias_and_initial_states_may_be_absent(direction, bias, state) -> None:
    check(lstm(23, direction, bias=bias, state=state, batch=2))


@pytest.mark.parametrize("outputs", [("y",), ("", "y_h"), ("", "", "y_c"), ("y", "", "y_c"), ("", "y_h", "y_c")])
@pytest.mark.parametrize("steps", [5, 24, 79])
def test_outputs_that_are_read(steps, outputs) -> None:
    check(lstm(steps, outputs=outputs))


def test_idle_steps_keep_the_cell_however_large_the_weights() -> None:
    model = lstm(79, outputs=("", "", "y_c"))
    held = model.graph.initializers["r"]
    held.const_value = ir.tensor(held.const_value.numpy() * 300, name="r")
    check(model)


def test_the_reference_evaluator_agrees() -> None:
    check_pass(chunk_lstm, lstm(7, "forward", outputs=("y", "y_h")), rewrites=1)


def test_full_lengths_and_spelled_defaults_are_plain() -> None:
    names = ["Sigmoid", "Tanh", "Tanh"] * 2
    check(lstm(18, batch=2, lengths=[18, 18], activations=names, input_forget=0, layout=0))


@pytest.mark.parametrize(
    ("steps", "chunk"), [(1, 1), (16, 16), (17, 6), (18, 6), (21, 7), (24, 6), (79, 8), (80, 8), (81, 9), (100, 10)]
)
def test_the_chunk_pads_least_and_is_least(steps, chunk) -> None:
    assert choose_chunk(steps) == chunk


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("peepholes", {"peepholes": True}),
        ("its activations are relu, tanh, tanh", {"activations": ["Relu", "Tanh", "Tanh"]}),
        ("clip is 1.0", {"clip": 1.0}),
        ("input_forget is 1", {"input_forget": 1}),
        ("layout is 1", {"layout": 1}),
        ("static", {"batch": "n", "state": False}),
        ("sequence_lens are shorter", {"lengths": [6]}),
        ("W is not a constant", {"arrays": False}),
        ("opset 13", {"opset": 11}),
    ],
)
def test_near_misses(reason, options) -> None:
    _, step, _ = run_pass(lstm(7, "forward", **options), chunk_lstm, context())
    assert step.rewrites == 0 and reason in step.misses[0].reason, step.misses


def test_a_dynamic_length_is_a_near_miss() -> None:
    _, step, _ = run_pass(lstm("t", "forward"), chunk_lstm, context())
    assert step.rewrites == 0 and "static" in step.misses[0].reason


def test_lengths_that_are_an_input_are_a_near_miss() -> None:
    model = lstm(7, "forward", lengths=[7])
    value = model.graph.initializers.pop("lengths")
    value.const_value = None
    model.graph.inputs.append(value)
    _, step, _ = run_pass(model, chunk_lstm, context())
    assert step.rewrites == 0 and "sequence_lens is not a constant" in step.misses[0].reason


@pytest.mark.parametrize("target", ["cpu", "h100", "agx-orin-64gb"])
def test_other_builders_keep_their_lstm(target) -> None:
    ctx = context(target)
    assert not unrolls_lstm(ctx.target)
    _, step, _ = run_pass(lstm(79), chunk_lstm, ctx)
    assert step.rewrites == 0 and f"{ctx.target.engine} is not known to unroll" in step.misses[0].reason


def test_nothing_to_do_is_no_change() -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }'
    check_pass(chunk_lstm, text, rewrites=0)


def test_two_rewrites_in_one_model_share_no_name() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[20,1,4] x) => (float[20,1,1,4] y)
    { a = LSTM<hidden_size = 4>(x, w, r) b = Squeeze(a, one) y = LSTM<hidden_size = 4>(b, w, r) }"""
    proto = onnx.parser.parse_model(text)
    for name, array in (("w", RNG(1).normal(size=(1, 16, 4))), ("r", RNG(2).normal(size=(1, 16, 4))), ("one", [1])):
        array = np.asarray(array, np.int64 if name == "one" else np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = prepare(ir.from_proto(proto))
    after, step, _ = run_pass(model, chunk_lstm, context())
    assert step.rewrites == 2
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert_same_in_onnxruntime(model, after)


def test_a_wrong_idle_step_would_be_seen() -> None:
    model = lstm(79, outputs=("", "", "y_c"))
    after = check(model)
    (idle,) = (value for name, value in after.graph.initializers.items() if re.search("idle", name))
    idle.const_value = ir.tensor(idle.const_value.numpy() * 0, name=idle.name)
    with pytest.raises(AssertionError):
        assert_same_in_onnxruntime(model, after)


@settings(max_examples=30, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.data())
def test_any_size(data) -> None:
    draw = data.draw
    outputs = draw(st.sampled_from([OUTPUTS, ("y",), ("", "y_h", "y_c")]))
    check(lstm(
        draw(st.integers(1, 45)), draw(st.sampled_from(DIRECTIONS)), batch=draw(st.integers(1, 3)),
        inputs=draw(st.integers(1, 5)), hidden=draw(st.integers(1, 6)), bias=draw(st.booleans()),
        state=draw(st.booleans()), seed=draw(st.integers(0, 99)), outputs=outputs,
    ))  # fmt: skip


@pytest.mark.parametrize(("steps", "most"), [(79, 40), (7, 20)])
def test_the_builder_makes_fewer_kernels(steps, most, tmp_path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the extra 'rtx' is not installed")
    before = lstm(steps, inputs=64, hidden=64)
    after = check(before)
    counts = []
    for name, model in (("before", before), ("after", after)):
        path = tmp_path / f"{name}.onnx"
        ir.save(model, path)
        target = context("rtx-3090").target
        asked = base.BuildRequest(
            model=path, target=target, inputs=read_specs(model.graph.inputs),
            outputs=read_specs(model.graph.outputs), precision="fp32",
            key=BuildKey("digest", target.name, "test", "fp32"), out_dir=tmp_path / name,
        )  # fmt: skip
        counts.append(len(base.build("tensorrt_rtx", asked).kernels))
    assert counts[1] <= most < counts[0], counts


def test_the_random_feeds_of_these_tests_reach_the_states() -> None:
    # A comparison that never saw a state would pass with a wrong one.
    model = lstm(7)
    feeds = random_feeds(model)
    still = {name: array * (name == "x") for name, array in feeds.items()}
    assert not np.allclose(run_onnxruntime(model, feeds)[0], run_onnxruntime(model, still)[0])
