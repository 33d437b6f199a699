import itertools

import numpy as np
import onnx_ir as ir
import pytest

from hwc.passes.eliminate_cast import eliminate_cast, holds
from tests.passes.check import check_pass, ops

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def test_cast_to_the_same_type_goes() -> None:
    text = HEAD + "agraph (float[N] x) => (float[N] y) { a = Cast<to=1>(x) b = CastLike(a, x) y = Neg(b) }"
    after, _, _ = check_pass(eliminate_cast, text, rewrites=2)
    assert ops(after) == ["Neg"]


@pytest.mark.parametrize(("source", "wide"), [("int32", 7), ("int32", 11), ("float16", 1), ("uint8", 6), ("bool", 1)])
def test_there_and_back_goes(source, wide) -> None:
    back = {"int32": 6, "float16": 10, "uint8": 2, "bool": 9}[source]
    text = HEAD + f"""
    agraph ({source}[3] x) => ({source}[3] y) {{ a = Cast<to={wide}>(x) b = Cast<to={back}>(a) y = Identity(b) }}"""
    after, _, _ = check_pass(eliminate_cast, text, rewrites=1)
    assert ops(after) == ["Identity"]


def test_widening_chain_becomes_one() -> None:
    text = HEAD + """
    agraph (float16[3] x) => (int32[3] y) { a = Cast<to=1>(x) b = Cast<to=11>(a) y = Cast<to=6>(b) }"""
    after, _, _ = check_pass(eliminate_cast, text, rewrites=2)
    assert ops(after) == ["Cast"]


def test_rounding_casts_stay() -> None:
    text = HEAD + "agraph (float[3] x) => (float[3] y) { a = Cast<to=10>(x) y = Cast<to=1>(a) }"
    _, _, report = check_pass(eliminate_cast, text, rewrites=0)
    assert "lose digits" in report.misses[0].reason


def test_cast_that_names_an_output_and_one_that_is_read_twice_stay() -> None:
    text = HEAD + "agraph (float[3] x) => (float[3] y) { y = Cast<to=1>(x) }"
    _, _, report = check_pass(eliminate_cast, text, rewrites=0)
    assert "graph output" in report.misses[0].reason
    text = HEAD + "agraph (int32[3] x) => (float[3] y, int64[3] z) { z = Cast<to=7>(x) y = Cast<to=1>(z) }"
    _, _, report = check_pass(eliminate_cast, text, rewrites=0)
    assert "needed anyway" in report.misses[0].reason


def test_holds_agrees_with_numpy() -> None:
    floats = ["FLOAT16", "FLOAT", "DOUBLE"]
    names = ["BOOL", "UINT8", "INT8", "UINT16", "INT16", "INT32", "UINT32", "INT64", *floats]
    kinds = [ir.DataType[name] for name in names]
    for wide, narrow in itertools.product(kinds, kinds):
        if holds(wide, narrow):
            # numpy's table, but for int64 -> float64, which it calls safe and which is not.
            assert np.can_cast(narrow.numpy(), wide.numpy(), "safe"), (wide, narrow)
    assert not holds(ir.DataType.DOUBLE, ir.DataType.INT64) and not holds(ir.DataType.FLOAT, ir.DataType.INT32)
