"""Each rule of a legal graph, broken on purpose, in the main graph and inside a branch."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from hwc.errors import InternalError
from hwc.graph.model import add_initializer, make_node
from hwc.graph.verify import verify_model
from tests.graph.samples import BRANCH, CHAIN, CONV
from tests.passes.check import model_of


def node(model: ir.Model, name: str) -> ir.Node:
    return next(n for n in model.graph.all_nodes() if n.name == name)


def refused(model: ir.Model, rule: str, what: str) -> InternalError:
    with pytest.raises(InternalError, match=what) as caught:
        verify_model(model, "in this test")
    assert f"'{rule}'" in caught.value.expected
    assert "in this test" in caught.value.what
    return caught.value


@pytest.mark.parametrize("text", [CONV, CHAIN, BRANCH])
def test_legal_graphs_pass(text):
    verify_model(model_of(text), "in this test")


@pytest.mark.parametrize("name", ["second", "inner"])
@pytest.mark.parametrize("empty", ["", None])
def test_a_node_without_a_name(name, empty):
    model = model_of(CHAIN if name == "second" else BRANCH)
    node(model, name).name = empty
    refused(model, "names", "a node has no name")


@pytest.mark.parametrize(("text", "one", "other"), [(CHAIN, "third", "first"), (BRANCH, "inner", "only"),
                                                    (BRANCH, "inner", "outer")])  # fmt: skip
def test_two_nodes_of_one_name(text, one, other):
    model = model_of(text)
    node(model, one).name = other
    refused(model, "names", f"two nodes are called '{other}'")


@pytest.mark.parametrize(
    ("text", "name", "taken"), [(CHAIN, "second", "a"), (CHAIN, "second", "x"), (BRANCH, "last", "n")]
)
def test_two_values_of_one_name(text, name, taken):
    model = model_of(text)
    node(model, name).outputs[0].name = taken
    assert refused(model, "names", f"two values are called '{taken}'").where


def test_a_value_and_a_weight_of_one_name():
    model = model_of(CONV)
    model.graph[0].outputs[0].name = "w"
    refused(model, "names", "two values are called 'w'")


def test_a_weight_that_calls_itself_otherwise_than_its_graph_does():
    model = model_of(CONV)
    weight = model.graph.initializers["w"]
    weight._name = "other"  # past the setter, which would tell the graph
    refused(model, "names", "initializer 'w' calls itself 'other'")


def test_branches_may_each_have_a_value_of_one_name():
    verify_model(model_of(BRANCH.replace("float[2] e)", "float[2] t)").replace("e = Abs", "t = Abs")), "in this test")


def test_a_value_that_is_read_before_it_is_made():
    model = model_of(CHAIN)
    first, second, _ = model.graph
    model.graph.remove(first)
    model.graph.insert_after(second, first)
    assert "Neg 'second'" in refused(model, "order", "input 0 'a' is read before").where


def test_a_value_that_nothing_makes():
    model = model_of(CHAIN)
    model.graph[2].replace_input_with(1, ir.Value(name="from nowhere"))
    refused(model, "order", "input 1 'from nowhere'")


def test_a_branch_that_reads_what_comes_after_it():
    model = model_of(BRANCH)
    later = make_node("Neg", [model.graph.inputs[1]], name="later", outputs=["late"])
    model.graph.append(later)
    node(model, "only").replace_input_with(0, later.outputs[0])
    refused(model, "order", "input 0 'late'")


def test_a_branch_that_reads_what_only_the_other_branch_has():
    model = model_of(BRANCH)
    node(model, "only").replace_input_with(0, node(model, "inner").outputs[0])
    refused(model, "order", "input 0 'n'")


def test_the_main_graph_reading_what_a_branch_made():
    model = model_of(BRANCH)
    inner = node(model, "inner").outputs[0]
    model.graph.append(make_node("Neg", [inner], name="reader", outputs=["r"]))
    refused(model, "order", "input 0 'n'")


@pytest.mark.parametrize(("text", "name"), [(CHAIN, "second"), (BRANCH, "inner")])
def test_an_operator_that_does_not_exist(text, name):
    model = model_of(text)
    node(model, name).op_type = "Negate"
    refused(model, "schema", "opset 17 has no operator 'Negate'")


def test_an_operator_newer_than_the_opset():
    model = model_of(CHAIN)
    model.graph[1].op_type = "Gelu"  # of opset 20
    refused(model, "schema", "opset 17 has no operator 'Gelu'")


def test_an_operator_of_another_domain_is_left_to_the_engines():
    model = model_of(CHAIN)
    model.graph[1].op_type, model.graph[1].domain = "Negate", "com.example"
    verify_model(model, "in this test")


@pytest.mark.parametrize(("text", "name", "size"), [(CHAIN, "third", 1), (CHAIN, "first", 2), (BRANCH, "only", 0)])
def test_too_few_or_too_many_inputs(text, name, size):
    model = model_of(text)
    found = node(model, name)
    value = found.inputs[0]
    found.resize_inputs(size)
    for index in range(size):
        found.replace_input_with(index, value)
    refused(model, "schema", f"inputs, has {size}")


def test_a_required_input_that_is_empty():
    model = model_of(CONV)
    model.graph[0].replace_input_with(0, None)
    refused(model, "schema", "input 0 .* is required and empty")


def test_an_optional_input_may_be_empty():
    verify_model(model_of("""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[2] x) => (float[2] y) <float high = {1}> { [clip] y = Clip(x, , high) }"""), "in this test")


def test_too_many_outputs():
    model = model_of(CHAIN)
    first = model.graph[0]
    first.resize_outputs(2)
    refused(model, "schema", "outputs, has 2")


@pytest.mark.parametrize(("text", "name"), [(CHAIN, "first"), (BRANCH, "only")])
def test_an_attribute_that_the_operator_does_not_have(text, name):
    model = model_of(text)
    node(model, name).attributes["alpha"] = ir.AttrFloat32("alpha", 1.0)
    refused(model, "schema", "has no attribute 'alpha' in opset 17")


def test_a_required_attribute_that_is_absent():
    model = model_of("""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[2] x) => (double[2] y) { [cast] y = Cast<to = 11>(x) }""")
    del model.graph[0].attributes["to"]
    refused(model, "schema", "lacks its attribute 'to'")


def test_a_graph_output_that_nothing_makes():
    model = model_of(CHAIN)
    model.graph.remove(model.graph[2])
    refused(model, "outputs", "nothing makes graph output 'y'")


def test_a_branch_that_returns_what_nothing_makes():
    model = model_of(BRANCH)
    body = node(model, "only").graph
    body.remove(node(model, "only"))
    refused(model, "outputs", "nothing makes graph output 'e'")


def test_a_branch_that_returns_a_value_from_outside():
    model = model_of(BRANCH)
    node(model, "only").graph.outputs[0] = node(model, "outer").outputs[0]
    refused(model, "outputs", "nothing makes graph output 'a'")


def test_a_weight_without_data():
    model = model_of(CONV)
    add_initializer(model.graph, "empty", np.zeros(1, np.float32)).const_value = None
    refused(model, "outputs", "initializer 'empty' has no data")


@pytest.mark.parametrize(("text", "name"), [(CHAIN, "second"), (BRANCH, "last")])
def test_a_value_that_does_not_know_its_reader(text, name):
    model = model_of(text)
    reader = node(model, name)
    reader.inputs[0]._remove_usage(reader, 0)  # past the setters, as a careless pass might
    refused(model, "links", "does not list this node among its users")


def test_rules_hold_two_graphs_deep():
    def branch(name, nodes, output):
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, 1, [2])])

    def choose(name, output, then, other):
        return helper.make_node("If", ["flag"], [output], name, then_branch=then, else_branch=other)

    def leaf(name):
        return branch(name, [helper.make_node("Neg", ["x"], [f"{name}_o"], f"{name}_n")], f"{name}_o")

    inner = choose("inner", "i", leaf("a"), leaf("b"))
    outer = choose("outer", "y", branch("c", [inner], "i"), leaf("d"))
    x, y = (helper.make_tensor_value_info(name, 1, [2]) for name in "xy")
    graph = helper.make_graph([outer], "net", [helper.make_tensor_value_info("flag", 9, []), x], [y])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    verify_model(model, "in this test")
    node(model, "a_n").op_type = "Negate"
    refused(model, "schema", "no operator 'Negate'")
