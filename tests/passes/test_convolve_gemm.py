import numpy as np
import pytest

from hwc.passes.convolve_gemm import convolve_gemm
from tests.passes.build import weight
from tests.passes.check import ops
from tests.passes.for_dla import graph, rewrite


def gemm(attributes: str = "", flatten: str = "Flatten(x)", tail: str = "", x: str = "2,3,4,5", k: int = 6, **arrays):
    size = int(np.prod([int(d) for d in x.split(",")[1:]]))
    shape = (k, size) if "transB=1" in attributes else (size, k)
    given = {"w": weight(*shape), "c": weight(k), **arrays}
    body = f"f = {flatten} {'g' if tail else 'y'} = Gemm{f'<{attributes}>' if attributes else ''}(f, w, c) {tail}"
    return graph(body, x, f"2,{k}", given)


@pytest.mark.parametrize("attributes", ["", "transB=1", "alpha=0.5, beta=2.0", "alpha=-2.0, transB=1"])
def test_forms_of_gemm(attributes) -> None:
    after, _, _ = rewrite(convolve_gemm, gemm(attributes))
    assert ops(after) == ["Conv", "Reshape"]
    assert list(after.graph[0].inputs[1].shape) == [6, 3, 4, 5]


@pytest.mark.parametrize(
    ("flatten", "x"),
    [
        ("Reshape(x, shape)", "2,3,4,5"), ("Squeeze(x, axes)", "2,3,1,1"), ("Flatten<axis=1>(x)", "2,3,1,1"),
    ],
)  # fmt: skip
def test_forms_of_flattening(flatten, x) -> None:
    head = "shape = Constant<value_ints=[2,-1]>() axes = Constant<value_ints=[2,3]>() "
    size = int(np.prod([int(d) for d in x.split(",")[1:]]))
    arrays = {"w": weight(size, 6), "c": weight(6)}
    model = graph(f"{head} f = {flatten} y = Gemm(f, w, c)", x, "2,6", arrays)
    after, _, _ = rewrite(convolve_gemm, model)
    assert ops(after) == ["Conv", "Reshape"]


@pytest.mark.parametrize(
    "tail",
    [
        "y = Relu(g)", "y = LeakyRelu<alpha=0.3>(g)", "y = Sigmoid(g)", "y = PRelu(g, s)", "y = PRelu(g, one)",
        "y = Clip(g, lo, hi)", "y = Clip(g, , hi)", "t = Tanh(g) y = Relu(t)",
    ],
)  # fmt: skip
def test_activations_move_onto_the_map(tail) -> None:
    arrays = {"s": weight(6), "one": weight(1), "lo": np.float32(-0.1).reshape(()), "hi": np.float32(0.2).reshape(())}
    after, _, _ = rewrite(convolve_gemm, gemm(tail=tail, **arrays))
    assert ops(after)[0] == "Conv" and ops(after)[-1] == "Reshape" and len(ops(after)) == 2 + tail.count("=") - \
        tail.count("alpha")


def test_a_chain_of_two_leaves_one_reshape() -> None:
    tail = "r = Relu(g) y = Gemm(r, v, d)"
    model = gemm(tail=tail, v=weight(6, 6), d=weight(6))
    after, _, _ = rewrite(convolve_gemm, model, rewrites=2)
    assert ops(after) == ["Conv", "Relu", "Conv", "Reshape"]


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 2, 1), (0, 1, 3, 2), (0, 3, 1, 2)])
def test_a_transpose_becomes_an_order_of_the_weights(perm) -> None:
    body = f"t = Transpose<perm={list(perm)}>(x) f = Flatten(t) y = Gemm(f, w, c)"
    model = graph(body, "2,3,4,5", "2,6", {"w": weight(60, 6), "c": weight(6)})
    after, _, _ = rewrite(convolve_gemm, model)
    assert ops(after) == ["Conv", "Reshape"]


def test_a_transpose_of_the_batch_is_a_near_miss() -> None:
    body = "t = Transpose<perm=[1,0,2,3]>(x) f = Flatten(t) y = Gemm(f, w)"
    model = graph(body, "2,2,4,5", "2,6", {"w": weight(40, 6)})
    _, _, report = rewrite(convolve_gemm, model, rewrites=0)
    assert "moves the batch" in report.misses[0].reason


def test_a_second_reader_of_the_product_keeps_the_activation_behind_the_reshape() -> None:
    after, _, _ = rewrite(convolve_gemm, gemm(tail="r = Relu(g) y = Add(r, g)"))
    assert ops(after) == ["Conv", "Reshape", "Relu", "Add"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (gemm(x="2,3,33,1"), "larger than a kernel"),
        (graph("p = Constant<value_ints=[4,6]>() f = Reshape(x, p) y = Gemm(f, w)", "2,3,2,2", "4,5",
               {"w": weight(6, 5)}), "does not join"),
    ],
)  # fmt: skip
def test_near_misses(model, reason) -> None:
    _, _, report = rewrite(convolve_gemm, model, rewrites=0)
    assert reason in report.misses[0].reason


def test_a_gemm_behind_something_else_is_not_near() -> None:
    _, _, report = rewrite(convolve_gemm, graph("y = Gemm(x, w)", "2,6", "2,4", {"w": weight(6, 4)}), rewrites=0)
    assert report.misses == ()
