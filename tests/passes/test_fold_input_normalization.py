import numpy as np
import onnx_ir as ir
import pytest

from hwc.errors import UsageError
from hwc.passes.base import InputNormalization, run_pass
from hwc.passes.fold_input_normalization import fold_input_normalization
from tests.passes.build import build, node, weight
from tests.passes.check import check_pass, context, evaluate, ops

MEAN, STD = (123.0, 116.0, 103.0), (58.0, 57.0, 60.0)
SHAPE = (2, 3, 7, 6)


def conv(pads=(0, 0, 0, 0), source="x", shape=SHAPE) -> ir.Model:
    nodes = [node("Conv", [source, "w", "b"], ["c"], pads=list(pads), strides=[2, 2]), node("Relu", ["c"], ["y"])]
    return build(nodes, {"x": shape}, ["y"], {"w": weight(4, 3, 3, 3), "b": weight(4)})


def check_raw(model: ir.Model, asked: InputNormalization) -> tuple[ir.Model, tuple[str, ...]]:
    after, _, report = run_pass(model, fold_input_normalization, context(normalization=(asked,)))
    raw = np.random.default_rng(0).integers(0, 256, SHAPE)
    rank = (1, -1, 1, 1)
    y = (raw - np.reshape(asked.mean, rank)) / np.reshape(asked.std, rank)
    expected = evaluate(model, {"x": y.astype(np.float32)})
    given = evaluate(after, {"x": raw.astype(np.uint8 if asked.as_uint8 else np.float32)})
    np.testing.assert_allclose(given[0], expected[0], rtol=1e-4, atol=1e-4)
    return after, report.notes


def test_all_goes_into_an_unpadded_conv() -> None:
    after, notes = check_raw(conv(), InputNormalization("x", MEAN, STD))
    assert ops(after) == ["Conv", "Relu"] and "is in the first layer" in notes[-1]


def test_uint8_input_costs_a_cast() -> None:
    after, notes = check_raw(conv(), InputNormalization("x", MEAN, STD, as_uint8=True))
    assert ops(after) == ["Cast", "Conv", "Relu"] and "uint8" in notes[0]
    assert after.graph.inputs[0].dtype == ir.DataType.UINT8


@pytest.mark.parametrize("mean", [MEAN, (127.5,)])
def test_padding_keeps_a_sub_and_says_so(mean) -> None:
    after, notes = check_raw(conv((1, 1, 1, 1)), InputNormalization("x", mean, STD))
    assert ops(after) == ["Sub", "Conv", "Relu"] and "Sub of the mean stays" in notes[-1]


def test_scale_only_is_exact_with_padding() -> None:
    after, _ = check_raw(conv((1, 1, 1, 1)), InputNormalization("x", (0.0,), (255.0,)))
    assert ops(after) == ["Conv", "Relu"]


def test_without_a_layer_the_graph_still_takes_raw_values() -> None:
    model = build([node("Relu", ["x"], ["y"])], {"x": SHAPE}, ["y"], {})
    after, _ = check_raw(model, InputNormalization("x", MEAN, STD))
    assert ops(after) == ["Sub", "Mul", "Relu"]


def test_a_second_run_does_not_normalize_twice() -> None:
    ctx = context(normalization=(InputNormalization("x", MEAN, STD),))
    after, _, _ = run_pass(conv(), fold_input_normalization, ctx)
    again, step, report = run_pass(after, fold_input_normalization, ctx)
    assert step.rewrites == 0 and "already" in report.misses[0].reason


@pytest.mark.parametrize(("pads", "left"), [((0, 0, 0, 0), ["Conv"]), ((1, 0, 0, 0), ["Sub", "Conv"])])
def test_a_normalization_in_the_graph(pads, left) -> None:
    nodes = [node("Div", ["x", "k"], ["a"]), node("Sub", ["a", "m"], ["b"]), node("Div", ["b", "s"], ["d"]),
             node("Conv", ["d", "w"], ["y"], pads=list(pads))]
    arrays = {"k": np.float32(255), "m": np.float32([[[0.4]], [[0.5]], [[0.6]]]),
              "s": np.float32([[[[0.2]], [[0.3]], [[0.4]]]]), "w": weight(4, 3, 3, 3)}
    after, _, _ = check_pass(fold_input_normalization, build(nodes, {"x": SHAPE}, ["y"], arrays), rewrites=1)
    assert ops(after) == left


def test_a_lone_sub_before_padding_stays() -> None:
    nodes = [node("Sub", ["x", "m"], ["d"]), node("Conv", ["d", "w"], ["y"], pads=[1, 1, 1, 1])]
    model = build(nodes, {"x": SHAPE}, ["y"], {"m": np.float32(2), "w": weight(4, 3, 3, 3)})
    _, _, report = check_pass(fold_input_normalization, model, rewrites=0)
    assert "border" in report.misses[0].reason


def test_a_chain_that_no_layer_reads_stays_as_it_is() -> None:
    nodes = [node("Sub", ["x", "m"], ["a"]), node("Mul", ["a", "m"], ["b"]), node("Relu", ["b"], ["y"])]
    check_pass(fold_input_normalization, build(nodes, {"x": SHAPE}, ["y"], {"m": np.float32(2)}), rewrites=0)


def test_nothing_asked_is_no_change() -> None:
    check_pass(fold_input_normalization, conv(), rewrites=0)


@pytest.mark.parametrize(
    "asked",
    [InputNormalization("z", MEAN, STD), InputNormalization("x", (1.0, 2.0), STD),
     InputNormalization("x", MEAN, (1.0, 0.0, 1.0)), InputNormalization("x", (float("nan"),), STD)],
)
def test_numbers_that_do_not_fit_are_refused(asked) -> None:
    with pytest.raises(UsageError):
        run_pass(conv(), fold_input_normalization, context(normalization=(asked,)))
