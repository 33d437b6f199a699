"""The canonical print: pinned by a golden file, equal for equal graphs, changed by any change that runs.

`HWC_REGENERATE=1 python -m pytest tests/graph/test_text.py` rewrites the golden file and then fails, so that a
rewritten file is looked at and the test is never a comparison of the file with itself.
"""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from hwc.graph.model import add_initializer
from hwc.graph.text import digest_model, print_model, type_text
from tests.golden.compare_golden import compare_with_golden
from tests.graph.samples import BRANCH, CHAIN, CONV
from tests.passes.check import model_of


@pytest.mark.parametrize(("name", "text"), [("graph_conv.txt", CONV), ("graph_branch.txt", BRANCH)])
def test_the_print_is_the_golden_one(name, text):
    compare_with_golden(name, print_model(model_of(text)))


def test_the_golden_comparer_bites(tmp_path, monkeypatch):
    monkeypatch.delenv("HWC_REGENERATE", raising=False)
    (tmp_path / "one.txt").write_text("a\n")
    compare_with_golden("one.txt", "a\n", folder=tmp_path)
    for other in ("b\n", "a", "a\n\n", ""):
        with pytest.raises(AssertionError):
            compare_with_golden("one.txt", other, folder=tmp_path)
    with pytest.raises(AssertionError, match="no golden file"):
        compare_with_golden("absent.txt", "a\n", folder=tmp_path)


def test_regenerating_writes_and_fails_rather_than_compare_a_file_with_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("HWC_REGENERATE", "1")
    (tmp_path / "one.txt").write_text("old\n")
    with pytest.raises(pytest.fail.Exception, match="written anew"):
        compare_with_golden("one.txt", "new\n", folder=tmp_path)
    assert (tmp_path / "one.txt").read_text() == "new\n"


@pytest.mark.parametrize("text", [CONV, BRANCH, CHAIN])
def test_equal_graphs_give_equal_text(text):
    model = model_of(text)
    copies = [model_of(text), model.clone(), ir.from_proto(ir.to_proto(model))]
    assert {print_model(copy) for copy in copies} == {print_model(model)}
    assert {digest_model(copy) for copy in copies} == {digest_model(model)}


def test_metadata_doc_strings_and_the_order_of_weights_change_nothing():
    model = model_of(CONV)
    other = model_of(CONV.replace("float[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}, float[2] b = {0.5,-0.5}",
                                  "float[2] b = {0.5,-0.5}, float[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}"))
    other.producer_name = other.graph.doc_string = other.graph[0].doc_string = "another"
    other.graph[0].metadata_props["note"] = "another"
    assert digest_model(other) == digest_model(model)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Relu(c)", "Abs(c)"),
        ("strides = [1,1]", "strides = [1,1], group = 1"),
        ("kernel_shape = [3,3], strides", "kernel_shape = [3,3], pads = [0,0,0,0], strides"),
        ("8,9,9,8", "8,9,8,8"),
        ("-0.5}", "-0.4999999}"),
        ("Conv<kernel_shape = [3,3], strides = [1,1]>(x, w, b)", "Conv<kernel_shape = [3,3], strides = [1,1]>(x, w)"),
        ('"": 17', '"": 18'),
        ("[relu]", "[act]"),
        ("y = Relu(c)", "y = Relu(c) [more] z = Neg(c)"),
        ("float[1,1,4,4] x", "float[1,1,4,4] xx"),
    ],
)  # fmt: skip
def test_any_change_of_structure_attribute_or_weight_changes_the_digest(old, new):
    text = CONV.replace(old, new)
    assert text != CONV
    if new.endswith("xx"):
        text = text.replace("(x,", "(xx,")
    assert digest_model(model_of(text)) != digest_model(model_of(CONV))


@pytest.mark.parametrize(
    ("old", "new"), [("Neg(a)", "Sin(a)"), ("Exp(n)", "Exp(a)"), ("e = Abs(a)", "e = Abs(x)"), ("[only]", "[just]")]
)
def test_a_change_inside_a_branch_changes_the_digest(old, new):
    assert digest_model(model_of(BRANCH.replace(old, new))) != digest_model(model_of(BRANCH))


def test_swapped_branches_are_another_graph():
    swapped = BRANCH.replace("then_branch", "@").replace("else_branch", "then_branch").replace("@", "else_branch")
    assert digest_model(model_of(swapped)) != digest_model(model_of(BRANCH))


def test_every_single_byte_of_a_weight_counts():
    data = np.arange(18, dtype=np.float32)
    digests = set()
    for position in range(data.nbytes):
        changed = data.copy()
        changed.view(np.uint8)[position] ^= 1
        model = model_of(CHAIN)
        add_initializer(model.graph, "w", changed)
        digests.add(digest_model(model))
    assert len(digests) == data.nbytes


def test_swapped_operands_are_another_graph():
    assert digest_model(model_of(CHAIN.replace("Add(b, a)", "Add(a, b)"))) != digest_model(model_of(CHAIN))


def test_without_weights_the_print_pins_structure_only():
    model, other = model_of(CONV), model_of(CONV.replace("8,9,9,8", "8,9,8,8"))
    assert print_model(model, weights=False) == print_model(other, weights=False)
    assert print_model(model) != print_model(other)


def test_types_show_what_is_not_known():
    value = ir.Value(name="v")
    assert type_text(value) == "?[...]"
    value.type, value.shape = ir.TensorType(ir.DataType.STRING), ir.Shape([None, "n", 3])
    assert type_text(value) == "string[?,n,3]"


def function_model(inputs: list[str]) -> ir.Model:
    body = [helper.make_node("Sub", ["a", "b"], ["c"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "minus", inputs, ["c"], body, opsets[:1])
    x, y = (helper.make_tensor_value_info(name, 1, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("minus", ["x", "x"], ["y"], "n", domain="own")], "net", [x], [y])
    return ir.from_proto(helper.make_model(graph, functions=[function], opset_imports=opsets))


def test_the_order_of_a_functions_inputs_counts():
    assert digest_model(function_model(["a", "b"])) == digest_model(function_model(["a", "b"]))
    assert digest_model(function_model(["a", "b"])) != digest_model(function_model(["b", "a"]))
