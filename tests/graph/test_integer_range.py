import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.graph.integer_range import integer_ranges
from tests.passes.check import evaluate, model_of

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def range_of_y(text: str) -> tuple[int, int]:
    graph = model_of(HEAD + text).graph
    return integer_ranges(graph)[graph.outputs[0]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Cast<to=7>(x)", (0, 255)),
        ("a = Cast<to=7>(x) y = Neg(a)", (-255, 0)),
        ("a = Cast<to=7>(x) y = Add(a, k)", (-3, 257)),
        ("a = Cast<to=7>(x) y = Sub(a, k)", (-2, 258)),
        ("a = Cast<to=7>(x) y = Mul(a, k)", (-765, 510)),
        ("a = Cast<to=7>(x) b = Mul(a, a) c = Mul(b, b) d = Mul(c, c) y = Mul(d, d)", (-(2**63), 2**63 - 1)),
        ("a = Cast<to=7>(x) y = Max(a, k)", (0, 255)),
        ("a = Neg(k) y = Abs(a)", (0, 3)),
        ("y = Shape(x)", (2, 3)),
        ("y = ArgMax<axis=1, keepdims=0>(f)", (0, 5)),
        ("a = Cast<to=3>(x) y = Cast<to=7>(a)", (-128, 127)),
        ("y = Cast<to=7>(f)", (-(2**63), 2**63 - 1)),
        ("c = Less(x, x) y = Where(c, k, k)", (-3, 2)),
    ],
)
def test_intervals(body: str, expected: tuple[int, int]) -> None:
    text = f"agraph (uint8[2,3] x, float[2,5] f) => (int64[N,M] y) <int64[3] k = {{-3, 0, 2}}> {{ {body} }}"
    if "Shape(" in body or "Arg" in body or "Abs" in body:
        text = text.replace("[N,M] y", "[N] y")
    low, high = range_of_y(text)
    assert (low, high) == expected


def test_an_index_is_bounded_by_its_axis() -> None:
    graph = model_of(HEAD + """
    agraph (int64[4] i, float[7,2] t) => (float[4,2] y, int64[4] j) { y = Gather(t, i) j = Neg(i) }""").graph
    ranges = integer_ranges(graph)
    assert ranges[graph.inputs[0]] == (-7, 6) and ranges[graph.outputs[1]] == (-6, 7)


def test_top_k_values_are_not_indices() -> None:
    graph = model_of(HEAD + """
    agraph (int64[9] x) => (int64[2] v, int64[2] i) <int64[1] k = {2}> { v, i = TopK(x, k) }""").graph
    ranges = integer_ranges(graph)
    assert ranges[graph.outputs[0]][1] == 2**63 - 1 and ranges[graph.outputs[1]] == (0, 9)


@given(
    st.lists(st.sampled_from(["Add", "Sub", "Mul", "Div", "Max", "Min", "Neg", "Abs", "Mod"]), min_size=1, max_size=6),
    st.lists(st.integers(-9, 9), min_size=6, max_size=6),
    st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_what_is_computed_lies_in_the_interval(kinds: list[str], constants: list[int], seed: int) -> None:
    lines, last = ["v = Cast<to=7>(x)"], "v"
    inits = []
    for index, (kind, number) in enumerate(zip(kinds, constants)):
        if kind in ("Div", "Mod"):
            number = abs(number) + 1
        inits.append(f"int64 k{index} = {{{number}}}")
        operands = last if kind in ("Neg", "Abs") else f"{last}, k{index}"
        lines.append(f"v{index} = {kind}({operands})")
        last = f"v{index}"
    model: ir.Model = model_of(
        HEAD + f"agraph (uint8[50] x) => (int64[50] {last}) <{', '.join(inits)}> {{ {' '.join(lines)} }}"
    )
    low, high = integer_ranges(model.graph)[model.graph.outputs[0]]
    (result,) = evaluate(model, {"x": np.random.default_rng(seed).integers(0, 256, 50).astype(np.uint8)})
    assert low <= result.min() and result.max() <= high
