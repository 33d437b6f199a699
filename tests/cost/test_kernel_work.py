import onnx_ir as ir
import pytest

from hwc import targets
from hwc.artifacts import FusionGroup
from hwc.cost.count_flops import MATRIX_OPS, count_flops
from hwc.cost.kernel_work import Work, list_work, split_work
from hwc.errors import UsageError
from hwc.passes.base import PassContext
from hwc.passes.form_fusion_groups import form_fusion_groups
from tests.passes.check import model_of

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def works_of(body: str, weights: str, out: str = "float[1,4,8,8] z") -> tuple[Work, ...]:
    return list_work(*grouped(body, weights, out))


def grouped(body: str, weights: str, out: str) -> tuple[ir.Model, tuple[FusionGroup, ...]]:
    model = model_of(f"{HEAD} g (float[1,4,8,8] x, {weights}) => ({out}) {{ {body} }}")
    return model, form_fusion_groups(model, PassContext(target=targets.load("agx-orin"))).groups


POINT = "float[4,4,1,1] a, float[4,4,1,1] b, float[4,4,3,3] c"


def test_a_part_that_a_second_concat_joins_is_copied_and_the_first_time_is_free():
    body = """p = Conv(x, a) q = Conv<pads=[1,1,1,1]>(p, c) one = Concat<axis=1>(p, q)
              r = Conv(one, w) z = Concat<axis=1>(p, q, r)"""
    works = works_of(body, POINT + ", float[4,8,1,1] w", "float[1,12,8,8] z")
    assert [w.read for w in works if w.kind == "copy"] == [256, 256]


def test_an_input_and_a_cut_are_copied_into_a_concat_but_a_cut_alone_is_free():
    cut = "s = Constant<value_ints=[2,2]>() l, r = Split<axis=1>(x, s)"
    assert works_of(f"{cut} z = Concat<axis=1>(l, r)", POINT)[0].kind == "copy"
    works = works_of(f"{cut} z = Conv(l, w)", "float[4,2,1,1] w")
    assert [w.kind for w in works] == ["conv"] and works[0].read == 128 + 8  # half of x, and w, here an input


def test_a_cut_across_memory_is_a_copy():
    cut = "s = Constant<value_ints=[3,5]>() l, r = Split<axis=3>(x, s) z = Relu(l)"
    assert works_of(cut, POINT, "float[1,4,8,3] z")[0].kind == "copy"


def test_1x1_convolutions_of_one_tensor_run_as_one_and_3x3_do_not():
    works = works_of("p = Conv(x, a) q = Conv(x, b) z = Add(p, q)", POINT)
    joined = [w for w in works if len(w.groups) == 2]
    assert len(joined) == 0 and len(works) == 2  # one of the two has taken the Add in
    works = works_of("p = Conv(x, a) q = Conv(x, b) z = Concat<axis=1>(p, q)", POINT, "float[1,8,8,8] z")
    assert len(works) == 1 and works[0].n == 8 and works[0].written == 512 and len(works[0].groups) == 2
    body = "p = Conv<pads=[1,1,1,1]>(x, c) q = Conv<pads=[1,1,1,1]>(x, d) z = Concat<axis=1>(p, q)"
    assert len(works_of(body, POINT + ", float[4,4,3,3] d", "float[1,8,8,8] z")) == 2


def test_max_pool_joins_in_int8_and_stands_apart_in_floats():
    body = "p = Conv(x, a) q = Relu(p) z = MaxPool<kernel_shape=[2,2], strides=[2,2]>(q)"
    works = works_of(body, POINT, "float[1,4,4,4] z")
    assert len(works) == 1 and works[0].pool[:2] == (256, 64)
    apart = split_work(works, "fp16")
    assert [(w.kind, w.written) for w in apart] == [("conv", 256), ("plain", 64)]
    assert [(w.kind, w.written) for w in split_work(works, "int8")] == [("conv", 64)]


def test_a_gate_joins_in_fp16_alone():
    works = works_of("p = Conv(x, a) s = Sigmoid(p) z = Mul(p, s)", POINT)
    assert len(works) == 1 and works[0].is_gated
    assert [len(split_work(works, p)) for p in ("fp32", "fp16", "int8")] == [2, 1, 2]
    assert len(split_work(works, "int8", ("int8",))) == 1


def test_a_lone_batch_normalisation_runs_with_its_activation():
    body = "p = BatchNormalization(x, s, s, s, s) q = Relu(p) z = Conv(q, a)"
    works = works_of(body, POINT + ", float[4] s")
    assert [w.kind for w in works] == ["plain", "conv"] and len(works[0].groups) == 1


def test_depthwise_and_matrix_times_vector_have_kinds_of_their_own():
    assert works_of("z = Conv<group=4>(x, w)", "float[4,1,1,1] w")[0].kind == "depthwise"
    body = "f = Flatten(x) z = Gemm<transB=1>(f, w)"
    assert works_of(body, "float[5,256] w", "float[1,5] z")[0].kind == "gemm"


def test_no_operation_of_a_matrix_product_is_lost():
    body = """p = Conv(x, a) q = Conv(x, b) r = Conv<pads=[1,1,1,1]>(p, c) s = Sigmoid(r) t = Mul(r, s)
              z = Concat<axis=1>(t, q)"""
    model, groups = grouped(body, POINT, "float[1,8,8,8] z")
    wanted = sum(count_flops(node) for node in model.graph if node.op_type in MATRIX_OPS)
    for precision in ("fp32", "fp16", "int8"):
        assert sum(w.matrix_ops for w in split_work(list_work(model, groups), precision)) == wanted


def test_a_group_of_another_model_is_refused():
    model, _ = grouped("z = Relu(x)", POINT, "float[1,4,8,8] z")
    with pytest.raises(UsageError, match="not in the graph"):
        list_work(model, (FusionGroup("g9", "Relu", ("absent",), (), ()),))
