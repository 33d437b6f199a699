"""Where pairs stand: outside fusion groups, before carriers, with shared scales, and not where a group was put back."""

import numpy as np
import pytest

from hwc.precision.find_nonnegative import find_nonnegative
from hwc.precision.find_points import find_points
from hwc.precision.plan import QuantRules
from tests.passes.build import build, node, weight
from tests.passes.check import model_of
from tests.precision.placed import CPU, TENSORRT, groups_of, points_of, residual


def test_points_of_the_residual_network():
    points = points_of(residual())
    assert list(points) == ["x", "p0", "rd", "r1", "c2", "r3", "mean"]
    # The pool's output carries the pair, and both the next Conv and the Add read it.
    assert points["p0"].readers == (("depthwise", 0), ("add", 1))
    # The skip of the Concat is r1, read by conv2 as well; both inputs share a scale, and c2 may be negative.
    assert points["r1"].readers == (("conv2", 0), ("concat", 0))
    assert points["r1"].share == points["c2"].share == "r1"
    assert not points["r1"].is_unsigned and points["p0"].is_unsigned
    assert points["mean"].readers == (("flatten", 0),)


def test_no_pair_stands_inside_a_group():
    model = residual()
    inner = set()
    for group in groups_of(model):
        made = {v.name for n in model.graph if n.name in group.nodes for v in n.outputs}
        inner |= made - set(group.outputs)
    assert inner and not inner & set(points_of(model))


def test_engines_without_such_kernels_split_pools_and_quantize_both_addends():
    points = points_of(residual(), CPU)
    assert points["r0"].readers == (("pool0", 0),) and "p0" not in points
    assert points["c1"].readers == (("add", 0),)


def test_the_skip_stays_float_where_the_rules_say_so():
    points = points_of(residual(), QuantRules(unsigned=False, quantize_add=False, quantize_average=False))
    assert points["p0"].readers == (("depthwise", 0),) and "r3" not in points


def test_a_group_that_was_put_back_reads_floats():
    model = residual()
    by_node = {name: group.id for group in groups_of(model) for name in group.nodes}
    points = points_of(model, high=frozenset([by_node["depthwise"]]))
    assert points["p0"].readers == (("add", 1),)
    points = points_of(model, high=frozenset([by_node["depthwise"], by_node["conv1"]]))
    assert "p0" not in points and "rd" not in points
    points = points_of(model, high=frozenset([by_node["deconv"]]))
    assert points["r1"].readers == (("conv2", 0),) and "c2" not in points
    _, misses = find_points(model, groups_of(model), TENSORRT, frozenset([by_node["gemm"]]))
    assert any("put back" in miss.reason for miss in misses)


def test_every_subset_of_groups_leaves_a_subset_of_points():
    model, rng = residual(), np.random.default_rng(0)
    ids = [group.id for group in groups_of(model)]
    full = points_of(model)
    for _ in range(20):
        high = frozenset(name for name in ids if rng.random() < 0.5)
        kept = points_of(model, high=high)
        for name, point in kept.items():
            assert set(point.readers) <= set(full[name].readers) and not set(point.groups) & high
    assert points_of(model, high=frozenset(ids)) == {}


def carrier(nodes, arrays=None, x=(1, 4, 6, 6), outputs=("y",)):
    return build(nodes, {"x": list(x)}, list(outputs), {"w": weight(4, 4, 1, 1), "v": weight(4, 4, 1, 1, seed=2),
                                                        **(arrays or {})})  # fmt: skip


def test_a_pair_moves_across_a_pool_that_is_alone():
    model = carrier([
        node("Conv", ["x", "w"], ["a"], name="a"),
        node("Add", ["a", "x"], ["s"], name="s"),
        node("Relu", ["s"], ["r"], name="r"),
        node("MaxPool", ["r"], ["p"], name="p", kernel_shape=[2, 2]),
        node("Conv", ["p", "v"], ["y"], name="b"),
    ])  # fmt: skip
    assert points_of(model)["r"].readers == (("p", 0),)


def test_a_pair_stays_behind_a_carrier_that_somebody_reads_as_floats():
    chain = [node("Transpose", ["x"], ["t"], name="t", perm=[0, 1, 3, 2]), node("Conv", ["t", "w"], ["y"], name="b")]
    assert list(points_of(carrier(chain))) == ["x"]
    read = [*chain, node("Softmax", ["t"], ["z"], name="z")]
    assert list(points_of(carrier(read, outputs=("y", "z")))) == ["t"]
    assert list(points_of(carrier(chain, outputs=("y", "t")))) == ["t"]


def test_a_pad_in_a_group_lets_the_pair_stand_in_front():
    model = carrier(
        [node("Pad", ["x", "pads"], ["q"], name="pad"), node("Conv", ["q", "w"], ["y"], name="b")],
        {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 1])},
    )
    assert points_of(model)["x"].readers == (("pad", 0),)


def test_nested_concats_share_one_scale_and_are_found_in_linear_time():
    nodes, last = [], "x"
    for i in range(24):
        nodes.append(node("Conv", [last, f"w{i}"], [f"c{i}"], name=f"conv{i}"))
        nodes.append(node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}"))
        nodes.append(node("Concat", [last, f"r{i}"], [f"t{i}"], name=f"cat{i}", axis=1))
        last = f"t{i}"
    nodes.append(node("Conv", [last, "wy"], ["y"], name="end"))
    arrays = {f"w{i}": weight(2, 4 + 2 * i, 1, 1) for i in range(24)} | {"wy": weight(2, 52, 1, 1)}
    points = points_of(build(nodes, {"x": [1, 4, 4, 4]}, ["y"], arrays))
    assert len(points) == 25 and {point.share for point in points.values()} == {"x"}
    assert not any(point.is_unsigned for point in points.values())  # x itself may be negative


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("y = MatMul(x, x)", "both operands are computed"),
        ("y = MatMul(k, x)", "on the left"),
        ("y = Softmax(x)", "exponentials"),
        ("y = Conv(u, s)", "computed at run time"),
        ("y = Conv(u, bad)", "not finite"),
    ],
)
def test_what_stays_high_says_why(text, said):
    model = _one(text)
    points, misses = find_points(model, groups_of(model), TENSORRT)
    assert not points and len(misses) == 1 and said in misses[0].reason


def _one(text):
    left, call = text.split(" = ")
    op, names = call.rstrip(")").split("(")
    nodes = [node("Reshape", ["x", "shape"], ["s"], name="s"), node(op, names.split(", "), [left], name="it")]
    arrays = {"k": weight(4, 4), "bad": np.full((4, 4, 1, 1), np.nan, np.float32), "shape": np.array([4, 4, 1, 1])}
    return build(nodes, {"x": [4, 4], "u": [1, 4, 4, 4]}, ["y", "s"], arrays)


def test_attention_is_quantized_by_rule():
    points = points_of(_one("y = MatMul(x, x)"), QuantRules(unsigned=False, quantize_matmul=True))
    assert points["x"].readers == (("it", 0), ("it", 1))


def test_uint8_pixels_behind_a_cast_are_never_negative():
    text = '<ir_version: 8, opset_import: ["" : 18]> g (uint8[n, 3, 8, 8] x) => (float[n, 4, 6, 6] y) '
    model = model_of(text + "{ f = Cast <to = 1> (x)\n y = Conv(f, w) }", {"w": weight(4, 3, 3, 3)})
    points = points_of(model, CPU)
    assert list(points) == ["f"] and points["f"].is_unsigned


def test_bodies_of_control_flow_are_left_alone():
    bodies = [f"{n}() => (float[1, 4, 4, 4] {n}o) {{ {n}o = Conv(u, w) }}" for n in "ab"]
    model = model_of(
        '<ir_version: 8, opset_import: ["" : 18]> g (bool c, float[1, 4, 4, 4] u) => (float[1, 4, 4, 4] y) '
        f"{{ y = If (c) <then_branch = {bodies[0]}, else_branch = {bodies[1]}> }}",
        {"w": weight(4, 4, 1, 1)},
    )
    points, misses = find_points(model, groups_of(model), TENSORRT)
    assert not points and len(misses) == 2 and "body" in misses[0].reason


PROOFS = [
    ("Relu(x)", True), ("Sigmoid(x)", True), ("Tanh(x)", False), ("Abs(x)", True), ("Clip(x, zero, six)", True),
    ("Clip(x, low, six)", False), ("LeakyRelu(x)", False), ("Mul(x, x)", True), ("Add(x, x)", False),
    ("Max(x, six)", True), ("HardSwish(x)", False), ("Softmax(x)", True),
]  # fmt: skip


@pytest.mark.parametrize(("text", "proved"), PROOFS)
def test_proofs_of_never_negative(text, proved):
    op, names = text.rstrip(")").split("(")
    arrays = {"zero": np.float32(0), "six": np.float32(6), "low": np.float32(-1)}
    model = build([node(op, names.split(", "), ["y"])], {"x": [2, 3]}, ["y"], arrays)
    assert ("y" in find_nonnegative(model)) is proved


def test_proofs_are_handed_on_by_what_moves_and_adds():
    nodes = [
        node("Relu", ["x"], ["r"]), node("Transpose", ["r"], ["t"]), node("Concat", ["t", "t"], ["c"], axis=0),
        node("Add", ["c", "c"], ["a"]), node("Sub", ["a", "c"], ["d"]), node("Concat", ["d", "a"], ["y"], axis=0),
    ]  # fmt: skip
    found = find_nonnegative(build(nodes, {"x": [2, 3]}, ["y"], {}))
    assert {"r", "t", "c", "a"} <= found and not {"x", "d", "y"} & found
