import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc import targets
from hwc.engines import base
from hwc.graph.model import constant_array
from hwc.passes.base import run_pass
from hwc.passes.merge_parallel_matmuls import merge_parallel_matmuls
from hwc.passes.transpose_attention import transpose_attention
from tests.engines.contract import request
from tests.passes.build import build, node, weight
from tests.passes.check import assert_same_outputs, check_pass, context, ops
from tests.passes.gain import always_gain

RTX = context("rtx-3090")
LEFT = ["Transpose", "MatMul", "Add", "Reshape", "Slice", "Slice", "Slice", "Transpose", "MatMul", "Reshape"]


def attention(
    size=(1, 4, 2, 3), *, masked=True, biases="qkv", scale="scores", guard=False, fused=False, inputs=5, opset=18,
    extra=(), outputs=("y",), change=(),
) -> ir.Model:
    """Self-attention of (batch, rows, heads, width) as exporters write it, with its output projection.

    Args:
        change: nodes by the name of their first output, instead of those made here.
    """
    batch, rows, heads, width = size
    wide = heads * width
    nodes = []
    arrays: dict[str, np.ndarray] = {
        "heads": np.array([batch, rows, heads, width]), "joined": np.array([0, 0, wide]),
        "five": np.array([batch, rows, 3, heads, width]), "c": np.float32(0.6), "zero": np.float32(0),
    }  # fmt: skip
    if fused:
        arrays |= {"qkvw": weight(inputs, 3 * wide), "qkvb": weight(3 * wide)}
        nodes += [
            node("MatMul", ["x", "qkvw"], ["qkvm"]), node("Add", ["qkvb", "qkvm"], ["qkva"]),
            node("Reshape", ["qkva", "five"], ["qkvr"]), node("Transpose", ["qkvr"], ["qkvt"], perm=[2, 0, 3, 1, 4]),
        ]  # fmt: skip
        for index, name in enumerate("qkv"):
            arrays[f"i{index}"] = np.array(index)
            nodes.append(node("Gather", ["qkvt", f"i{index}"], [name + "h"], axis=0))
    else:
        for index, name in enumerate("qkv"):
            arrays |= {name + "w": weight(inputs, wide, seed=index), name + "b": weight(wide, seed=index + 5)}
            nodes.append(node("MatMul", ["x", name + "w"], [name + "m"]))
            if name in biases:
                nodes.append(node("Add", [name + "m", name + "b"], [name + "a"]))
            nodes.append(node("Reshape", [name + ("a" if name in biases else "m"), "heads"], [name + "r"]))
            nodes.append(node("Transpose", [name + "r"], [name + "h"], perm=[0, 2, 1, 3]))
    nodes.append(node("Transpose", ["kh"], ["kt"], perm=[0, 1, 3, 2]))
    if scale == "factors":
        nodes += [node("Mul", ["c", "qh"], ["qs"]), node("Div", ["kt", "c"], ["ks"])]
        nodes.append(node("MatMul", ["qs", "ks"], ["s"]))
    else:
        nodes += [node("MatMul", ["qh", "kt"], ["s0"]), node("Mul", ["s0", "c"], ["s"])]
    nodes += [node("Add", ["s", "mask"], ["sm"])] if masked else []
    nodes.append(node("Softmax", ["sm" if masked else "s"], ["p"], axis=-1))
    if guard:
        nodes += [node("IsNaN", ["p"], ["n"]), node("Where", ["n", "zero", "p"], ["pg"])]
    nodes += [
        node("MatMul", ["pg" if guard else "p", "vh"], ["o"]), node("Transpose", ["o"], ["ot"], perm=[0, 2, 1, 3]),
        node("Reshape", ["ot", "joined"], ["j"]), node("MatMul", ["j", "ow"], ["y"]),
    ]  # fmt: skip
    arrays["ow"] = weight(wide, 7, seed=9)
    changed = {one.output[0]: one for one in change}
    nodes = [*(changed.get(one.output[0], one) for one in nodes), *extra]
    used = {name for one in nodes for name in one.input}
    given_inputs = {"x": (batch, rows, inputs), "z": (batch, rows, inputs), "mask": (batch, 1, 1, rows)}
    given_inputs = {name: shape for name, shape in given_inputs.items() if name in used}
    return build(nodes, given_inputs, list(outputs), {k: a for k, a in arrays.items() if k in used}, opset)


@pytest.mark.parametrize("scale", ["scores", "factors"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("heads", [2, 3])
def test_heads_become_blocks(heads, masked, scale) -> None:
    model = attention((1, 4, heads, 3), masked=masked, scale=scale)
    after, _, _ = check_pass(transpose_attention, model, rewrites=1, ctx=RTX)
    behind = ["Reshape", "Transpose", "MatMul", "Reshape", "Transpose", "MatMul"]
    between = [op for op, there in (("Mul", scale == "scores"), ("Add", masked), ("Softmax", True)) if there]
    assert ops(after) == LEFT + between + behind


@pytest.mark.parametrize("biases", ["", "q", "qv", "qkv"])
def test_missing_biases_are_zeros(biases) -> None:
    after, _, _ = check_pass(transpose_attention, attention(biases=biases, masked=False), rewrites=1, ctx=RTX)
    assert ("Add" in ops(after)) == bool(biases)


def test_one_projection_for_all_three() -> None:
    after, _, _ = check_pass(transpose_attention, attention(fused=True), rewrites=1, ctx=RTX)
    assert ops(after)[: len(LEFT)] == LEFT


def test_behind_merged_projections(monkeypatch: pytest.MonkeyPatch) -> None:
    always_gain(monkeypatch)
    model = attention()
    merged, _, _ = run_pass(model, merge_parallel_matmuls, context("t4"))
    assert "Split" in ops(merged)
    after, _, _ = check_pass(transpose_attention, merged, rewrites=1, ctx=RTX)
    assert "Split" not in ops(after)
    assert_same_outputs(model, after)


@pytest.mark.filterwarnings("ignore:invalid value")  # rows that are masked as a whole are NaN before the guard
def test_the_guard_stays() -> None:
    model = attention(guard=True)
    after, _, _ = check_pass(transpose_attention, model, rewrites=1, ctx=RTX)
    assert {"IsNaN", "Where"} <= set(ops(after))
    feeds = {"x": np.ones((1, 4, 5), np.float32), "mask": np.full((1, 1, 1, 4), -np.inf, np.float32)}
    assert_same_outputs(model, after, feeds=feeds)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(2, 6), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans())
def test_any_size(batch, rows, heads, width, masked, fused) -> None:
    model = attention((batch, rows, heads, width), masked=masked, fused=fused)
    check_pass(transpose_attention, model, rewrites=int(batch == 1 or rows % 2 == 0), ctx=RTX)



@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": (2, 5, 2, 3)}, "an odd number of rows"),
        ({"change": [node("MatMul", ["z", "vw"], ["vm"])]}, "not computed from one value"),
        ({"extra": [node("Relu", ["kr"], ["e"])], "outputs": ("y", "e")}, "kr is read elsewhere"),
        ({"outputs": ("y", "qh")}, "qh is a graph output"),
        ({"outputs": ("y", "p")}, "p is a graph output"),
        ({"extra": [node("Neg", ["ot"], ["e"])], "outputs": ("y", "e")}, "ot is read by 2"),
        ({"change": [node("Relu", ["j"], ["y"])]}, "not read by a matrix product"),
        ({"change": [node("Transpose", ["o"], ["ot"], perm=[0, 2, 3, 1])]}, "are not joined"),
        ({"change": [node("Softmax", ["sm"], ["p"], axis=1)]}, "the axis of"),
        ({"change": [node("Add", ["qm", "qm"], ["qa"])]}, "the bias of"),
        ({"change": [node("Relu", ["qm"], ["qa"])]}, "qh is not a linear projection"),
        ({"change": [node("Mul", ["qh", "qh"], ["qs"])], "scale": "factors"}, "does not scale by one number"),
        ({"change": [node("Transpose", ["qr"], ["qh"], perm=[0, 2, 3, 1])], "size": (1, 3, 2, 3)}, "is not laid out"),
    ],
)
def test_near_misses(options, reason) -> None:
    _, _, report = check_pass(transpose_attention, attention(**options), rewrites=0, ctx=RTX)
    assert reason in report.misses[0].reason


def test_a_dynamic_size_is_a_near_miss() -> None:
    model = attention((1, 4, 2, 3), fused=True)
    for value in (*model.graph.inputs, *(out for one in model.graph for out in one.outputs)):
        if value.shape is not None and len(value.shape) == 4:
            value.shape = ir.Shape(["n", *list(value.shape)[1:]])
    _, step, report = run_pass(model, transpose_attention, RTX)
    assert step.rewrites == 0 and "is not static" in report.misses[0].reason


@pytest.mark.parametrize("target", ["cpu", "t4"])
def test_other_builders_cut_heads_themselves(target) -> None:
    _, _, report = check_pass(transpose_attention, attention(), rewrites=0, ctx=context(target))
    assert "not known to copy heads" in report.misses[0].reason


def test_half_precision_is_a_near_miss() -> None:
    half = context("rtx-3090", precision="fp16")
    _, _, report = check_pass(transpose_attention, attention(), rewrites=0, ctx=half)
    assert "fp16" in report.misses[0].reason


@pytest.mark.parametrize(("opset", "rewrites"), [(12, 0), (13, 1)])
def test_the_axis_of_softmax_that_is_not_given(opset, rewrites) -> None:
    nodes = [node("Softmax", ["sm"], ["p"])]
    check_pass(transpose_attention, attention(change=nodes, opset=opset), rewrites=rewrites, ctx=RTX)


def test_a_softmax_of_one_product_is_no_attention() -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Softmax", ["m"], ["p"], axis=-1), node("Neg", ["p"], ["y"])]
    model = build(nodes, {"x": (1, 4, 5)}, ["y"], {"w": weight(5, 5)})
    _, _, report = check_pass(transpose_attention, model, rewrites=0, ctx=RTX)
    assert report.misses == ()


def test_heads_in_another_order_would_be_seen() -> None:
    model = attention()
    after, _, _ = run_pass(model, transpose_attention, RTX)
    held = next(one.inputs[0] for one in after.graph if one.op_type == "MatMul")
    array = constant_array(held)
    assert held is not None and array is not None
    held.const_value = ir.tensor(np.ascontiguousarray(array[::-1]), name=held.name)
    with pytest.raises(AssertionError):
        assert_same_outputs(model, after)


def test_engines_have_fewer_kernels(tmp_path) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="the extra 'rtx' is not installed")
    model = attention((1, 64, 12, 32), inputs=384)
    after, _, _ = run_pass(model, transpose_attention, RTX)
    counts = []
    for name, one in (("before", model), ("after", after)):
        asked = request(ir.to_proto(one), tmp_path / name, target=targets.load("rtx-3090"))
        counts.append(len(base.build("tensorrt_rtx", asked).kernels))
    assert counts[1] < counts[0]
    if rtx.__version__ == "1.7.1.116":
        assert counts == [10, 7]
