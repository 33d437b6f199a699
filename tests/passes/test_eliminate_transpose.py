import pytest

from hwc.passes.eliminate_transpose import eliminate_transpose
from tests.passes.check import check_pass, ops

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def body(text: str, inputs="float[2,3,4] x", outputs="float[2,3,4] y") -> str:
    held = "float two = {2.0}, float[4] row = {1.0, 2.0, 3.0, 4.0}"
    return f"{HEAD} agraph ({inputs}) => ({outputs}) <{held}> {{ {text} }}"


def test_identity_goes() -> None:
    after, _, _ = check_pass(eliminate_transpose, body("a = Transpose<perm=[0,1,2]>(x) y = Neg(a)"), rewrites=1)
    assert ops(after) == ["Neg"]


def test_axes_of_size_one_that_change_no_shape() -> None:
    text = body("a = Transpose<perm=[1,0,2]>(x) y = Neg(a)", "float[1,1,4] x", "float[1,1,4] y")
    check_pass(eliminate_transpose, text, rewrites=1)
    text = body("a = Transpose<perm=[1,0,2]>(x) y = Neg(a)", "float[1,3,4] x", "float[3,1,4] y")
    check_pass(eliminate_transpose, text, rewrites=0)


def test_pairs_merge_or_cancel() -> None:
    text = body("a = Transpose<perm=[1,2,0]>(x) b = Transpose<perm=[1,2,0]>(a) y = Neg(b)", outputs="float[4,2,3] y")
    after, _, _ = check_pass(eliminate_transpose, text, rewrites=1)
    assert ops(after) == ["Transpose", "Neg"]
    text = body("a = Transpose<perm=[1,2,0]>(x) b = Transpose<perm=[2,0,1]>(a) y = Neg(b)")
    after, _, _ = check_pass(eliminate_transpose, text, rewrites=1)
    assert ops(after) == ["Neg"]


@pytest.mark.parametrize("shape", ["2,3,4", "N,3,M"])
def test_elementwise_between(shape) -> None:
    text = body(
        "a = Transpose<perm=[0,2,1]>(x) b = Relu(a) c = Mul(two, b) d = Sigmoid(c) y = Transpose<perm=[0,2,1]>(d)",
        f"float[{shape}] x", f"float[{shape}] y",
    )
    after, _, _ = check_pass(eliminate_transpose, text, rewrites=1)
    assert ops(after) == ["Relu", "Mul", "Sigmoid"]


@pytest.mark.parametrize(
    ("reason", "text", "outputs"),
    [
        ("do not cancel", "a = Transpose<perm=[1,2,0]>(x) b = Relu(a) y = Transpose<perm=[1,2,0]>(b)",
         "float[4,2,3] y"),
        ("read by 2", "a = Transpose<perm=[0,2,1]>(x) b = Relu(a) y = Transpose<perm=[0,2,1]>(b) z = Neg(b)",
         "float[2,3,4] y, float[2,4,3] z"),
        ("graph output", "a = Transpose<perm=[0,2,1]>(x) b = Relu(a) y = Transpose<perm=[0,2,1]>(b)",
         "float[2,3,4] y, float[2,4,3] b"),
        ("graph output", "y = Transpose<perm=[0,1,2]>(x)", "float[2,3,4] y"),
    ],
)
def test_near_misses(reason, text, outputs) -> None:
    _, _, report = check_pass(eliminate_transpose, body(text, outputs=outputs), rewrites=0)
    assert any(reason in miss.reason for miss in report.misses), report.misses


def test_an_operand_with_axes_between_stays() -> None:
    text = body("a = Transpose<perm=[0,2,1]>(x) b = Mul(a, row) y = Transpose<perm=[0,2,1]>(b)", "float[2,4,4] x",
                "float[2,4,4] y")
    check_pass(eliminate_transpose, text, rewrites=0)


def test_softmax_between_stays() -> None:
    check_pass(eliminate_transpose, body(
        "a = Transpose<perm=[0,2,1]>(x) b = Softmax(a) y = Transpose<perm=[0,2,1]>(b)"), rewrites=0)
