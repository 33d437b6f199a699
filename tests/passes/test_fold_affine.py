import numpy as np
import pytest

from hwc.passes.base import run_pass
from hwc.passes.fold_affine import fold_affine
from hwc.passes.fold_batchnorm import fold_batchnorm
from tests.passes.build import bn, build, node, norm, weight
from tests.passes.check import check_pass, context, ops

CONV = node("Conv", ["x", "w"], ["c"])


def constant(*shape: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [("Mul", "ca"), ("Mul", "ac"), ("Add", "ca"), ("Add", "ac"), ("Sub", "ca"), ("Sub", "ac"), ("Div", "ca")],
)
@pytest.mark.parametrize("shape", [(3, 1), (1, 3, 1), (1,), ()])
def test_behind_conv(op_type, inputs, shape) -> None:
    model = build([CONV, node(op_type, list(inputs), ["y"])], {"x": (2, 2, 5)}, ["y"],
                  {"w": weight(3, 2, 2), "a": constant(*shape)})
    after, _, _ = check_pass(fold_affine, model, rewrites=1)
    assert ops(after) == ["Conv"]


def test_a_chain_folds_in_one_run() -> None:
    nodes = [CONV, node("Mul", ["c", "a"], ["d"]), node("Add", ["d", "a"], ["e"]), node("Relu", ["e"], ["y"])]
    model = build(nodes, {"x": ("n", 2, 5, 5)}, ["y"], {"w": weight(3, 2, 2, 2), "a": constant(3, 1, 1)})
    after, _, _ = check_pass(fold_affine, model, rewrites=2)
    assert ops(after) == ["Conv", "Relu"]


def test_bias_is_added_before_the_norm_and_both_fold() -> None:
    nodes = [CONV, node("Add", ["c", "a"], ["d"]), bn("d", "y")]
    model = build(nodes, {"x": (1, 2, 5)}, ["y"], {"w": weight(3, 2, 2), "a": constant(3, 1), **norm(3)})
    after, _, _ = check_pass(fold_affine, model, rewrites=1)
    after, _, _ = check_pass(fold_batchnorm, after, rewrites=1)
    assert ops(after) == ["Conv"]


@pytest.mark.parametrize("op_type", ["BatchNormalization", "InstanceNormalization"])
def test_behind_another_norm(op_type) -> None:
    held = ["bn0", "bn1", "bn2", "bn3"][: 4 if op_type[0] == "B" else 2]
    nodes = [node(op_type, ["x", *held], ["b"]), node("Mul", ["b", "a"], ["m"]), node("Sub", ["m", "a"], ["y"])]
    arrays = {name: array for name, array in norm(3).items() if name in held} | {"a": constant(3, 1)}
    after, _, _ = check_pass(fold_affine, build(nodes, {"x": (2, 3, 5)}, ["y"], arrays), rewrites=2)
    assert ops(after) == [op_type]


def test_scale_goes_ahead_into_a_padded_conv_but_a_shift_does_not() -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Mul", ["r", "a"], ["m"]), node("Add", ["m", "a"], ["s"]),
             node("Conv", ["s", "w"], ["y"], pads=[1, 1])]
    model = build(nodes, {"x": (1, 4, 6)}, ["y"], {"w": weight(3, 4, 2), "a": constant(1, 4, 1)})
    after, _, report = check_pass(fold_affine, model, rewrites=0)
    assert "border" in report.misses[-1].reason
    nodes = [nodes[0], nodes[1], node("Conv", ["m", "w"], ["y"], pads=[1, 1])]
    model = build(nodes, {"x": (1, 4, 6)}, ["y"], {"w": weight(3, 4, 2), "a": constant(1, 4, 1)})
    after, _, _ = check_pass(fold_affine, model, rewrites=1)
    assert ops(after) == ["Relu", "Conv"]


def test_scale_of_a_matmul_on_either_side() -> None:
    nodes = [node("Mul", ["x", "a"], ["m"]), node("MatMul", ["m", "w"], ["p"]), node("Div", ["p", "b"], ["y"])]
    model = build(nodes, {"x": (2, 3, 4)}, ["y"], {"w": weight(4, 5), "a": constant(4), "b": constant(5)})
    after, _, _ = check_pass(fold_affine, model, rewrites=2)
    assert ops(after) == ["MatMul"]


def test_bias_of_a_matmul_stays() -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "a"], ["y"])]
    check_pass(fold_affine, build(nodes, {"x": (2, 4)}, ["y"], {"w": weight(4, 5), "a": constant(5)}), rewrites=0)


@pytest.mark.parametrize("shape", [(3, 4), (1, 1, 4), (2, 1, 1), (2, 3, 4)])
def test_what_is_not_per_channel_stays(shape) -> None:
    model = build([CONV, node("Mul", ["c", "a"], ["y"])], {"x": (2, 2, 5)}, ["y"],
                  {"w": weight(3, 2, 2), "a": constant(*shape)})
    check_pass(fold_affine, model, rewrites=0)


def test_a_constant_that_widens_the_channels_stays() -> None:
    model = build([CONV, node("Add", ["c", "a"], ["y"])], {"x": (2, 2, 5)}, ["y"],
                  {"w": weight(1, 2, 2), "a": constant(3, 1)})
    check_pass(fold_affine, model, rewrites=0)


@pytest.mark.parametrize(
    ("reason", "nodes", "outputs"),
    [
        ("read by 2", [CONV, node("Mul", ["c", "a"], ["y"]), node("Relu", ["c"], ["z"])], ["y", "z"]),
        ("graph output", [CONV, node("Mul", ["c", "a"], ["y"])], ["y", "c"]),
        ("zero", [CONV, node("Div", ["c", "z"], ["y"])], ["y"]),
        ("weight", [node("Mul", ["v", "a"], ["m"]), node("Conv", ["x", "m"], ["y"])], ["y"]),
    ],
)
def test_near_misses(reason, nodes, outputs) -> None:
    arrays = {"w": weight(3, 2, 2), "a": constant(1, 1, 1), "z": np.zeros(1, np.float32)}
    used = {name for n in nodes for name in n.input}
    inputs = {"x": (2, 2, 5), "v": (3, 2, 2)}
    model = build(nodes, {k: v for k, v in inputs.items() if k in used}, outputs,
                  {k: v for k, v in arrays.items() if k in used})
    _, step, report = run_pass(model, fold_affine, context())
    assert step.rewrites == 0 and reason in report.misses[0].reason, report.misses


def test_integers_and_runtime_operands_are_left_alone() -> None:
    check_pass(fold_affine, build([node("Mul", ["x", "x"], ["y"])], {"x": (2, 3)}, ["y"], {}), rewrites=0)
