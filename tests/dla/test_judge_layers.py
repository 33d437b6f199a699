from hwc.dla.judge_layers import FAMILIES
from hwc.dla.rewrites import REWRITES
from hwc.passes.pipeline import DLA, PASSES, pass_names
from tests.dla.judged import board, judge

X, Y = "float[1,4,8,8] x", "float[] y"


def test_an_operator_of_no_family_falls_back_and_says_what_dla_has() -> None:
    verdict = judge("y = DepthToSpace<blocksize=2>(x)", X, Y)[0]
    assert not verdict.is_legal and verdict.findings[0].rule == "general.operator"
    assert "Convolution" in verdict.findings[0].expected


def test_every_node_but_constants_is_judged_once_in_order() -> None:
    verdicts = judge("k = Constant<value_float=1.0>() a = Relu(x) b = Exp(a) y = Add(b, k)", X, Y)
    assert [verdict.op_type for verdict in verdicts] == ["Relu", "Exp", "Add"]
    assert [verdict.is_legal for verdict in verdicts] == [True, False, True]


def test_the_passes_that_rewrites_name_exist() -> None:
    known = {*pass_names(DLA), *pass_names(PASSES), "tie_scales"}
    for rewrite in REWRITES.values():
        assert rewrite.effect in ("exact", "changes numbers", "needs retraining")
        assert not rewrite.by or rewrite.by in known, rewrite


def test_each_pass_for_dla_is_named_by_a_rewrite() -> None:
    named = {rewrite.by for rewrite in REWRITES.values()}
    assert {name for name in pass_names(DLA) if name not in pass_names(PASSES)} <= named


def test_a_node_of_another_domain_is_in_no_family() -> None:
    import onnx_ir as ir

    from hwc.dla.judge_layers import judge_layer

    value = ir.Value(name="x", shape=ir.Shape([1, 4, 8, 8]), type=ir.TensorType(ir.DataType.FLOAT))
    assert "Relu" in FAMILIES
    verdict = judge_layer(ir.Node("com.example", "Relu", [value], name="n", num_outputs=1), board())
    assert [finding.rule for finding in verdict.findings] == ["general.operator"]
