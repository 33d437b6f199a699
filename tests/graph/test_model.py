"""The verbs of the graph: names stay unique, origins are handed on, nodes are replaced without a trace left."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from hwc.graph.model import (
    ORIGIN,
    Namer,
    add_initializer,
    all_names,
    bypass,
    can_bypass,
    constant_array,
    make_node,
    mark_origin,
    name_everything,
    opset,
    origins,
    remove_dead,
    replace_nodes,
    tensor_digest,
)
from hwc.graph.text import print_model
from hwc.graph.verify import verify_model
from tests.graph.samples import BRANCH, CHAIN, CONV
from tests.passes.check import assert_same_outputs, model_of, ops


def raw(text: str) -> ir.Model:
    """The model as a file gives it, unnamed nodes included."""
    return ir.from_proto(onnx.parser.parse_model(text))


def node(model: ir.Model, name: str) -> ir.Node:
    return next(n for n in model.graph.all_nodes() if n.name == name)


def test_a_constant_is_an_initializer_or_a_constant_node_and_nothing_else():
    model = raw("""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[2] x, float[2] given) => (float[2] y)
        <float[2] given = {1,2}, float[2] w = {3,4}>
        { k = Constant<value = float[2] {5,6}>() s = Add(x, w) t = Add(s, k) y = Add(t, given) }""")
    values = {value.name: value for n in model.graph for value in n.inputs}
    assert constant_array(values["w"]).tolist() == [3, 4]
    assert constant_array(values["k"]).tolist() == [5, 6]
    for name in ("x", "s", "given"):
        assert constant_array(values[name]) is None
    assert constant_array(None) is None


def test_the_opset_is_of_the_default_domain():
    assert opset(model_of(CONV)) == 17


def test_names_cover_values_and_nodes_of_subgraphs():
    values, nodes = {"flag", "x", "a", "y", "n", "t", "e"}, {"outer", "choose", "inner", "last", "only"}
    assert all_names(model_of(BRANCH)) == values | nodes


def test_naming_keeps_what_is_there_and_is_the_same_for_equal_models():
    model = raw(CONV)
    before = print_model(model)
    name_everything(model)
    assert print_model(model) == before
    texts = []
    for _ in range(2):
        unnamed = raw(CHAIN.replace("[first]", "").replace("[third]", ""))
        name_everything(unnamed)
        texts.append(print_model(unnamed))
    assert texts[0] == texts[1]


def test_a_made_up_name_never_pushes_out_one_that_the_file_gives_further_down():
    model = raw(CHAIN.replace("[first]", "").replace("[third]", "[Relu_0]"))
    name_everything(model)
    assert [n.name for n in model.graph] == ["Relu_0_1", "second", "Relu_0"]
    model.graph[0].outputs[0].name = None
    model.graph[1].outputs[0].name = "Relu_0_1_out0"
    name_everything(model)
    assert [n.outputs[0].name for n in model.graph] == ["Relu_0_1_out0_1", "Relu_0_1_out0", "y"]
    verify_model(model, "after naming")


def test_nodes_that_share_a_name_get_their_own_and_the_first_keeps_it():
    model = raw(CHAIN.replace("[second]", "[first]").replace("[third]", "[first]"))
    name_everything(model)
    names = [n.name for n in model.graph]
    assert names[0] == "first" and len(set(names)) == 3
    verify_model(model, "after naming")


def test_an_output_that_nobody_wants_stays_without_a_name():
    model = raw("""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[2,4] x) => (float[2,2] v) <int64[1] k = {2}> { v, i = TopK(x, k) }""")
    unwanted = model.graph[0].outputs[1]
    unwanted.name = None
    name_everything(model)
    assert not unwanted.name


def test_a_namer_never_hands_out_a_name_twice():
    namer = Namer(model_of(CHAIN))
    assert [namer.fresh(name) for name in ("a", "a", "new", "first")] == ["a_1", "a_2", "new", "first_1"]


def test_a_node_stands_for_itself_until_it_is_told_otherwise():
    model = model_of(CHAIN)
    first, second, third = model.graph
    assert origins(first) == ("first",)
    made = make_node("Neg", [first.outputs[0]], name="made", outputs=["m"], sources=[first, second])
    assert origins(made) == ("first", "second")
    mark_origin(made, [second, third])
    assert origins(made) == ("first", "second", "third")


def test_origins_are_handed_on_through_two_rewrites():
    model = model_of(CHAIN)
    for op, name in (("Abs", "once"), ("Sign", "twice")):
        old = model.graph[1]
        new = make_node(op, old.inputs, name=name, outputs=[f"{name}_out"], dtype=ir.DataType.FLOAT, shapes=[[2, 3]])
        replace_nodes([old], [new], {old.outputs[0]: new.outputs[0]})
    assert origins(node(model, "twice")) == ("second",)
    assert node(model.clone(), "twice").metadata_props[ORIGIN] == "second"


def test_the_number_of_origins_kept_is_bounded():
    model = model_of(CHAIN)
    many = [make_node("Relu", [model.graph[0].outputs[0]], name=f"n{i}", outputs=[f"o{i}"]) for i in range(200)]
    assert len(origins(make_node("Sum", [], name="all", outputs=["s"], sources=many))) == 64


def test_an_added_initializer_has_type_shape_and_data():
    model = model_of(CHAIN)
    value = add_initializer(model.graph, "w", np.arange(6.0, dtype=np.float16).reshape(2, 3).T)
    assert (value.dtype, list(value.shape)) == (ir.DataType.FLOAT16, [3, 2])
    assert constant_array(value).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert model.graph.initializers["w"] is value


def test_a_replacement_takes_the_place_the_name_and_the_type_of_the_graph_output():
    model = model_of(CONV)
    before = model.clone()
    conv, relu = model.graph
    new = make_node("Max", [conv.outputs[0], add_initializer(model.graph, "zero", np.zeros(1, np.float32))],
                    name="max", outputs=["made"])  # fmt: skip
    replace_nodes([relu], [new], {relu.outputs[0]: new.outputs[0]})
    verify_model(model, "after")
    assert ops(model) == ["Conv", "Max"]
    (output,) = model.graph.outputs
    assert (output.name, output.dtype, list(output.shape)) == ("y", ir.DataType.FLOAT, [1, 2, 2, 2])
    assert origins(new) == ("relu",)
    assert_same_outputs(before, model)


def test_a_node_that_is_still_read_cannot_be_replaced_away():
    model = model_of(CHAIN)
    first, second, _ = model.graph
    new = make_node("Abs", first.inputs, name="new", outputs=["n"])
    with pytest.raises(ValueError):
        replace_nodes([first, second], [new], {second.outputs[0]: new.outputs[0]})


IDENTITY = """
<ir_version: 8, opset_import: ["": 17]>
net (float[2] x) => (float[2] y{more}) <float[2] w = {{1,2}}>
{{ {body} }}
"""


@pytest.mark.parametrize(
    ("body", "more", "allowed"),
    [
        ("[r] a = Relu(x) [i] y = Identity(a)", "", True),
        ("[i] a = Identity(x) [r] y = Relu(a)", "", True),
        ("[i] a = Identity(w) [r] y = Add(a, x)", "", True),
        ("[r] a = Relu(x) [i] y = Identity(a)", ", float[2] a", False),
        ("[i] y = Identity(x)", "", False),
        ("[i] y = Identity(w)", "", False),
    ],
    ids=["node", "input inside", "weight inside", "other output", "input", "weight"],
)
def test_an_identity_goes_only_where_the_graph_output_keeps_a_node_of_its_own(body, more, allowed):
    model = model_of(IDENTITY.format(body=body, more=more))
    before = model.clone()
    identity = node(model, "i")
    assert can_bypass(identity, identity.inputs[0]) is allowed
    if not allowed:
        with pytest.raises(ValueError, match="a node of its own"):
            bypass(identity, identity.inputs[0])
        return
    bypass(identity, identity.inputs[0])
    verify_model(model, "after")
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert_same_outputs(before, model)


def test_a_branch_may_not_return_a_value_from_outside():
    model = model_of(BRANCH.replace("[only] e = Abs(a)", "[only] e = Identity(a)"))
    identity = node(model, "only")
    assert not can_bypass(identity, identity.inputs[0])
    with pytest.raises(ValueError, match="a node of its own"):
        bypass(identity, identity.inputs[0])


def test_dead_nodes_go_in_chains_with_their_weights_and_what_branches_read_stays():
    text = CONV.replace("y = Relu(c)", "y = Relu(c) [dead] d = Add(c, k) [deader] e = Neg(d)")
    model = model_of(text.replace("float[2] b =", "float[1] k = {1}, float[2] b ="))
    assert remove_dead(model) == 2
    assert ops(model) == ["Conv", "Relu"]
    assert sorted(model.graph.initializers) == ["b", "w"]
    assert remove_dead(model) == 0
    branch = model_of(BRANCH)
    assert remove_dead(branch) == 0
    assert ops(branch) == ["Relu", "If"]


PLAIN = [np.float32, np.float16, np.int8, np.int64, np.bool_]
DTYPES = [*PLAIN, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_digests_of_weights_see_every_type_value_and_shape(dtype):
    array = np.asarray([[0, 1], [1, 0]]).astype(dtype)
    other = array.copy()
    other[1, 1] = np.asarray(1).astype(dtype)
    digests = {tensor_digest(ir.tensor(a)) for a in (array, other, array.reshape(4), array[:0])}
    assert len(digests) == 4
    assert tensor_digest(ir.tensor(array.copy())) in digests


def test_digests_tell_types_apart_where_the_bytes_agree():
    zero = np.zeros(4, np.float32)
    assert len({tensor_digest(ir.tensor(zero.view(t))) for t in (np.float32, np.int32, np.uint32)}) == 3
    assert tensor_digest(ir.tensor(zero)) != tensor_digest(ir.tensor(-zero))


def test_digests_of_text_weights_see_the_text():
    one, other = (ir.StringTensor(np.asarray([text], object)) for text in (b"a", b"b"))
    assert tensor_digest(one) != tensor_digest(other)
