"""Questions answer with the right kind of no: near misses are told, other patterns are not."""

import onnx_ir as ir
import pytest

from hwc.graph.match import (
    NoMatch,
    attribute,
    constant,
    is_op,
    only_user,
    producer,
    require,
    skip_unless,
    static_shape,
    sweep,
)
from hwc.graph.model import bypass
from tests.graph.samples import BRANCH, CHAIN, CONV
from tests.passes.check import model_of


def refusal(ask, *arguments) -> NoMatch:
    with pytest.raises(NoMatch) as caught:
        ask(*arguments)
    return caught.value


def test_a_failed_requirement_is_near_and_a_failed_filter_is_far():
    require(True, "never told")
    skip_unless(1)
    assert (refusal(require, False, "why").reason, refusal(require, 0, "why").near) == ("why", True)
    assert not refusal(skip_unless, None).near


def test_a_constant_is_given_and_a_computed_value_is_a_near_miss():
    conv, relu = model_of(CONV).graph
    assert constant(conv.inputs[1], "the weight").shape == (2, 1, 3, 3)
    for value in (conv.inputs[0], relu.inputs[0], None):
        miss = refusal(constant, value, "the weight")
        assert (miss.near, miss.reason) == (True, "the weight is not a constant")


def test_a_producer_is_of_the_named_types_or_a_far_miss():
    conv, relu = model_of(CONV).graph
    assert producer(relu.inputs[0], "Gemm", "Conv") is conv
    for value, kind in ((relu.inputs[0], "Gemm"), (conv.inputs[0], "Conv"), (conv.inputs[1], "Conv"), (None, "Conv")):
        assert not refusal(producer, value, kind).near
    conv.domain = "com.example"
    assert not refusal(producer, relu.inputs[0], "Conv").near
    assert not is_op(conv, "Conv") and is_op(relu, "Relu") and not is_op(None, "Relu")


def test_an_only_user_is_one_node_even_if_it_reads_twice():
    first, second, third = model_of(CHAIN).graph
    assert only_user(second.outputs[0]) is third
    assert refusal(only_user, first.outputs[0]).reason == "a is read by 2 nodes"
    assert refusal(only_user, third.outputs[0], "the sum").reason == "the sum is a graph output"
    third.replace_input_with(1, second.outputs[0])
    assert only_user(second.outputs[0]) is third
    assert refusal(only_user, ir.Value(name="alone")).reason == "alone is read by 0 nodes"


def test_a_user_inside_a_branch_counts():
    outer = model_of(BRANCH).graph[0]
    assert "read by 2 nodes" in refusal(only_user, outer.outputs[0]).reason


def test_attributes_are_plain_python_values_or_the_default():
    conv = model_of(CONV).graph[0]
    assert attribute(conv, "kernel_shape") == [3, 3]
    assert isinstance(attribute(conv, "kernel_shape"), list)
    assert attribute(conv, "group", 1) == 1
    assert attribute(conv, "dilations") is None


def test_a_shape_is_integers_or_a_near_miss():
    conv = model_of(CONV).graph[0]
    assert static_shape(conv.outputs[0]) == (1, 2, 2, 2)
    open_input = model_of(CHAIN.replace("float[2,3]", "float[N,3]")).graph.inputs[0]
    assert refusal(static_shape, open_input).reason == "the shape of x is not static"
    assert refusal(static_shape, None).near
    assert refusal(static_shape, ir.Value(name="v"), "the filter").reason == "the shape of the filter is not static"


def test_a_sweep_visits_branches_counts_rewrites_and_keeps_near_misses_only():
    model, misses, visited = model_of(BRANCH), [], []

    def rule(node):
        visited.append(node.name)
        skip_unless(node.op_type != "Exp")
        require(node.op_type != "Abs", "it is an Abs")

    count = sweep(model, ("Relu", "Neg", "Exp", "Abs"), rule, misses=misses)
    assert sorted(visited) == ["inner", "last", "only", "outer"]
    assert (count, [(m.node, m.reason) for m in misses]) == (2, [("only", "it is an Abs")])


def test_a_sweep_passes_over_nodes_that_an_earlier_rewrite_removed():
    model, visited = model_of(CHAIN.replace("Neg(a)", "Identity(a)").replace("Relu(x)", "Identity(x)")), []
    first, second, _ = model.graph

    def rule(node):
        visited.append(node.name)
        for gone in (second, first):
            if gone.graph is not None:
                bypass(gone, gone.inputs[0])

    sweep(model, ("Identity",), rule, misses=[])
    assert visited == ["first"]


def test_an_error_in_a_rule_is_not_mistaken_for_no_match():
    def rule(node):
        raise ValueError("a bug")

    with pytest.raises(ValueError):
        sweep(model_of(CHAIN), ("Relu",), rule, misses=[])
