"""Lifetimes and shared storage: known graphs by hand, random ones by running them inside their own plan."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwc.artifacts import DynamicDim, FusionGroup, TensorSpec
from hwc.errors import InternalError, UsageError
from hwc.graph.shapes import infer_shapes
from hwc.memory.check import check_plan
from hwc.memory.lifetimes import lower_bound
from hwc.memory.planners import plan
from hwc.schedule.lifetimes import find_lifetimes, lifetimes_of
from tests.schedule.run_in_arena import run_in_arena, run_whole


def graph(body: str, inputs: str = "float[1,4,2,2] x", outputs: str = "float[1,4,2,2] y") -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = ir.from_proto(onnx.parser.parse_model(text))
    for index, node in enumerate(model.graph):
        node.name = f"n{index}"
    infer_shapes(model)
    return model


def spans(model: ir.Model, **more) -> dict[str, tuple[int, int, int]]:
    return {b.name: (b.size_bytes, b.start, b.end) for b in lifetimes_of(model, **more)}


def test_a_chain_without_sharing():
    model = graph("a = Relu(x) b = Sigmoid(a) y = Add(b, x)")
    assert spans(model, reuse="none") == {"x": (64, 0, 3), "a": (64, 0, 2), "b": (64, 1, 3), "y": (64, 2, 3)}


def test_in_place_takes_dead_operands_and_never_the_callers_input():
    model = graph("a = Relu(x) b = Sigmoid(a) y = Add(b, x)")
    found = find_lifetimes(model, reuse="in place")
    assert spans(model, reuse="in place") == {"x": (64, 0, 3), "a": (64, 0, 3)}
    assert found.places == {"x": ("x", 0), "a": ("a", 0), "b": ("a", 0), "y": ("a", 0)}


def test_an_operand_that_is_read_later_is_kept():
    model = graph("a = Relu(x) b = Sigmoid(a) y = Add(a, b)")
    places = find_lifetimes(model, reuse="in place").places
    assert places["a"][0] != places["b"][0] and places["y"] == places["a"]


def test_an_operand_that_is_alive_through_a_view_is_kept():
    body = "a = Relu(x) s = Constant<value_ints=[16]>() v = Reshape(a, s) b = Sigmoid(a) c = Tanh(v) y = Identity(b)"
    model = graph(body + " z = Identity(c)", outputs="float[1,4,2,2] y, float[16] z")
    places = find_lifetimes(model, reuse="in place").places
    assert places["v"] == places["a"]
    assert places["b"][0] != places["a"][0]  # `a` itself is dead then, but `v` is read after
    assert places["c"] == places["a"]


def test_a_broadcast_operand_is_too_small_for_the_result():
    model = graph("a = Relu(p) y = Mul(x, a)", inputs="float[1,4,2,2] x, float[1,4,1,1] p")
    places = find_lifetimes(model, reuse="in place").places
    assert places["y"][0] == "y"


def test_concat_and_split_are_parts():
    body = "a = MaxPool<kernel_shape=[1,1]>(x) b = AveragePool<kernel_shape=[1,1]>(x) c = Concat<axis=1>(a, b) "
    body += "d, e = Split<axis=1>(c) y = Sub(d, e)"
    model = graph(body)
    found = find_lifetimes(model, reuse="part")
    assert {name: found.places[name] for name in "abcde"} == {
        "a": ("c", 0), "b": ("c", 64), "c": ("c", 0), "d": ("c", 0), "e": ("c", 64),
    }  # fmt: skip
    assert lower_bound(found.buffers) < lower_bound(lifetimes_of(model, reuse="in place"))


def test_parts_need_contiguous_bytes():
    model = graph("a = Relu(x) b = Tanh(x) y = Concat<axis=1>(a, b)", inputs="float[2,4,2,2] x",
                  outputs="float[2,8,2,2] y")  # fmt: skip
    assert find_lifetimes(model, reuse="part").places["a"] == ("a", 0)


def test_outputs_belong_to_the_caller():
    model = graph("y = Relu(x) z = Identity(y)", outputs="float[1,4,2,2] y, float[1,4,2,2] z")
    assert len(lifetimes_of(model, reuse="part")) == 3
    through = graph("y = Identity(x)")
    assert len(lifetimes_of(through, reuse="part")) == 2


def test_groups_store_only_what_leaves_them():
    model = graph("a = Relu(x) b = Sigmoid(a) y = Add(b, x)")
    groups = (FusionGroup("g0", "", ("n0", "n1"), ("x",), ("b",)), FusionGroup("g1", "", ("n2",), ("b", "x"), ("y",)))
    assert spans(model, groups=groups, reuse="none") == {"x": (64, 0, 2), "b": (64, 0, 2), "y": (64, 1, 2)}
    assert find_lifetimes(model, groups=groups).ticks == ("g0", "g1")
    with pytest.raises(InternalError, match="groups do not cover"):
        lifetimes_of(model, groups=groups[:1])


def test_integers_are_stored_where_floats_are_only_passed_through():
    body = "s = Constant<value_float=1.0>() z = Constant<value=int8 {0}>() a = Relu(x) q = QuantizeLinear(a, s, z) "
    body += "d = DequantizeLinear(q, s, z) y = Sigmoid(d)"
    model = graph(body)
    assert spans(model, quantized=True, reuse="none") == {"x": (64, 0, 3), "q": (16, 2, 6), "y": (64, 5, 6)}


def test_an_order_is_checked():
    model = graph("a = Relu(x) b = Sigmoid(x) y = Add(a, b)")
    first, second, third = model.graph
    assert spans(model, order=[second, first, third], reuse="none")["a"] == (64, 1, 3)
    with pytest.raises(InternalError, match="runs before"):
        lifetimes_of(model, order=[third, first, second])
    with pytest.raises(InternalError, match="every node once"):
        lifetimes_of(model, order=[first, second])
    with pytest.raises(UsageError, match="no such rule"):
        lifetimes_of(model, reuse="all")


def test_dynamic_sizes_need_a_range():
    model = graph("a = Relu(x) y = Sigmoid(a)", inputs="float[n,4] x", outputs="float[n,4] y")
    specs = (TensorSpec("x", "float32", (DynamicDim(1, 2, 8), 4)),)
    assert [spans(model, inputs=specs, sizes=which, reuse="none")["a"][0] for which in ("min", "opt", "max")] == [
        16, 32, 128,
    ]  # fmt: skip
    with pytest.raises(UsageError, match="is open"):
        lifetimes_of(model)
    odd = graph("y = NonZero(x)", outputs="int64[2,k] y", inputs="float[2,2] x")
    with pytest.raises(UsageError, match="not known before the model runs"):
        lifetimes_of(odd)


UNARY = ("Relu", "Sigmoid", "Tanh", "Neg", "Identity")


@st.composite
def random_graphs(draw):
    """Element-wise nodes, views, concats, splits and softmaxes over a set of tensors of [1, c, 2, 2]."""
    lines, alive = [], [("x", 4)]
    for index in range(draw(st.integers(1, 14))):
        name, channels = draw(st.sampled_from(alive[-5:]))
        kind = draw(st.sampled_from(("unary", "binary", "view", "concat", "split", "slice", "softmax")))
        other = [n for n, c in alive if c == channels]
        if kind == "binary":
            op = draw(st.sampled_from(("Add", "Mul", "Sub")))
            lines.append(f"t{index} = {op}({name}, {draw(st.sampled_from(other))})")
        elif kind == "view":
            lines.append(f"s{index} = Constant<value_ints=[{channels}, 4]>() v{index} = Reshape({name}, s{index}) "
                         f"u{index} = Constant<value_ints=[1, {channels}, 2, 2]>() "
                         f"t{index} = Reshape(v{index}, u{index})")  # fmt: skip
        elif kind == "concat" and channels <= 8:
            second, more = draw(st.sampled_from(alive))
            lines.append(f"t{index} = Concat<axis=1>({name}, {second})")
            channels += more
        elif kind == "split" and channels % 2 == 0:
            lines.append(f"t{index}, w{index} = Split<axis=1>({name})")
            channels //= 2
            alive.append((f"w{index}", channels))
        elif kind == "slice" and channels > 1:
            lines.append(f"b{index} = Constant<value_ints=[1]>() e{index} = Constant<value_ints=[{channels}]>() "
                         f"t{index} = Slice({name}, b{index}, e{index}, b{index})")  # fmt: skip
            channels -= 1
        elif kind == "softmax":
            lines.append(f"t{index} = Softmax<axis=1>({name})")
        else:
            lines.append(f"t{index} = {draw(st.sampled_from(UNARY))}({name})")
        alive.append((f"t{index}", channels))
    wanted = draw(st.lists(st.sampled_from(alive[1:]), min_size=1, max_size=2, unique=True))
    outputs = ", ".join(f"float[1,{c},2,2] {n}" for n, c in wanted)
    return graph(" ".join(lines), outputs=outputs)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random_graphs(), st.sampled_from(("none", "view", "in place", "part", "best")))
def test_a_random_graph_runs_right_inside_its_plan(model, reuse):
    found = find_lifetimes(model, reuse=reuse)
    made = plan(found.buffers, seconds=1, may_compile=False)
    check_plan(made)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 4, 2, 2)).astype(np.float32)}
    order = [node for node in model.graph if node.op_type != "Constant"]
    expected, got = run_whole(model, feeds), run_in_arena(model, found, made, feeds, order)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array)


def test_the_arena_notices_a_buffer_that_is_overwritten_too_early():
    from dataclasses import replace

    model = graph("a = Relu(x) b = Sigmoid(x) y = Sub(a, b)")
    found = find_lifetimes(model, reuse="none")
    made = plan(found.buffers)
    a, b = (next(i for i, buffer in enumerate(made.buffers) if buffer.name == name) for name in "ab")
    offsets = tuple(made.offsets[a] if i == b else offset for i, offset in enumerate(made.offsets))
    feeds = {"x": np.ones((1, 4, 2, 2), np.float32)}
    wrong = run_in_arena(model, found, replace(made, offsets=offsets), feeds, list(model.graph))
    assert not np.array_equal(wrong["y"], run_whole(model, feeds)["y"])
