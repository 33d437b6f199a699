"""No promise of a pass is taken on trust: each kind of broken promise is caught, and the input is never touched."""

import numpy as np
import onnx_ir as ir
import pytest

from hwc.artifacts import NearMiss
from hwc.errors import InternalError, TargetError
from hwc.graph.model import ORIGIN, add_initializer, make_node, replace_nodes
from hwc.graph.text import digest_model, print_model
from hwc.passes.base import InputNormalization, PassContext, PassReport, run_pass
from hwc.passes.pipeline import PASSES, pass_names, run_passes, select_passes
from tests.graph.samples import BRANCH, CHAIN
from tests.passes.check import context, model_of


def swap_neg(model: ir.Model, ctx: PassContext) -> PassReport:
    """An honest pass: Neg becomes Abs."""
    found = [n for n in model.graph if n.op_type == "Neg"]
    for node in found:
        node.op_type = "Abs"
    return PassReport(len(found), (NearMiss("third", "it is an Add"),), ("a note",))


def do_nothing(model: ir.Model, ctx: PassContext) -> PassReport:
    return PassReport(0)


def claim_a_rewrite(model: ir.Model, ctx: PassContext) -> PassReport:
    return PassReport(1)


def hide_a_rewrite(model: ir.Model, ctx: PassContext) -> PassReport:
    swap_neg(model, ctx)
    return PassReport(0)


def hide_a_changed_weight(model: ir.Model, ctx: PassContext) -> PassReport:
    model.graph.initializers["w"].const_value = ir.tensor(np.full(3, 2, np.float32), name="w")
    return PassReport(0)


def crash_half_way(model: ir.Model, ctx: PassContext) -> PassReport:
    swap_neg(model, ctx)
    model.graph.inputs[0].name = "broken"
    raise IndexError("list index out of range")


def refuse(model: ir.Model, ctx: PassContext) -> PassReport:
    swap_neg(model, ctx)
    raise TargetError("this target cannot do that")


def rename_input(model: ir.Model, ctx: PassContext) -> PassReport:
    model.graph.inputs[0].name = "z"
    return PassReport(1)


def drop_input(model: ir.Model, ctx: PassContext) -> PassReport:
    unread = ir.Value(name="more", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    model.graph.inputs.append(unread)
    return PassReport(1)


def rename_output(model: ir.Model, ctx: PassContext) -> PassReport:
    model.graph.outputs[0].name = "z"
    return PassReport(1)


def add_output(model: ir.Model, ctx: PassContext) -> PassReport:
    model.graph.outputs.append(model.graph[0].outputs[0])
    return PassReport(1)


def replace_last(model: ir.Model, op_type: str, attributes=None, more=()) -> PassReport:
    old = model.graph[-1]
    new = make_node(op_type, [old.inputs[0], *more], name="new", outputs=["n"], attributes=attributes)
    replace_nodes([old], [new], {old.outputs[0]: new.outputs[0]})
    return PassReport(1)


def change_output_dtype(model: ir.Model, ctx: PassContext) -> PassReport:
    report = replace_last(model, "Cast", {"to": ir.DataType.DOUBLE})
    model.graph.outputs[0].type = None
    return report


def change_output_shape(model: ir.Model, ctx: PassContext) -> PassReport:
    report = replace_last(model, "Transpose", {"perm": [1, 0]})
    model.graph.outputs[0].shape = None
    return report


def change_output_rank(model: ir.Model, ctx: PassContext) -> PassReport:
    report = replace_last(model, "Reshape", more=[add_initializer(model.graph, "one", np.int64([-1]))])
    model.graph.outputs[0].shape = None
    return report


def contradict_types(model: ir.Model, ctx: PassContext) -> PassReport:
    old = model.graph[-1]
    old.replace_input_with(0, add_initializer(model.graph, "w64", np.zeros((2, 3))))
    return PassReport(1)


def change_input_dtype(model: ir.Model, ctx: PassContext) -> PassReport:
    x, first = model.graph.inputs[0], model.graph[0]
    cast = make_node("Cast", [x], name="cast", outputs=["f"], attributes={"to": ir.DataType.FLOAT})
    model.graph.insert_before(first, cast)
    first.replace_input_with(0, cast.outputs[0])
    x.type = ir.TensorType(ir.DataType.UINT8)
    return PassReport(1)


def break_order(model: ir.Model, ctx: PassContext) -> PassReport:
    first = model.graph[0]
    model.graph.remove(first)
    model.graph.append(first)
    return PassReport(1)


WEIGHT = CHAIN.replace("y)\n{", "y)\n<float[3] w = {1,1,1}>\n{").replace("Neg(a)", "Mul(a, w)")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (claim_a_rewrite, "does not tell the truth"),
        (hide_a_rewrite, "does not tell the truth"),
        (crash_half_way, "pass crash_half_way failed"),
        (rename_input, "changed the graph's inputs"),
        (drop_input, "changed the graph's inputs"),
        (rename_output, "changed the graph's outputs"),
        (add_output, "changed the graph's outputs"),
        (change_output_dtype, "changed the dtype of y"),
        (change_output_shape, "changed the shape of y"),
        (change_output_rank, "changed the shape of y"),
        (change_input_dtype, "changed the dtype of x"),
        (contradict_types, "types or shapes do not fit after contradict_types"),
        (break_order, "not legal after break_order"),
    ],
)
def test_a_pass_that_breaks_a_promise_is_our_bug_and_leaves_the_model_as_it_was(broken, message):
    model = model_of(CHAIN)
    before = print_model(model)
    with pytest.raises(InternalError, match=message):
        run_pass(model, broken, context())
    assert print_model(model) == before


def test_a_changed_weight_that_is_not_reported_is_caught():
    model = model_of(WEIGHT)
    before = digest_model(model)
    with pytest.raises(InternalError, match="does not tell the truth"):
        run_pass(model, hide_a_changed_weight, context())
    assert digest_model(model) == before


def test_what_a_pass_refuses_on_purpose_comes_through_as_it_is():
    model = model_of(CHAIN)
    before = print_model(model)
    with pytest.raises(TargetError, match="cannot do that"):
        run_pass(model, refuse, context())
    assert print_model(model) == before


def test_an_illegal_model_is_refused_before_the_pass_runs():
    model = model_of(CHAIN)
    model.graph[1].name = "first"
    with pytest.raises(InternalError, match="before do_nothing"):
        run_pass(model, do_nothing, context())


def test_an_honest_pass_gives_a_new_model_and_a_record_of_it():
    model = model_of(CHAIN)
    before = print_model(model)
    after, step, report = run_pass(model, swap_neg, context())
    assert print_model(model) == before
    assert [n.op_type for n in after.graph] == ["Relu", "Abs", "Add"]
    assert (step.name, step.rewrites, step.nodes_before, step.nodes_after) == ("swap_neg", 1, 3, 3)
    assert (step.digest_before, step.digest_after) == (digest_model(model), digest_model(after))
    assert step.seconds >= 0
    assert step.misses == report.misses == (NearMiss("third", "it is an Add"),)
    assert step.notes == report.notes == ("a note",)


def test_a_pass_that_finds_nothing_gives_the_same_model_back():
    model = model_of(BRANCH)
    after, step, _ = run_pass(model, do_nothing, context())
    assert after is model
    assert step.digest_before == step.digest_after == digest_model(model)


def test_what_was_dead_before_the_pass_is_not_its_doing():
    text = WEIGHT.replace("[third]", "[dead] d = Neg(a) [third]")
    model = model_of(text.replace("w = {1,1,1}", "w = {1,1,1}, float[1] k = {1}"))
    after, step, _ = run_pass(model, do_nothing, context())
    assert after is model and step.digest_after == digest_model(model)
    assert step.nodes_before == step.nodes_after == 4
    with pytest.raises(InternalError, match="does not tell the truth"):
        run_pass(model, claim_a_rewrite, context())


def test_what_a_pass_leaves_dead_goes():
    def leave_dead(model: ir.Model, ctx: PassContext) -> PassReport:
        model.graph[2].replace_input_with(0, model.graph[0].outputs[0])
        return PassReport(1)

    after, step, _ = run_pass(model_of(CHAIN), leave_dead, context())
    assert [n.name for n in after.graph] == ["first", "third"]
    assert step.nodes_after == 2


def test_only_a_folded_normalization_may_change_the_dtype_of_its_own_input():
    fold = InputNormalization("x", (0.0,), (1.0,), as_uint8=True)
    after, _, _ = run_pass(model_of(CHAIN), change_input_dtype, context(normalization=(fold,)))
    assert after.graph.inputs[0].dtype == ir.DataType.UINT8
    for other in (InputNormalization("other", (0.0,), (1.0,), as_uint8=True), InputNormalization("x", (0.0,), (1.0,))):
        with pytest.raises(InternalError, match="changed the dtype of x"):
            run_pass(model_of(CHAIN), change_input_dtype, context(normalization=(other,)))


def test_origins_survive_the_clone():
    model = model_of(CHAIN)
    model.graph[0].metadata_props[ORIGIN] = "user_layer"
    after, _, _ = run_pass(model, swap_neg, context())
    assert after.graph[0].metadata_props[ORIGIN] == "user_layer"


def test_a_pipeline_runs_in_order_and_chains_the_digests():
    said = []
    model = model_of(CHAIN)
    passes = (do_nothing, swap_neg, do_nothing)
    after, steps, groups = run_passes(model, context(), passes=passes, progress=lambda *what: said.append(what))
    assert [step.name for step in steps] == ["do_nothing", "swap_neg", "do_nothing"]
    chained = [steps[0].digest_before, *(step.digest_after for step in steps)]
    assert chained == [digest_model(model)] * 2 + [digest_model(after)] * 2
    assert [step.digest_before for step in steps] == chained[:-1]
    assert groups == ()
    assert said[0] == ("do_nothing", 0.0) and said[-1][1] == 1.0


def test_passes_are_left_out_by_name_and_an_unknown_name_is_refused():
    one, two = swap_neg, do_nothing
    assert pass_names((one, two, one)) == ("swap_neg", "do_nothing")
    assert select_passes(("swap_neg",), (one, two, one)) == (two,)
    with pytest.raises(Exception, match="no pass is called 'swap'"):
        select_passes(("swap",), (one, two))


def test_every_pass_has_the_name_of_its_file():
    for graph_pass in PASSES:
        assert graph_pass.__module__ == f"hwc.passes.{graph_pass.__name__}"
