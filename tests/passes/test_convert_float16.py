import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.graph.model import make_node, origins
from hwc.graph.text import digest_model
from hwc.passes.base import PassReport, run_pass
from hwc.passes.convert_float16 import convert_float16
from tests.passes.check import check_pass, context, evaluate, model_of, ops, random_feeds

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
# float16 keeps 11 bits: each of some ten roundings on a path costs up to 2^-11 of the largest magnitude, about 1 here.
RTOL = ATOL = 1e-2
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def half(text: str, *, rewrites: int, **options: object) -> tuple[ir.Model, PassReport]:
    ctx = context(**{"precision": "fp16", **options})
    after, _, report = check_pass(convert_float16, text, rewrites=rewrites, ctx=ctx, rtol=RTOL, atol=ATOL)
    assert_no_detours(after)
    return after, report


def assert_no_detours(model: ir.Model) -> None:
    """No Cast reads a Cast, and no value is cast to one type twice."""
    seen = set()
    for node in model.graph:
        if node.op_type == "Cast":
            source = node.inputs[0]
            before = source.producer()
            is_detour = before is not None and before.op_type == "Cast" and before.inputs[0].dtype in FLOATS
            assert not is_detour, f"{node.name} casts a Cast"
            key = (source, node.attributes["to"].as_int())
            assert key not in seen, f"{node.name} is made twice"
            seen.add(key)


def type_of(model: ir.Model, op_type: str) -> list[str]:
    return [n.outputs[0].dtype.name for n in model.graph if n.op_type == op_type]


def test_border_stays_float32_with_one_cast_each() -> None:
    after, report = half(HEAD + """
    agraph (float[2,4] x) => (float[2,3] y, float[2,4] z) <float[4,3] w = {1,2,3,4,5,6,7,8,9,1,2,3}> {
        z = Sigmoid(x)
        a = MatMul(x, w)
        y = Softmax(a)
    }""", rewrites=3)
    assert ops(after).count("Cast") == 3
    assert {v.dtype for v in (*after.graph.inputs, *after.graph.outputs)} == {ir.DataType.FLOAT}
    assert type_of(after, "MatMul") == ["FLOAT16"] and after.graph.initializers["w_half"].dtype == ir.DataType.FLOAT16
    assert "3 nodes in fp16, 0 in fp32, 3 Casts" in report.notes[0]


def test_other_precisions_change_nothing() -> None:
    check_pass(convert_float16, HEAD + "agraph (float[2] x) => (float[2] y) { y = Relu(x) }", rewrites=0)


def test_integers_change_nothing() -> None:
    half(HEAD + "agraph (int64[2] x) => (int64[2] y) { y = Neg(x) }", rewrites=0)


def test_layer_norm_spelled_out_is_one_island() -> None:
    after, _ = half(HEAD + """
    agraph (float[2,8] x) => (float[2,8] y) <float two = {2}, float e = {1e-12}, int64[1] ax = {1}> {
        r = Sigmoid(x)
        m = ReduceMean(r, ax)
        d = Sub(r, m)
        p = Pow(d, two)
        v = ReduceMean(p, ax)
        w = Add(v, e)
        s = Sqrt(w)
        q = Div(d, s)
        y = Tanh(q)
    }""", rewrites=4)
    assert {t for op in ("Pow", "Add", "Sqrt", "Div") for t in type_of(after, op)} == {"FLOAT"}
    assert ops(after).count("Cast") == 4


@pytest.mark.parametrize("tail", [
    "c = Clip(n, e) w = Expand(c, s) y = Div(x, w)",
    "c = Max(n, e) r = Reciprocal(c) y = Mul(x, r)",
    "c = Add(n, e) r = Div(one, c) t = Expand(r, s) y = Mul(t, x)",
])
def test_a_vector_of_zeros_is_normalized_to_zeros(tail: str) -> None:
    inits = ["int64[1] ax = {1}", "float e = {1e-12}"]
    inits += ["int64[2] s = {2, 4}"] if "s)" in tail else []
    inits += ["float one = {1}"] if "one" in tail else []
    text = HEAD + f"""
    agraph (float[2,4] x) => (float[2,4] z) <{', '.join(inits)}> {{ n = ReduceL2(x, ax) {tail} z = Tanh(y) }}"""
    feeds = {"x": np.array([[0, 0, 0, 0], [1, 2, 3, 4]], np.float32)}
    ctx = context(precision="fp16")
    after, _, _ = run_pass(model_of(text), convert_float16, ctx)
    np.testing.assert_allclose(evaluate(after, feeds)[0], evaluate(model_of(text), feeds)[0], rtol=RTOL, atol=ATOL)


def test_what_a_normalization_makes_is_of_ordinary_size() -> None:
    after, _ = half(HEAD + """
    agraph (float[2,3,4] x) => (float[2,3,4] y)
    <float[3] s = {1, 1, 1}, float[3] b = {0, 0, 0}, float k = {0.5}, float six = {6}> {
        a = InstanceNormalization(x, s, b)
        c = Add(a, k)
        d = Clip(c, k, six)
        y = Div(six, d)
    }""", rewrites=3)
    assert type_of(after, "Div") == ["FLOAT16"]


def test_square_written_as_a_product_is_an_island() -> None:
    _, report = half(HEAD + "agraph (float[4] x) => (float[4] y) { y = Mul(x, x) }", rewrites=0)
    assert "square" in report.misses[0].reason


def test_long_sums_stay_and_short_ones_do_not() -> None:
    text = HEAD + "agraph (float[2,N] x) => (float[2,1] y) <int64[1] a = {1}> { y = ReduceSum(x, a) }"
    half(text.replace("[2,N]", "[2,512]"), rewrites=1)
    _, report = half(text.replace("[2,N]", "[2,513]"), rewrites=0)
    assert "513" in report.misses[0].reason
    _, report = half(text, rewrites=0)
    assert "unknown number" in report.misses[0].reason


def test_a_large_activation_keeps_its_neighbours() -> None:
    text = HEAD + "agraph (float[4] x) => (float[4] y) { a = Neg(x) b = Sigmoid(a) y = Tanh(b) }"
    after, report = half(text, rewrites=1, amax={"a": 4e4})
    assert type_of(after, "Tanh") == ["FLOAT16"] and ops(after).count("Cast") == 2
    assert all("40000" in miss.reason for miss in report.misses)
    half(text, rewrites=3, amax={"a": 3e4})
    half(text, rewrites=1, amax={"a": float("nan")})


def test_ranges_that_were_measured() -> None:
    model = model_of(HEAD + """
    agraph (float[4] x) => (float[4] y, float[4] a) <float k = {30000}> { a = Mul(x, k) b = Sigmoid(a) y = Tanh(b) }""")
    feeds = {"x": np.array([1, -2, 3, 4], np.float32)}
    amax = {v.name: float(np.abs(r).max()) for v, r in zip(model.graph.outputs, evaluate(model, feeds))}
    after, _, _ = run_pass(model, convert_float16, context(precision="fp16", amax=amax))
    assert type_of(after, "Mul") == ["FLOAT"]
    blind, _, _ = run_pass(model, convert_float16, context(precision="fp16"))
    # The tolerance of this file bites: without the ranges the same graph overflows.
    with np.errstate(over="ignore"), pytest.raises(AssertionError):
        np.testing.assert_allclose(evaluate(blind, feeds)[1], evaluate(model, feeds)[1], rtol=RTOL, atol=ATOL)


def test_constant_that_overflows_and_what_comes_of_it() -> None:
    after, report = half(HEAD + """
    agraph (float[2,4] x, float[2,4] m) => (float[2,4] y) <float low = {-3.4e38}> {
        p = Mul(m, low)
        s = Sigmoid(x)
        a = Add(s, p)
        b = Softmax(a)
        y = Tanh(b)
    }""", rewrites=2)
    assert type_of(after, "Add") == ["FLOAT"] and type_of(after, "Tanh") == ["FLOAT16"]
    assert "3.4e+38" in report.misses[0].reason


def test_constant_that_underflows() -> None:
    _, report = half(HEAD + """
    agraph (float[4] x) => (float[4] y) <float e = {1e-9}> { y = Add(x, e) }""", rewrites=0)
    assert "loses 100.0%" in report.misses[0].reason


def test_small_weights_beside_large_ones_may_vanish() -> None:
    half(HEAD + "agraph (float[2] x) => (float[2] y) <float[2] w = {1, 1e-9}> { y = Mul(x, w) }", rewrites=1)


def test_bounds_of_clip_become_the_largest_number() -> None:
    after, _ = half(HEAD + """
    agraph (float[2] x) => (float[2] y) <float a = {0}, float b = {3.4e38}> { y = Clip(x, a, b) }""", rewrites=1)
    assert float(after.graph.initializers["b_half"].const_value.numpy()) == 65504


def test_infinity_stays_infinity() -> None:
    model = model_of(HEAD + """
    agraph (float[2] x, bool[2] c) => (float[2] y) <float k = {0}> { a = Where(c, x, k) y = Softmax(a) }""")
    model.graph.initializers["k"].const_value = ir.tensor(np.float32(-np.inf), name="k")
    half(model, rewrites=2)  # type: ignore[arg-type]


def test_scales_of_resize_keep_their_type() -> None:
    text = HEAD + """
    agraph (float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1, 1, 2, 2}> {
        y = Resize<mode="nearest">(x, , s)
    }"""
    after, _ = half(text, rewrites=1)
    (node,) = (n for n in after.graph if n.op_type == "Resize")
    assert [v.dtype.name for v in (node.inputs[0], node.inputs[2])] == ["FLOAT16", "FLOAT"]


def test_a_move_between_borders_stays() -> None:
    _, report = half(HEAD + "agraph (float[2] x) => (float[2] y) { y = Relu(x) }", rewrites=0)
    assert "between" in report.misses[0].reason


def test_a_move_between_islands_joins_them() -> None:
    after, _ = half(HEAD + """
    agraph (float[2,3] x) => (float[3,2] y) {
        r = Sigmoid(x)
        a = Exp(r)
        b = Transpose<perm=[1,0]>(a)
        c = Log(b)
        y = Tanh(c)
    }""", rewrites=2)
    assert type_of(after, "Transpose") == ["FLOAT"] and ops(after).count("Cast") == 4


def test_what_only_looks_at_a_tensor_costs_no_cast() -> None:
    after, _ = half(HEAD + """
    agraph (float[2,3] x) => (int64[2] s, int64[2] i, float[2,3] y) {
        s = Shape(x)
        r = Sigmoid(x)
        i = ArgMax<axis=1, keepdims=0>(r)
        y = Tanh(r)
    }""", rewrites=2)
    assert ops(after).count("Cast") == 2


def test_integers_above_2048_are_not_cast_to_half() -> None:
    text = HEAD + """
    agraph (int64[3] i, bool[3] b) => (float[3] y) { p = Cast<to=1>(i) q = Cast<to=1>(b) y = Add(p, q) }"""
    after, report = half(text, rewrites=2)
    assert sorted(type_of(after, "Cast")) == ["FLOAT", "FLOAT", "FLOAT16", "FLOAT16"]
    assert "2048" in report.misses[0].reason


def test_a_body_reads_float32() -> None:
    after, report = half(HEAD + """
    agraph (float[2] x, bool c) => (float[2] y) {
        a = Sigmoid(x)
        b = If(c) <then_branch = t () => (float[2] p) { p = Neg(a) }, else_branch = e () => (float[2] q) { q = Abs(a) }>
        y = Tanh(b)
    }""", rewrites=2)
    assert any("body" in miss.reason for miss in report.misses)
    assert type_of(after, "If") == ["FLOAT"]


def test_recurrences_and_unknown_domains_stay() -> None:
    half(HEAD + """
    agraph (float[3,1,2] x, float[1,8,2] w, float[1,8,2] r) => (float[3,1,1,2] y) {
        y = LSTM<hidden_size=2>(x, w, r)
    }""", rewrites=0)
    model = model_of(HEAD + "agraph (float[2] x) => (float[2] y) { y = Tanh(x) }")
    (reader,) = model.graph
    odd = make_node("Odd", [reader.inputs[0]], name="odd", outputs=["o"], domain="made.up", dtype=ir.DataType.FLOAT,
                    shapes=[(2,)])
    model.graph.insert_before(reader, odd)
    reader.replace_input_with(0, odd.outputs[0])
    model.graph.opset_imports["made.up"] = 1
    report = convert_float16(model, context(precision="fp16"))
    assert report.rewrites == 1 and "no half" in report.misses[0].reason
    assert odd.outputs[0].dtype == ir.DataType.FLOAT


def test_dynamic_batch_and_origins() -> None:
    after, _ = half(HEAD + "agraph (float[N,2] x) => (float[N,2] y) { y = Tanh(x) }", rewrites=1)
    tanh = next(n for n in after.graph if n.op_type == "Tanh")
    assert all(origins(n) == (tanh.name,) for n in after.graph if n.op_type == "Cast")


def test_a_second_run_finds_nothing() -> None:
    after, _ = half(HEAD + "agraph (float[2] x) => (float[2] y) { a = Tanh(x) y = Exp(a) }", rewrites=1)
    again, step, _ = run_pass(after, convert_float16, context(precision="fp16"))
    assert step.rewrites == 0 and digest_model(again) == digest_model(after)


def test_bfloat16_keeps_the_range() -> None:
    model = model_of(HEAD + "agraph (float[2] x) => (float[2] y) <float k = {1e30}> { a = Mul(x, k) y = Tanh(a) }")
    after, _, _ = run_pass(model, convert_float16, context(precision="bf16", amax={"a": 1e30}))
    assert type_of(after, "Mul") == type_of(after, "Tanh") == ["BFLOAT16"]


UNARY = ["Relu", "Sigmoid", "Tanh", "Neg", "Exp", "Softmax", "Transpose", "Abs", "LogSoftmax"]


@given(st.lists(st.tuples(st.sampled_from([*UNARY, "Add", "Max"]), st.integers(0, 9), st.integers(0, 9)), min_size=1,
                max_size=9), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_any_graph_stays_typed_and_close(steps: list[tuple[str, int, int]], seed: int) -> None:
    names, lines = ["x"], []
    for index, (kind, a, b) in enumerate(steps):
        left, right = names[a % len(names)], names[b % len(names)]
        call = {"Transpose": f"Transpose<perm=[1,0]>({left})"}.get(kind, f"{kind}({left})")
        # tanh keeps every sum and exponential small, so that the tolerance can be one number
        call = f"{kind}({left}, {right})" if kind in ("Add", "Max") else call
        lines += [f"t{index} = {call}", f"v{index} = Tanh(t{index})"]
        names.append(f"v{index}")
    outputs = ", ".join(f"float[3,3] {name}" for name in names[1:])
    model = model_of(HEAD + f"agraph (float[3,3] x) => ({outputs}) {{ {' '.join(lines)} }}")
    after, _, _ = run_pass(model, convert_float16, context(precision="fp16"))
    assert_no_detours(after)
    feeds = random_feeds(model, seed)
    for old, new in zip(evaluate(model, feeds), evaluate(after, feeds)):
        assert old.dtype == new.dtype
        np.testing.assert_allclose(new, old, rtol=RTOL, atol=ATOL)


def test_what_the_caller_keeps_stays_in_float32_with_the_callers_reason() -> None:
    text = HEAD + """
    agraph (float[2,4] x) => (float[2,4] y) <float[4,4] v = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}> {
        a = MatMul(x, v)
        b = MatMul(a, v)
        y = MatMul(b, v)
    }"""
    names = [str(node.name) for node in model_of(text).graph]
    after, report = half(text, rewrites=2, keep_fp32={names[1]: "it reads integers"})
    assert type_of(after, "MatMul") == ["FLOAT16", "FLOAT", "FLOAT16"]
    assert [(miss.node, miss.reason) for miss in report.misses] == [(names[1], "stays in fp32: it reads integers")]
    assert after.graph.initializers["v"].dtype == ir.DataType.FLOAT  # each reader has the weight in its own type
    assert after.graph.initializers["v_half"].dtype == ir.DataType.FLOAT16


def test_a_name_of_no_node_keeps_nothing() -> None:
    text = HEAD + "agraph (float[2] x) => (float[2] y) { y = Sigmoid(x) }"
    after, report = half(text, rewrites=1, keep_fp32={"elsewhere": "it is not here"})
    assert type_of(after, "Sigmoid") == ["FLOAT16"] and report.misses == ()
