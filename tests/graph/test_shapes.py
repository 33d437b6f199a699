"""Input shapes are bound once for all, contradictions are refused, and inference never sees a large weight."""

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir
import pytest

from hwc.artifacts import DynamicDim, TensorSpec
from hwc.errors import InternalError, UsageError
from hwc.graph.model import add_initializer, make_node, replace_nodes
from hwc.graph.shapes import bind_shapes, dtype_name, forget_shapes, infer_shapes, read_specs
from tests.passes.check import model_of

TWO = """
<ir_version: 8, opset_import: ["": 17]>
net (float[N,3] one, float[N,3] two) => (float[N,3] y)
{ [add] s = Add(one, two) [relu] y = Relu(s) }
"""
OPEN = """
<ir_version: 8, opset_import: ["": 17]>
net (float[N,C,8] x) => (float[N,C,8] y)
{ [relu] r = Relu(x) [neg] y = Neg(r) }
"""


def shape_of(model: ir.Model, name: str) -> list:
    value = next(v for n in model.graph for v in n.outputs if v.name == name)
    return [dim if isinstance(dim, int) else dim.value for dim in value.shape]


def test_bound_shapes_flow_to_every_value():
    model = model_of(OPEN)
    specs = bind_shapes(model, {"x": (2, 5, 8)})
    assert specs == (TensorSpec("x", "float32", (2, 5, 8)),)
    assert shape_of(model, "r") == shape_of(model, "y") == [2, 5, 8]


def test_a_dimension_that_stays_dynamic_keeps_its_name_in_the_graph_and_its_range_in_the_spec():
    model = model_of(OPEN)
    batch = DynamicDim(1, 4, 8)
    assert bind_shapes(model, {"x": (batch, 5, 8)})[0].shape == (batch, 5, 8)
    assert shape_of(model, "y") == ["N", 5, 8]


def test_a_dimension_without_a_name_gets_one():
    model = model_of(OPEN.replace("[N,C,8]", "[?,C,8]"))
    bind_shapes(model, {"x": (DynamicDim(1, 2, 3), 5, 8)})
    assert shape_of(model, "y") == ["x_dim0", 5, 8]


@pytest.mark.parametrize("named", ["one", "two"])
def test_inputs_that_share_a_symbol_share_its_size_whichever_is_named(named):
    model = model_of(TWO)
    specs = bind_shapes(model, {named: (4, 3)})
    assert [(spec.name, spec.shape) for spec in specs] == [("one", (4, 3)), ("two", (4, 3))]
    assert shape_of(model, "y") == [4, 3]


def test_a_shared_symbol_stays_shared_when_it_stays_dynamic():
    model = model_of(TWO)
    batch = DynamicDim(1, 2, 3)
    bind_shapes(model, {"one": (batch, 3), "two": (batch, 3)})
    assert shape_of(model, "s") == ["N", 3]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"one": (4, 3), "two": (5, 3)}, "dimension 'N' has two sizes"),
        ({"one": (DynamicDim(1, 2, 3), 3), "two": (2, 3)}, "dimension 'N' has two sizes"),
        ({"one": (4, 4)}, "'one' is fixed to 3 in dimension 1"),
        ({"one": (4, DynamicDim(1, 3, 3))}, "'one' is fixed to 3 in dimension 1"),
        ({"one": (4,)}, "another rank"),
        ({"one": (4, 3, 1)}, "another rank"),
        ({"three": (4, 3)}, "no input is called 'three'"),
        ({}, "'one' leaves dimension 0 open"),
        ({"one": (0, 3)}, "leaves dimension 0 open"),
        ({"one": (-1, 3)}, "leaves dimension 0 open"),
    ],
)
def test_what_contradicts_the_file_is_refused_and_changes_nothing(shapes, message):
    model = model_of(TWO)
    with pytest.raises(UsageError, match=message):
        bind_shapes(model, shapes)
    assert shape_of(model, "y") == ["N", 3]


def test_a_negative_size_in_the_file_means_open():
    model = model_of(OPEN.replace("[N,C,8]", "[2,5,8]"))
    model.graph.inputs[0].shape = ir.Shape([-1, 5, 8])
    with pytest.raises(UsageError, match="leaves dimension 0 open"):
        bind_shapes(model, {})
    assert bind_shapes(model, {"x": (2, 5, 8)})[0].shape == (2, 5, 8)


def test_an_input_without_a_shape_in_the_file_needs_one():
    model = model_of(OPEN)
    model.graph.inputs[0].shape = None
    with pytest.raises(UsageError, match="no shape in the file"):
        bind_shapes(model, {})
    assert bind_shapes(model, {"x": (2, 5, 8)})[0].shape == (2, 5, 8)


def test_shapes_that_an_operator_cannot_take_are_the_users_mistake():
    text = TWO.replace("[N,3] two", "[M,3] two")
    assert bind_shapes(model_of(text), {"one": (4, 3), "two": (1, 3)})
    with pytest.raises(UsageError, match="do not fit") as caught:
        bind_shapes(model_of(text), {"one": (4, 3), "two": (5, 3)})
    assert "one:(4, 3)" in caught.value.got


def test_a_graph_whose_types_contradict_each_other_is_refused_by_the_name_of_the_stage():
    model = model_of(TWO)
    model.graph[0].replace_input_with(1, add_initializer(model.graph, "w", np.zeros(3, np.float64)))
    with pytest.raises(InternalError, match="after this test"):
        infer_shapes(model, "after this test")


def test_forgotten_shapes_are_found_again():
    model = model_of(OPEN.replace("[N,C,8]", "[2,5,8]"))
    forget_shapes(model)
    assert all(value.shape is None for n in model.graph for value in n.outputs)
    infer_shapes(model)
    assert shape_of(model, "r") == [2, 5, 8]


def with_weight(array: np.ndarray) -> ir.Model:
    """y = x @ w: the shape of y needs the shape of w, not its data."""
    model = model_of("""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[2,64] x) => (float[2,?] y) { [mul] y = Neg(x) }""")
    weight = add_initializer(model.graph, "w", array)
    old = model.graph[0]
    new = make_node("MatMul", [model.graph.inputs[0], weight], name="mm", outputs=["m"])
    replace_nodes([old], [new], {old.outputs[0]: new.outputs[0]})
    forget_shapes(model)
    return model


@pytest.mark.parametrize(("columns", "is_handed_over"), [(4, True), (5, False), (512, False)])
def test_weights_above_a_kilobyte_are_left_out_of_what_inference_gets(monkeypatch, columns, is_handed_over):
    handed = []
    real = onnx.shape_inference.infer_shapes
    model = with_weight(np.ones((64, columns), np.float32))
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", lambda p, **how: handed.append(p) or real(p, **how))
    infer_shapes(model)
    assert shape_of(model, "y") == [2, columns]
    (proto,) = handed
    assert [t.name for t in proto.graph.initializer] == (["w"] if is_handed_over else [])
    assert len(proto.SerializeToString()) < 4096
    assert model.graph.initializers["w"].const_value.nbytes == 64 * columns * 4
    assert [v.name for v in model.graph.inputs] == ["x"]


def test_small_operands_that_shapes_depend_on_are_handed_over():
    model = model_of("""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[2,6] x) => (float[a,b,c] y) <int64[3] s = {3,-1,2}> { [r] y = Reshape(x, s) }""")
    assert shape_of(model, "y") == [3, 2, 2]


def test_specs_carry_numpy_names_and_refuse_what_has_no_type():
    model = model_of(OPEN)
    unknown = DynamicDim(1, 1, 1)
    assert read_specs(model.graph.outputs) == (TensorSpec("y", "float32", (unknown, unknown, 8)),)
    names = {ir.DataType.INT64: "int64", ir.DataType.BOOL: "bool", ir.DataType.FLOAT16: "float16",
             ir.DataType.BFLOAT16: "bfloat16", ir.DataType.STRING: "object"}  # fmt: skip
    assert {dtype: dtype_name(dtype) for dtype in names} == names
    with pytest.raises(UsageError, match="the type of 'v' is not known"):
        read_specs([ir.Value(name="v")])


def test_question_marks_are_no_shared_symbol() -> None:
    head = '<ir_version: 8, opset_import: ["": 18]>'
    model = model_of(head + "agraph (float[1,N,M] x) => (float[1,A,B] y) { y = Relu(x) }")
    model.graph.inputs[0].shape = ir.Shape([1, "?", "?"])
    (spec,) = bind_shapes(model, {"x": (1, 3, 4)})
    assert spec.shape == (1, 3, 4)
