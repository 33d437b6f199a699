import pytest

from hwc.passes.eliminate_reshape import eliminate_reshape
from tests.passes.check import check_pass, ops

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
HELD = """int64[2] flat = {2, 12}, int64[3] cube = {2, 3, 4}, int64[2] free = {-1, 12}, int64[1] one = {1},
          int64[1] zero = {0}, int64[3] back = {0, 3, 4}, int64[6] none = {0,0,0,0,0,0}, int64[3] ones = {1,1,1},
          int64[1] end = {9223372036854775807}, int64[1] down = {-1}, int64[1] start = {-1}, int64[1] far = {-999}"""


def body(text: str, inputs="float[2,3,4] x", outputs="float[2,3,4] y") -> str:
    return f"{HEAD} agraph ({inputs}) => ({outputs}) <{HELD}> {{ {text} }}"


@pytest.mark.parametrize(
    "op", ["Reshape(x, cube)", "Expand(x, cube)", "Tile(x, ones)", "Pad(x, none)", "Slice(x, zero, end)",
           "Slice(x, zero, end, one, one)"]
)
def test_what_does_nothing_goes(op) -> None:
    after, _, _ = check_pass(eliminate_reshape, body(f"a = {op} y = Neg(a)"), rewrites=1)
    assert ops(after) == ["Neg"]


def test_with_a_dynamic_batch() -> None:
    text = body("a = Reshape(x, free) b = Slice(a, zero, end) y = Neg(b)", "float[N,12] x", "float[N,12] y")
    check_pass(eliminate_reshape, text, rewrites=2)
    text = body("a = Flatten(x) b = Unsqueeze(a, one) c = Squeeze(b, one) y = Neg(c)", "float[N,3,4] x",
                "float[N,12] y")
    after, _, _ = check_pass(eliminate_reshape, text, rewrites=2)
    assert ops(after) == ["Reshape", "Neg"]


def test_a_row_becomes_one_or_none() -> None:
    text = body("a = Reshape(x, flat) b = Unsqueeze(a, one) c = Reshape(b, cube) y = Neg(c)")
    after, _, _ = check_pass(eliminate_reshape, text, rewrites=2)
    assert ops(after) == ["Neg"]
    text = body("a = Unsqueeze(x, one) y = Squeeze(a, one)", "float[2,3] x", "float[2,3] y")
    _, _, report = check_pass(eliminate_reshape, text, rewrites=1)


def test_a_shape_with_zeros_is_read_off_the_result() -> None:
    text = body("a = Reshape(x, cube) y = Reshape(a, back)", "float[2,12] x", "float[2,3,4] y")
    after, _, _ = check_pass(eliminate_reshape, text, rewrites=1)
    assert ops(after) == ["Reshape"]


@pytest.mark.parametrize(
    ("text", "inputs", "outputs"),
    [
        ("a = Slice(x, start, far, one, down) y = Neg(a)", "float[2,3,4] x", "float[2,3,4] y"),
        ("a = Expand(x, ones) y = Neg(a)", "float[N,3,4] x", "float[N,3,4] y"),
        ("a = Slice(x, zero, one) y = Neg(a)", "float[2,3,4] x", "float[1,3,4] y"),
        ("a = Flatten<axis=2>(x) y = Neg(a)", "float[A,B,4] x", "float[K,4] y"),
    ],
)
def test_what_does_something_stays(text, inputs, outputs) -> None:
    check_pass(eliminate_reshape, body(text, inputs, outputs), rewrites=0)


def test_near_misses() -> None:
    _, _, report = check_pass(eliminate_reshape, body("y = Reshape(x, cube)"), rewrites=0)
    assert "graph output" in report.misses[0].reason
    text = body("a = Reshape(x, flat) b = Unsqueeze(a, zero) y = Neg(b) z = Neg(a)",
                outputs="float[1,2,12] y, float[2,12] z")
    _, _, report = check_pass(eliminate_reshape, text, rewrites=0)
    assert "needed anyway" in report.misses[0].reason
