import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hwc.passes.base import run_pass
from hwc.passes.merge_linear import merge_linear
from tests.passes.build import build, node, weight
from tests.passes.check import assert_same_outputs, check_pass, context, ops
from tests.passes.gain import always_gain, pretend

CHAIN = (("MatMul", ["x", "u"], "a"), ("Add", ["a", "i"], "b"), ("MatMul", ["b", "v"], "c"), ("Add", ["j", "c"], "y"))
ARRAYS = {"u": weight(8, 6), "i": weight(6), "v": weight(6, 4, seed=2), "j": weight(4, seed=3)}


def model_of(*nodes, x=(2, 5, 8), outputs=("y",), **arrays) -> ir.Model:
    used = {name for _, inputs, *_ in nodes for name in inputs}
    weights = {name: array for name, array in {**ARRAYS, **arrays}.items() if name in used}
    protos = [node(op, inputs, [out], name=out, **(rest[0] if rest else {})) for op, inputs, out, *rest in nodes]
    return build(protos, {"x": x}, list(outputs), weights)


@pytest.mark.parametrize("x", [(3, 8), (2, 5, 8), ("n", 5, 8)])
def test_two_layers_with_biases(monkeypatch, x) -> None:
    always_gain(monkeypatch)
    after, _, _ = check_pass(merge_linear, model_of(*CHAIN, x=x), rewrites=1)
    assert ops(after) == ["MatMul", "Add"] and after.graph.node(0).inputs[1].shape == (8, 4)
    assert after.graph.node(0).metadata_props["hwc.origin"] == "a|b|c|y"


@pytest.mark.parametrize(("first", "second", "left"), [(0, 0, 1), (0, 1, 2), (1, 0, 2), (1, 1, 2)])
def test_biases_on_either_layer_or_none(monkeypatch, first, second, left) -> None:
    always_gain(monkeypatch)
    nodes = [CHAIN[0], *([CHAIN[1]] if first else []), ("MatMul", ["b" if first else "a", "v"], "c" if second else "y")]
    after, _, _ = check_pass(merge_linear, model_of(*nodes, *([CHAIN[3]] if second else [])), rewrites=1)
    assert len(ops(after)) == left


@pytest.mark.parametrize("bias", [weight(1), weight(1, 6), np.float32(0.5)])
def test_shapes_of_a_row(monkeypatch, bias) -> None:
    always_gain(monkeypatch)
    check_pass(merge_linear, model_of(*CHAIN, i=bias), rewrites=1)


def test_gemms_become_a_gemm(monkeypatch) -> None:
    always_gain(monkeypatch)
    nodes = ("Gemm", ["x", "u", "i"], "a"), ("Gemm", ["a", "v", "j"], "y")
    after, _, _ = check_pass(merge_linear, model_of(*nodes, x=(3, 8)), rewrites=1)
    assert ops(after) == ["Gemm"]
    nodes = ("Gemm", ["x", "u", "i"], "a"), ("MatMul", ["a", "v"], "y")
    after, _, _ = check_pass(merge_linear, model_of(*nodes, x=(3, 8)), rewrites=1)
    assert ops(after) == ["Gemm"]


def test_a_chain_of_three(monkeypatch) -> None:
    always_gain(monkeypatch)
    nodes = *CHAIN[:3], ("MatMul", ["c", "w"], "y")
    after, _, _ = check_pass(merge_linear, model_of(*nodes, w=weight(4, 3)), rewrites=2)
    assert ops(after) == ["MatMul", "Add"]


@pytest.mark.parametrize(
    ("reason", "nodes", "arrays", "outputs"),
    [
        ("graph output", CHAIN, {}, ("y", "b")),
        ("read by 2", (*CHAIN, ("Relu", ["b"], "z")), {}, ("y", "z")),
        ("one layer is 32 products a row, the two are 12", CHAIN,
         {"u": weight(8, 1), "i": weight(1), "v": weight(1, 4)}, ("y",)),
        ("v is read by 2 nodes", (*CHAIN, ("Neg", ["v"], "z")), {}, ("y", "z")),
        ("overflow", CHAIN, {"u": weight(8, 6) * np.float32(1e30), "v": weight(6, 4) * np.float32(1e30)}, ("y",)),
        ("estimate 1 us -> 2 us", CHAIN, {}, ("y",)),
    ],
)  # fmt: skip
def test_near_misses(monkeypatch, reason, nodes, arrays, outputs) -> None:
    pretend(monkeypatch, 1.0, 2.0)
    _, step, _ = run_pass(model_of(*nodes, outputs=outputs, **arrays), merge_linear, context())
    assert step.rewrites == 0 and reason in step.misses[0].reason, step.misses


@pytest.mark.parametrize(
    ("reason", "options", "bias"),
    [("alpha of a is 2.0", {"alpha": 2.0}, weight(6)), ("the bias of a is not a row", {}, weight(3, 6))],
)
def test_a_gemm_that_is_not_plain_is_a_near_miss(reason, options, bias) -> None:
    nodes = ("Gemm", ["x", "u", "i"], "a", options), ("Gemm", ["a", "v", "j"], "y")
    _, step, _ = check_pass(merge_linear, model_of(*nodes, x=(3, 8), i=bias), rewrites=0)
    assert reason in step.misses[0].reason


@pytest.mark.parametrize(
    "nodes",
    [
        (*CHAIN[:2], ("Relu", ["b"], "r"), ("MatMul", ["r", "v"], "y")),
        (("MatMul", ["x", "u"], "a"), ("Add", ["a", "a"], "b"), ("MatMul", ["b", "v"], "y")),
        (("MatMul", ["x", "u"], "a"), ("Add", ["a", "m"], "b"), ("MatMul", ["b", "v"], "y")),
    ],
)
def test_other_patterns_are_left_without_a_word(nodes) -> None:
    _, step, _ = check_pass(merge_linear, model_of(*nodes, m=weight(5, 6)), rewrites=0)
    assert not step.misses


def test_the_real_estimate_merges_the_end_of_a_text_recognizer() -> None:
    arrays = {"u": weight(512, 256), "i": weight(256), "v": weight(256, 97), "j": weight(97)}
    check_pass(merge_linear, model_of(*CHAIN, x=(1, 79, 512), **arrays), rewrites=1, rtol=1e-3, atol=1e-3)


def test_a_wrong_merge_would_be_seen(monkeypatch) -> None:
    always_gain(monkeypatch)
    before = model_of(*CHAIN)
    after, _, _ = check_pass(merge_linear, before, rewrites=1)
    held = after.graph.node(1).inputs[1]
    held.const_value = ir.tensor(held.const_value.numpy() + 1e-3, name=held.name)
    with pytest.raises(AssertionError):
        assert_same_outputs(before, after)


@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_any_size(rows, middle, columns, biased) -> None:
    nodes = CHAIN if biased else (CHAIN[0], ("MatMul", ["a", "v"], "y"))
    arrays = {"u": weight(rows, middle), "i": weight(middle), "v": weight(middle, columns), "j": weight(columns)}
    with pytest.MonkeyPatch.context() as patch:
        always_gain(patch)
        worth = rows * columns <= middle * (rows + columns)
        check_pass(merge_linear, model_of(*nodes, x=(2, rows), **arrays), rewrites=int(worth))
