import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hwc.passes.base import run_pass
from hwc.passes.fold_pads import fold_pads
from tests.passes.build import assert_same_in_onnxruntime, build, node, weight
from tests.passes.check import check_pass, context, ops

PADS = np.array([0, 0, 1, 0, 0, 0, 2, 1])
F = np.float32


def pad(*extra: str, source: str = "x", **attrs):
    return node("Pad", [source, "p", *extra], ["d"], **attrs)


def model_of(nodes, outputs=("y",), opset=18, shape=(1, 2, 5, 5), **arrays):
    used = {name for n in nodes for name in n.input}
    everything = {"p": PADS, "w": weight(3, 2, 3, 3), "inf": F(-np.inf), "zero": F(0), "one": F(1), **arrays}
    return build(nodes, {"x": shape}, list(outputs), {k: v for k, v in everything.items() if k in used}, opset=opset)


def test_into_conv_with_pads_of_its_own() -> None:
    model = model_of([pad(), node("Conv", ["d", "w"], ["y"], pads=[0, 1, 1, 0], auto_pad="NOTSET")])
    after, _, _ = check_pass(fold_pads, model, rewrites=1)
    assert ops(after) == ["Conv"] and list(after.graph.node(0).attributes["pads"].value) == [1, 1, 3, 1]


def test_into_valid_conv_with_axes_and_a_dynamic_batch() -> None:
    model = model_of([pad("zero", "axes"), node("Conv", ["d", "w"], ["y"], auto_pad="VALID")], shape=("n", 2, 5, 5),
                     p=np.array([1, 2, 0, 3]), axes=np.array([-1, 2]))
    after, _, _ = check_pass(fold_pads, model, rewrites=1)
    assert list(after.graph.node(0).attributes["pads"].value) == [2, 1, 3, 0]


def test_old_opset_keeps_pads_in_attributes() -> None:
    nodes = [node("Pad", ["x"], ["d"], pads=PADS.tolist()), node("Conv", ["d", "w"], ["y"])]
    after, _, _ = check_pass(fold_pads, model_of(nodes, opset=10), rewrites=1)
    assert ops(after) == ["Conv"]


@pytest.mark.parametrize("counts", [0, 1])
def test_into_average_pool(counts) -> None:
    own = [0, 1, 0, 0] if counts else [0, 0, 0, 0]
    pool = node("AveragePool", ["d"], ["y"], kernel_shape=[3, 3], pads=own, count_include_pad=counts)
    after, _, _ = check_pass(fold_pads, model_of([pad(), pool]), rewrites=1)
    assert ops(after) == ["AveragePool"]


@pytest.mark.parametrize("first", ["Relu", "Sigmoid", "Exp", "Abs"])
def test_zeros_into_max_pool_of_non_negative(first) -> None:
    nodes = [node(first, ["x"], ["r"]), node("Concat", ["r", "r"], ["k"], axis=1), pad(source="k"),
             node("MaxPool", ["d"], ["y"], kernel_shape=[3, 2], strides=[2, 2])]
    after, _, _ = check_pass(fold_pads, model_of(nodes), rewrites=1)
    assert ops(after) == [first, "Concat", "MaxPool"]


def test_minus_infinity_into_max_pool() -> None:
    model = model_of([pad("inf"), node("MaxPool", ["d"], ["y"], kernel_shape=[3, 2])])
    after, step, _ = run_pass(model, fold_pads, context())
    assert step.rewrites == 1 and ops(after) == ["MaxPool"]
    assert_same_in_onnxruntime(model, after)


@pytest.mark.parametrize(
    ("reason", "nodes", "extra"),
    [
        ("Conv pads with 0", [pad("one"), node("Conv", ["d", "w"], ["y"])], {}),
        ("batch or channels", [pad(), node("Conv", ["d", "w"], ["y"])],
         {"p": np.array([0, 1, 0, 0, 0, 0, 0, 0]), "w": weight(3, 3, 3, 3)}),
        ("crops", [pad(), node("Conv", ["d", "w"], ["y"])], {"p": np.array([0, 0, -1, 0, 0, 0, 0, 0])}),
        ("auto_pad", [pad(), node("Conv", ["d", "w"], ["y"], auto_pad="SAME_UPPER")], {}),
        ("mode is reflect", [pad(mode="reflect"), node("Conv", ["d", "w"], ["y"])], {}),
        ("uncounted", [pad(), node("AveragePool", ["d"], ["y"], kernel_shape=[3, 3], pads=[1, 0, 0, 0])], {}),
        ("may be negative", [pad(), node("MaxPool", ["d"], ["y"], kernel_shape=[3, 3])], {}),
        ("with 1.0", [pad("one"), node("MaxPool", ["d"], ["y"], kernel_shape=[3, 3])], {}),
        ("size of the kernel", [pad("inf"), node("MaxPool", ["d"], ["y"], kernel_shape=[2, 2])], {}),
        ("ceil_mode", [pad("inf"), node("MaxPool", ["d"], ["y"], kernel_shape=[3, 3], ceil_mode=1)], {}),
        ("dilated", [node("Relu", ["x"], ["r"]), pad(source="r"),
                     node("MaxPool", ["d"], ["y"], kernel_shape=[3, 3], dilations=[2, 2])], {}),
        ("read by 2", [pad(), node("Conv", ["d", "w"], ["c"]), node("Conv", ["d", "w"], ["e"]),
                       node("Add", ["c", "e"], ["y"])], {}),
    ],
)
def test_near_misses(reason, nodes, extra) -> None:
    _, step, report = run_pass(model_of(nodes, **extra), fold_pads, context())
    assert step.rewrites == 0 and reason in report.misses[0].reason, report.misses


def test_padded_graph_output_and_read_indices_stay() -> None:
    _, step, report = run_pass(model_of([pad(), node("Conv", ["d", "w"], ["y"])], ("y", "d")), fold_pads, context())
    assert step.rewrites == 0 and "graph output" in report.misses[0].reason


def test_nothing_to_do_is_no_change() -> None:
    check_pass(fold_pads, model_of([node("Conv", ["x", "w"], ["y"])]), rewrites=0)


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.data())
def test_any_pad(data) -> None:
    draw = data.draw
    rank = draw(st.integers(1, 3))
    ints = lambda low, high, n=rank: draw(st.lists(st.integers(low, high), min_size=n, max_size=n))  # noqa: E731
    kernel, strides, own, more = ints(1, 4), ints(1, 2), ints(0, 2, 2 * rank), ints(0, 3, 2 * rank)
    kind = draw(st.sampled_from(["Conv", "AveragePool", "MaxPool"]))
    own = [min(p, k - 1) for p, k in zip(own, kernel * 2)] if kind != "Conv" else own
    attrs = {"kernel_shape": kernel, "strides": strides, "pads": own}
    if kind == "Conv":
        attrs |= {"group": 2, "dilations": ints(1, 2)}
    elif kind == "AveragePool":
        attrs["count_include_pad"] = draw(st.sampled_from([0, 1]))
    nodes = [node("Relu", ["x"], ["r"]), pad(source="r"), node(kind, ["d"] + ["w"] * (kind == "Conv"), ["y"], **attrs)]
    p = np.array([0, 0, *more[:rank], 0, 0, *more[rank:]])
    shape = (2, 4, *(s + 7 for s in ints(0, 3)))
    model = model_of(nodes, shape=shape, p=p, w=weight(4, 2, *kernel))
    after, step, report = run_pass(model, fold_pads, context())
    assert step.rewrites == 1 or report.misses
    assert_same_in_onnxruntime(model, after)
