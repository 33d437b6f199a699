import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc.passes.decompose_scatter_add import decompose_scatter_add, split_bins
from tests.passes.check import check_pass, model_of, ops

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 40)).astype(np.uint8)


def histogram(bins: int = 16, *, body: str = "", axis: int = 1, kind: int = 7) -> str:
    body = body or "s = Mod(i, b)"
    name = {7: "int64", 6: "int32"}[kind]
    return HEAD + f"""
    agraph (uint8[3,40] x, float[3,40] u, float[3,{bins}] d) => (float[3,{bins}] y)
    <{name} b = {{{bins}}}, {name} one = {{1}}> {{
        i = Cast<to={kind}>(x)
        {body}
        y = ScatterElements<axis={axis}, reduction="add">(d, s, u)
    }}"""


def feeds(bins: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"x": PIXELS, "u": rng.random((3, 40), np.float32), "d": rng.random((3, bins), np.float32)}


@pytest.mark.parametrize("bins", [1, 2, 7, 16, 60])
@pytest.mark.parametrize("kind", [6, 7])
def test_updates_are_added_to_the_data(bins: int, kind: int) -> None:
    after, _, _ = check_pass(decompose_scatter_add, histogram(bins, kind=kind), rewrites=1, feeds=feeds(bins))
    assert "ScatterElements" not in ops(after) and ops(after).count("MatMul") == 1


def test_counting_needs_neither_updates_nor_data() -> None:
    model = model_of(
        HEAD + """
    agraph (uint8[3,40] x) => (float[3,256] y) {
        i = Cast<to=7>(x)
        y = ScatterElements<axis=-1, reduction="add">(zeros, i, ones)
    }""",
        {"zeros": np.zeros((3, 256), np.float32), "ones": np.ones((3, 40), np.float32)},
    )
    after, _, _ = check_pass(decompose_scatter_add, model, rewrites=1, feeds={"x": PIXELS}, rtol=0, atol=0)
    assert "Add" not in ops(after) and ops(after).count("Mul") == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (histogram(body="s = Identity(i)"), "may be 255"),
        (histogram(body="r = Mod(i, b) s = Sub(r, one)"), "may be -1"),
        (histogram(3, axis=0, body="s = Mod(i, b)").replace("[3,3]", "[3,40]"), "not the last"),
        (histogram(509), "509 x 1"),
        (histogram().replace("[3,16]", "[4,16]"), "every row"),
    ],
)
def test_near_misses(text: str, reason: str) -> None:
    data = (4, 16) if "[4,16]" in text else (3, 40) if "axis=0" in text else (3, 509) if "509" in text else (3, 16)
    given = {**feeds(16), "d": np.zeros(data, np.float32), "x": PIXELS % 16 if "Identity" in text else PIXELS}
    _, _, report = check_pass(decompose_scatter_add, text, rewrites=0, feeds=given)
    assert reason in report.misses[0].reason


def test_a_scatter_that_replaces_is_left_alone() -> None:
    text = histogram().replace(', reduction="add"', "")
    _, _, report = check_pass(decompose_scatter_add, text, rewrites=0, feeds=feeds(16))
    assert report.misses == ()


@given(st.integers(1, 3000))
def test_bins_are_split_into_a_product(bins: int) -> None:
    high, low = split_bins(bins)
    assert high * low == bins and high >= low
    assert all(high + low <= d + bins // d for d in range(1, bins + 1) if bins % d == 0)
