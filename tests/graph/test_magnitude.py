import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.graph.magnitude import magnitudes
from tests.passes.check import evaluate, model_of

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
LOWEST = float(np.finfo(np.float32).min)
LARGEST = -LOWEST


def bound_of_y(body: str, **arrays: object) -> float | str:
    constants = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    names = ", ".join(f"float[{','.join(map(str, a.shape))}] {name}" for name, a in constants.items())
    text = f"agraph (uint8[2,3] u, bool[2,3] c, float[2,3] f) => (float[N,M] y) <{names}> {{ {body} }}"
    graph = model_of(HEAD + text.replace(" <>", ""), constants).graph
    return magnitudes(graph)[graph.outputs[0]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Cast<to=1>(u)", 255),
        ("y = Cast<to=1>(c)", 1),
        ("x = Cast<to=1>(u) y = Add(x, x)", 510),
        ("x = Cast<to=1>(u) y = Mul(x, k)", 255 * 4),
        ("x = Cast<to=1>(u) y = Where(c, x, k)", 255),
        ("x = Cast<to=1>(u) a = Neg(x) y = Transpose(a)", 255),
        ("x = Cast<to=1>(u) a, b = Split<axis=1, num_outputs=2>(x) y = Concat<axis=1>(b, a)", 255),
        ("y = Where(c, k, lowest)", LARGEST),
        # One ULP of FP32's lowest value is 2e31: adding scores does not move it.
        ("a = Where(c, k, lowest) x = Cast<to=1>(u) y = Add(a, x)", LARGEST),
    ],
)
def test_bounds_that_are_reached(body: str, expected: float) -> None:
    assert bound_of_y(body, k=[[1, -4, 2]], lowest=[[LOWEST]]) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = Cast<to=1>(u) y = MatMul(x, w)", 255 * 6),
        ("x = Cast<to=1>(u) t = Transpose(x) y = MatMul(t, x)", 255 * 255 * 2),
        ("x = Cast<to=1>(u) y = Gemm<alpha=2.0>(x, w, b)", 255 * 12 + 5),
        ("x = Cast<to=1>(u) y = Gemm<transB=1>(x, r, b)", 255 * 6 + 5),
        ("x = Cast<to=1>(u) y = LayerNormalization(x, s, s)", 3**0.5 * 2 + 2),
        ("x = Cast<to=1>(u) y = Gelu(x)", 255),
        ("x = Cast<to=1>(u) y = Softmax(x)", 1),
    ],
)
def test_bounds_with_room_for_rounding(body: str, expected: float) -> None:
    bound = bound_of_y(body, w=[[1, -4], [-2, 1], [3, 0]], r=[[1, -2, 3], [-4, 1, 0]], b=[5, -1], s=[1, -2, 1])
    assert isinstance(bound, float) and expected <= bound <= expected * 1.011


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Relu(f)", "f may hold NaN or infinity"),
        ("y = Softmax(f)", "f may hold NaN or infinity"),
        ("y = Where(c, f, k)", "f may hold NaN or infinity"),
        ("y = Where(c, k, inf)", "the constant inf holds NaN or infinity"),
        ("y = Where(c, nan, k)", "the constant nan holds NaN or infinity"),
        ("x = Cast<to=1>(u) y = Sqrt(x)", "(Sqrt) is not followed"),
        ("x = Cast<to=1>(u) y = Div(x, k)", "(Div) is not followed"),
        ("a = Where(c, k, lowest) y = Mul(a, k)", "(Mul) may overflow"),
        ("a = Where(c, k, lowest) y = Add(a, a)", "(Add) may overflow"),
        ("a = Where(c, k, lowest) y = LayerNormalization(a, k)", "(LayerNormalization) may overflow"),
        ("x = Cast<to=1>(u) y = LayerNormalization<epsilon=0.0>(x, k)", "its epsilon is too small"),
        ("x = Cast<to=11>(u) y = Cast<to=1>(x)", "x is DOUBLE, not FLOAT"),
    ],
)
def test_no_bound_and_why(body: str, reason: str) -> None:
    bound = bound_of_y(body, k=[1, -4, 2], inf=[-np.inf], nan=[np.nan], lowest=[LOWEST])
    assert isinstance(bound, str) and reason in bound


STEPS = {
    "Add": "Add({a}, {b})", "Sub": "Sub({a}, {b})", "Mul": "Mul({a}, {b})", "MatMul": "MatMul({a}, w)",
    "Scores": "MatMul({a}, {b})", "LayerNormalization": "LayerNormalization({a}, s, s)", "Softmax": "Softmax({a})",
    "Gelu": "Gelu({a})", "Tanh": "Tanh({a})", "Where": "Where(c, {a}, {b})", "Transpose": "Transpose({a})",
}  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_no_element_leaves_its_bound(steps: list[tuple[str, int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, body = ["x"], ["x = Cast<to=1>(u)"]
    for index, (step, first, second) in enumerate(steps):
        chosen = {"a": values[first % len(values)], "b": values[second % len(values)]}
        body.append(f"v{index} = {STEPS[step].format(**chosen)}")
        values.append(f"v{index}")
    text = f"""{HEAD} agraph (uint8[4,4] u, bool[4,4] c) => (float[4,4] {values[-1]})
    <float[4,4] w, float[4] s> {{ {" ".join(body)} }}"""
    arrays = {"w": rng.normal(0, 3, (4, 4)).astype(np.float32), "s": rng.normal(0, 3, 4).astype(np.float32)}
    model = model_of(text, arrays)
    bound = magnitudes(model.graph)[model.graph.outputs[0]]
    feeds = {"u": rng.choice(np.array([0, 1, 255], np.uint8), (4, 4)), "c": rng.random((4, 4)) < 0.5}
    (found,) = evaluate(model, feeds)
    if isinstance(bound, float):
        assert np.isfinite(found).all() and float(np.abs(found).max()) <= bound
    else:
        assert "overflow" in bound
