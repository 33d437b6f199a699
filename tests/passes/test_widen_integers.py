import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.passes.base import run_pass
from hwc.passes.narrow_int64 import narrow_int64
from hwc.passes.widen_integers import NARROW_TYPES, widen_integers
from tests.passes.check import assert_same_outputs, check_pass, context, model_of, ops

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def types_inside(model: ir.Model) -> set[ir.DataType]:
    borders = {*model.graph.inputs, *model.graph.outputs}
    return {v.dtype for n in model.graph for v in (*n.inputs, *n.outputs) if v is not None and v not in borders}


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shift_becomes_arithmetic(kind: str, direction: str) -> None:
    text = HEAD + f"""
    agraph (uint8[3,40] x) => (float[3,40] y) <{kind} k = {{2}}, {kind} seven = {{7}}> {{
        a = Cast<to={int(ir.DataType[kind.upper()])}>(x)
        m = Mod(a, seven)
        b = BitShift<direction="{direction}">(m, k)
        y = Cast<to=1>(b)
    }}"""
    after, _, _ = check_pass(widen_integers, text, rewrites=2)
    assert ops(after).count("Div") + ops(after).count("Mul") == 1 and "BitShift" not in ops(after)
    assert not types_inside(after) & NARROW_TYPES


def test_shift_that_may_wrap_stays() -> None:
    text = HEAD + """
    agraph (uint8[3] x) => (uint8[3] y) <uint8 k = {4}> { y = BitShift<direction="LEFT">(x, k) }"""
    _, _, report = check_pass(widen_integers, text, rewrites=0, feeds={"x": np.array([255, 1, 16], np.uint8)})
    assert "wraps" in report.misses[0].reason


def test_shift_by_a_computed_number_stays() -> None:
    text = HEAD + """agraph (uint8[3] x, uint8[3] k) => (uint8[3] y) { y = BitShift<direction="RIGHT">(x, k) }"""
    _, _, report = check_pass(widen_integers, text, rewrites=0)
    assert "not a constant" in report.misses[0].reason


def test_signed_shift_of_an_exporter() -> None:
    text = HEAD + """
    agraph (uint8[4,30] x) => (int64[4,30] y)
    <int64 zero = {0}, uint64 five = {5}, uint64 ones = {17870283321406128128}> {
        i = Cast<to=7>(x)
        n = Less(i, zero)
        u = Cast<to=13>(i)
        r = BitShift<direction="RIGHT">(u, five)
        o = BitwiseOr(r, ones)
        p = Cast<to=7>(o)
        q = Cast<to=7>(r)
        w = Where(n, p, q)
        y = Neg(w)
    }"""
    feeds = {"x": np.arange(120, dtype=np.uint8).reshape(4, 30) * 2}
    after, _, _ = check_pass(widen_integers, text, rewrites=3, feeds=feeds)
    assert not {"BitwiseOr", "BitShift", "Where"} & set(ops(after))
    last, _, _ = run_pass(after, narrow_int64, context())
    assert ops(last) == ["Cast", "Div", "Neg", "Cast"]
    assert_same_outputs(model_of(text), last, feeds=feeds)


def test_a_where_that_may_go_both_ways_stays() -> None:
    text = HEAD + """
    agraph (int32[4] x) => (int32[4] y) <int32 zero = {0}> { n = Less(x, zero) z = Neg(x) y = Where(n, z, x) }"""
    check_pass(widen_integers, text, rewrites=0)


def test_a_decided_where_that_broadcasts_is_a_near_miss() -> None:
    text = HEAD + """
    agraph (uint8[2,4] x) => (float[2,4] z) <int64 zero = {0}, int64[4] b = {1,2,3,4}, int64 one = {1}> {
        i = Cast<to=7>(x) n = Less(i, zero) y = Where(n, one, b) z = Cast<to=1>(y) }"""
    _, _, report = check_pass(widen_integers, text, rewrites=0)
    assert "broadcast" in report.misses[0].reason


def test_uint8_frames_are_cast_once_at_the_border() -> None:
    text = HEAD + """
    agraph (uint8[1,6,4,3] x) => (float[1,3,6,4] y, float[24,3] z) <int64[2] s = {24, 3}> {
        a = Transpose<perm=[0,3,1,2]>(x)
        y = Cast<to=1>(a)
        b = Reshape(x, s)
        z = Cast<to=1>(b)
    }"""
    after, _, _ = check_pass(widen_integers, text, rewrites=1)
    assert ops(after) == ["Cast", "Transpose", "Cast", "Reshape", "Cast"]
    assert after.graph.inputs[0].dtype == ir.DataType.UINT8


def test_a_cast_at_the_border_is_enough() -> None:
    text = HEAD + "agraph (uint8[4] x) => (float[4] y) { y = Cast<to=1>(x) }"
    check_pass(widen_integers, text, rewrites=0)


def test_quantized_types_are_left_alone() -> None:
    text = HEAD.replace("18", "19") + """
    agraph (float[4] x) => (float[4] y) <float s = {0.1}, uint8 z = {128}> {
        q = QuantizeLinear(x, s, z)
        y = DequantizeLinear(q, s, z)
    }"""
    check_pass(widen_integers, text, rewrites=0)


def test_what_may_exceed_int32_is_a_near_miss() -> None:
    text = HEAD + """
    agraph (uint32[4] x) => (uint32[4] y) <uint32 k = {3}> { a = Add(x, k) y = Max(a, k) }"""
    _, _, report = check_pass(widen_integers, text, rewrites=0)
    assert str(2**32 - 1) in report.misses[0].reason


def test_dynamic_shapes_are_no_obstacle() -> None:
    text = HEAD + """
    agraph (uint8[N,4] x) => (uint8[N,4] y) <uint8 k = {1}> { y = BitShift<direction="RIGHT">(x, k) }"""
    after, _, _ = check_pass(widen_integers, text, rewrites=2)
    assert ops(after) == ["Cast", "Div", "Cast"]


@given(
    st.sampled_from(["uint8", "uint16", "uint32", "uint64"]), st.integers(0, 8), st.integers(0, 12), st.integers(0, 99)
)
@settings(max_examples=40, deadline=None)
def test_any_shift_keeps_its_numbers(kind: str, right: int, left: int, seed: int) -> None:
    right, left = (min(shift, int(kind[4:]) - 1) for shift in (right, left))
    text = HEAD + f"""
    agraph (uint8[64] x) => ({kind}[64] y) <{kind} r = {{{right}}}, {kind} l = {{{left}}}> {{
        a = Cast<to={int(ir.DataType[kind.upper()])}>(x)
        b = BitShift<direction="RIGHT">(a, r)
        y = BitShift<direction="LEFT">(b, l)
    }}"""
    model = model_of(text)
    after, _, _ = run_pass(model, widen_integers, context())
    feeds = {"x": np.random.default_rng(seed).integers(0, 256, 64).astype(np.uint8)}
    assert_same_outputs(model, after, feeds=feeds, rtol=0, atol=0)
