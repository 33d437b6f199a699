"""Shapes as trtexec and Polygraphy write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc.artifacts import DynamicDim
from hwc.errors import UsageError
from hwc.frontend.input_shapes import MAX_DIM, InputShapes, format_shapes, parse_shapes


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("x:1x3x224x224", {"x": (1, 3, 224, 224)}),
        ("x:[1,3,224,224]", {"x": (1, 3, 224, 224)}),
        ("x:[1, 3, 224, 224]", {"x": (1, 3, 224, 224)}),
        ("a:1x3,b:1x4", {"a": (1, 3), "b": (1, 4)}),
        ("a:[1,3] b:1x4", {"a": (1, 3), "b": (1, 4)}),
        ("a:[1,3],b:[4]", {"a": (1, 3), "b": (4,)}),
        ("1x3x224x224", {"": (1, 3, 224, 224)}),
        ("[1,3]", {"": (1, 3)}),
        ("gpu_0/data_0:1x3", {"gpu_0/data_0": (1, 3)}),
        ("input:0:1x3", {"input:0": (1, 3)}),
        ("a:b:c:7", {"a:b:c": (7,)}),
        ("1x3:1x4", {"1x3": (1, 4)}),
        ("s:[]", {"s": ()}),
        ("", {}),
    ],
)
def test_forms(text: str, shapes: dict) -> None:
    assert parse_shapes(text).shapes == shapes


@pytest.mark.parametrize("text", ["x:[1,3,224,224]", "input:0:[2,3] y:[]", "gpu_0/data:[7] a:b:[1,64]"])
def test_polygraphy_itself_reads_the_same(text: str) -> None:
    util = pytest.importorskip("polygraphy.tools.args.util", reason="the extra 'dev' is not installed")
    read = util.parse_meta(text.split(), includes_dtype=False)
    assert {name: tuple(meta.shape) for name, meta in read.items()} == parse_shapes(text).shapes


@pytest.mark.parametrize(("word", "dtype"), [("int64", "int64"), ("fp16", "float16"), ("half", "float16")])
def test_dtypes(word: str, dtype: str) -> None:
    parsed = parse_shapes(f"ids:[1,64]:{word},mask:1x64")
    assert parsed.dtypes == {"ids": dtype} and parsed.shapes == {"ids": (1, 64), "mask": (1, 64)}


def test_ranges_come_from_three_maps() -> None:
    parsed = parse_shapes("sr:1:int64", "x:1x3x224x224", "x:4x3x224x224", "x:8x3x224x224")
    assert parsed.shapes == {"sr": (1,), "x": (DynamicDim(1, 4, 8), 3, 224, 224)}
    assert parsed.dtypes == {"sr": "int64"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x:1x-1x3",), "cannot read 'x:1x-1x3'"),
        (("x:[1,-1]",), "'-1' is not the size of a dimension"),
        (("x:0x3",), "'0' is not the size"),
        (("x:99999999999",), "is not the size"),
        (("x",), "cannot read"),
        (("x:",), "cannot read"),
        (("x:[1,3",), "brackets do not match"),
        (("x:1,3]",), "brackets do not match"),
        (("x:[[1]]",), "brackets do not match"),
        (("x:1x3,x:1x4",), "given twice"),
        (("1x3,1x4",), "two shapes have no name"),
        (("x:1x3:floatish",), "no dtype is called 'floatish'"),
        (("", "x:1", "", "x:2"), "--optShapes is missing"),
        (("", "x:1", "x:2", "y:3"), "not in all of"),
        (("", "x:1", "x:2x2", "x:3"), "several ranks"),
        (("", "x:4", "x:2", "x:8"), "min <= opt <= max"),
        (("x:1", "x:1", "x:2", "x:3"), "a fixed shape and a range"),
    ],
)
def test_refusals(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_shapes(*arguments)


def test_an_open_dimension_says_what_to_give() -> None:
    with pytest.raises(UsageError, match="--minShapes, --optShapes and --maxShapes"):
        parse_shapes("x:1x-1")


def test_an_unnamed_shape_goes_to_the_only_input() -> None:
    parsed = parse_shapes("1x3:fp16")
    assert parsed.for_inputs(["x"]) == InputShapes({"x": (1, 3)}, {"x": "float16"})
    with pytest.raises(UsageError, match="has 2 inputs"):
        parsed.for_inputs(["x", "y"])
    with pytest.raises(UsageError, match="no input is called 'z'"):
        parse_shapes("z:1").for_inputs(["x"])


names = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, blacklist_categories=("Z", "C"),
                              blacklist_characters=",[]"), min_size=1, max_size=20)  # fmt: skip
dims = st.lists(st.integers(1, MAX_DIM), max_size=6).map(tuple)


@given(st.dictionaries(names, dims, max_size=4), st.sampled_from([None, "int64", "float16"]))
def test_round_trip(shapes: dict, dtype: str | None) -> None:
    said = InputShapes(shapes, dict.fromkeys(shapes, dtype) if dtype else {})
    assert parse_shapes(format_shapes(said)) == said


@given(st.dictionaries(names, st.lists(st.tuples(*[st.integers(1, 99)] * 3).map(sorted), min_size=1, max_size=4),
                       min_size=1, max_size=3))  # fmt: skip
def test_round_trip_of_ranges(triples: dict) -> None:
    said = InputShapes(
        {name: tuple(a if a == b == c else DynamicDim(a, b, c) for a, b, c in dims) for name, dims in triples.items()}
    )
    assert parse_shapes("", *(format_shapes(said, which) for which in ("min", "opt", "max"))) == said


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        parse_shapes(text)
    except UsageError:
        return
