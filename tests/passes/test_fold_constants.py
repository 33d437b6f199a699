import numpy as np
import pytest

from hwc.graph.model import Namer
from hwc.passes.base import run_pass
from hwc.passes.fold_constants import fold_constants
from hwc.passes.inline_branch import inline_branch
from tests.passes.check import assert_same_outputs, check_pass, context, model_of, ops

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def test_a_chain_goes_in_one_run() -> None:
    text = HEAD + """
    agraph (float[2,3] x) => (float[3,2] y)
    <int64[1] two = {2}, int64[1] one = {1}> {
        three = Add(two, one)
        shape = Concat<axis=0>(three, two)
        y = Reshape(x, shape)
    }"""
    after, _, _ = check_pass(fold_constants, text, rewrites=2)
    assert ops(after) == ["Reshape"]
    # The value keeps its name, since it keeps its meaning.
    assert list(after.graph.initializers) == ["shape"]


@pytest.mark.parametrize("op_type", ["Shape", "Shape<start=1>", "Size"])
def test_shape_of_a_static_tensor(op_type) -> None:
    text = HEAD + f"agraph (float[2,3] x) => (int64[N] y) {{ s = {op_type}(x)  o = Cast<to=7>(x) y = Add(s, o) }}"
    text = text.replace("int64[N] y", "int64[2,3] y")
    if op_type == "Shape":
        text = text.replace("[2,3] x", "[2,2] x").replace("[2,3] y", "[2,2] y")
    after, _, _ = check_pass(fold_constants, text, rewrites=1)
    assert ops(after) == ["Cast", "Add"]


def test_known_entries_of_a_dynamic_shape() -> None:
    text = HEAD + """
    agraph (float[N,3,4] x) => (float[3,4,M] y)
    <int64[2] at = {2, 1}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] any = {-1}> {
        s = Shape(x)
        c = Cast<to=6>(s)
        g = Gather(c, at)
        a = Slice(g, one, two)
        b = Slice(g, zero, one)
        d = Concat<axis=0>(a, b)
        e = Cast<to=7>(d)
        f = Concat<axis=0>(e, any)
        y = Reshape(x, f)
    }"""
    after, step, _ = check_pass(fold_constants, text, rewrites=6)
    assert ops(after) == ["Reshape"] and after.graph.initializers["f"].const_value.numpy().tolist() == [3, 4, -1]


def test_an_unknown_entry_stays_unknown() -> None:
    text = HEAD + """
    agraph (float[N,3] x, float[M,3] z) => (bool[1] y, int64[1] w)
    <int64[1] zero = {0}> {
        s = Shape(x)
        g = Gather(s, zero)
        t = Shape(z)
        h = Gather(t, g)
        y = Cast<to=9>(g)
        w = Abs(h)
    }"""
    _, step, _ = run_pass(model_of(text), fold_constants, context())
    assert step.rewrites == 0


def test_weights_fold_whatever_their_size_and_others_do_not() -> None:
    text = HEAD + """
    agraph (float[1,8,4,4] x) => (float[1,512,4,4] y, float[512,1024] z)
    <int64[4] shape = {512, 8, 11, 11}, int64[2] wide = {512, 1024}, float[1] one = {1.0}, float[1] two = {2.0}> {
        w = ConstantOfShape<value = float[1] {0.5}>(shape)
        v = Mul(w, two)
        y = Conv<pads=[5,5,5,5]>(x, v)
        e = Expand(one, wide)
        q = Slice(x, a, b)
        r = Reshape(q, c)
        z = Mul(e, r)
    }"""
    extra = {"a": np.zeros(4, np.int64), "b": np.ones(4, np.int64), "c": np.array([1], np.int64)}
    model = model_of(text, extra)
    after, _, report = run_pass(model, fold_constants, context())
    assert ops(after) == ["Conv", "Expand", "Slice", "Reshape", "Mul"]
    assert [m.reason for m in report.misses if "larger than" in m.reason]
    assert_same_outputs(model, after)


def test_random_and_quantization_operators_stay() -> None:
    text = HEAD + """
    agraph (float[2] x) => (float[2] y)
    <float[2] w = {1.0, 2.0}, float s = {0.5}> {
        r = RandomNormalLike(w)
        q = QuantizeLinear(w, s)
        d = DequantizeLinear(q, s)
        a = Add(r, d)
        y = Add(a, x)
    }"""
    _, step, _ = run_pass(model_of(text), fold_constants, context())
    assert step.rewrites == 0


def test_a_constant_that_names_an_output_stays() -> None:
    text = HEAD + "agraph (float[2] x) => (float[2] y, float[2] z) <float[2] w = {1.0, 2.0}> { y = Neg(x) z = Neg(w) }"
    _, _, report = check_pass(fold_constants, text, rewrites=0)
    assert "graph output" in report.misses[0].reason


def test_where_with_a_constant_condition() -> None:
    text = HEAD + """
    agraph (float[2] x, float[2] z) => (float[2] y)
    <bool[2] all = {1, 1}, bool[2] none = {0, 0}, bool[2] some = {0, 1}> {
        a = Where(all, x, z)
        b = Where(none, x, z)
        c = Where(some, a, b)
        y = Neg(c)
    }"""
    after, _, _ = check_pass(fold_constants, text, rewrites=2)
    assert ops(after) == ["Where", "Neg"]


def test_where_that_broadcasts_stays() -> None:
    text = HEAD + """
    agraph (float[1] x, float[2] z) => (float[2] y) <bool[1] all = {1}> { a = Where(all, x, z) y = Neg(a) }"""
    check_pass(fold_constants, text, rewrites=0)


BRANCHES = HEAD + """
agraph (float[2,3] x) => (float[M,K] y, float[2,3] z)
<int64 rank = {RANK}> {
    shape = Shape(x)
    size = Size(shape)
    is = Equal(size, rank)
    a, z = If(is) <
        then_branch = yes () => (float[2,3] b, float[2,3] e) { c = Neg(x) b = Abs(c) e = Identity(x) },
        else_branch = no () => (float[2,3] b, float[2,3] e) { c = Exp(x) b = Relu(c) e = Neg(c) }
    >
    c = Relu(a)
    y = Neg(c)
}"""


@pytest.mark.parametrize(("rank", "kept"), [(2, ["Neg", "Abs", "Identity"]), (3, ["Exp", "Relu", "Neg"])])
def test_if_gives_way_to_the_branch_that_is_taken(rank, kept) -> None:
    text = BRANCHES.replace("RANK", str(rank)).replace("float[M,K] y", "float[2,3] y")
    after, _, _ = check_pass(fold_constants, text, rewrites=4)
    assert ops(after) == [*kept, "Relu", "Neg"]
    # Both branches and the graph call a value 'c'; only one can keep it.
    assert len({v.name for n in after.graph for v in n.outputs}) == 5


def test_nested_branches_return_outer_values() -> None:
    text = HEAD + """
    agraph (float[2,3] x) => (float[2,3] y)
    <bool on = {1}, int64 six = {6}> {
        y = If(on) <
            then_branch = a () => (float[2,3] b) {
                s = Size(x)
                t = Equal(s, six)
                b = If(t) <
                    then_branch = c () => (float[2,3] d) { d = Identity(x) },
                    else_branch = e () => (float[2,3] f) { g = Neg(x) f = Neg(g) }
                >
            },
            else_branch = h () => (float[2,3] i) { i = Exp(x) }
        >
    }"""
    after, _, _ = check_pass(fold_constants, text, rewrites=4)
    assert ops(after) == ["Identity"]


def test_condition_known_only_at_run_time_stays() -> None:
    text = HEAD + """
    agraph (float[2] x, bool on) => (float[2] y) {
        y = If(on) <
            then_branch = a () => (float[2] b) { b = Neg(x) },
            else_branch = c () => (float[2] d) { d = Abs(x) }
        >
    }"""
    check_pass(fold_constants, text, rewrites=0)


def test_the_wrong_branch_would_be_seen() -> None:
    model = model_of(BRANCHES.replace("RANK", "2").replace("float[M,K] y", "float[2,3] y"))
    broken = model.clone()
    inline_branch(broken, next(n for n in broken.graph if n.op_type == "If"), False, Namer(broken))
    with pytest.raises(AssertionError):
        assert_same_outputs(model, broken)
