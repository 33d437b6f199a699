import dataclasses

import numpy as np
import onnx_ir as ir
import pytest

from hwc.artifacts import Fact, FusionGroup, Target
from hwc.cost.count_flops import count_flops
from hwc.cost.roofline import LAUNCH_SECONDS, estimate_group, estimate_groups, estimate_nodes, total
from hwc.errors import TargetError, UsageError
from hwc.graph.model import make_node
from tests.passes.check import model_of

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def made_target(family: str = "geforce", **facts: object) -> Target:
    known = {
        "gpu.fp32_tflops": 80.0, "gpu.fp16_tflops": 320.0, "gpu.int8_tops": 640.0, "gpu.sm_count": 128,
        "memory.bandwidth_gb_s": 1000.0, "cpu.fp32_gflops": 200.0, "cpu.isa": ("avx2", "avx512_vnni"), **facts,
    }
    facts_of = {name: Fact(value, "", "made for a test") for name, value in known.items()}
    return Target("made", "made", family, "tensorrt", facts_of)


def conv(cin: int, cout: int, size: int, *, group: int = 1, kernel: int = 3) -> str:
    pad = kernel // 2
    return HEAD + f"""
    agraph (float[1,{cin},{size},{size}] x, float[{cout},{cin // group},{kernel},{kernel}] w, float[{cout}] b)
      => (float[1,{cout},{size},{size}] z) {{
        y = Conv<group={group}, pads=[{pad},{pad},{pad},{pad}]>(x, w, b)
        z = Relu(y)
    }}"""


def nodes_of(text: str) -> list[ir.Node]:
    return list(model_of(text).graph)


@pytest.mark.parametrize(
    ("body", "inputs", "output", "flops"),
    [
        ("y = Conv(x, w)", "float[1,8,10,10] x, float[16,8,3,3] w", "float[1,16,8,8]", 2 * 1024 * 8 * 9),
        ("y = Conv<group=4>(x, w)", "float[1,8,10,10] x, float[16,2,3,3] w", "float[1,16,8,8]", 2 * 1024 * 2 * 9),
        ("y = Conv<dilations=[2,2]>(x, w)", "float[1,8,10,10] x, float[16,8,3,3] w", "float[1,16,6,6]",
         2 * 16 * 36 * 8 * 9),
        ("y = ConvTranspose<strides=[2,2]>(x, w)", "float[1,8,4,4] x, float[8,16,2,2] w", "float[1,16,8,8]",
         2 * 8 * 16 * 16 * 4),
        ("y = ConvTranspose<group=2>(x, w)", "float[1,8,4,4] x, float[8,3,2,2] w", "float[1,6,5,5]",
         2 * 8 * 16 * 3 * 4),
        ("y = Gemm<transA=1, transB=1>(x, w, b)", "float[5,2] x, float[3,5] w, float[3] b", "float[2,3]",
         2 * 2 * 3 * 5 + 6),
        ("y = MatMul(x, w)", "float[4,7,5] x, float[5,3] w", "float[4,7,3]", 2 * 4 * 7 * 3 * 5),
        ("y = MatMul(x, w)", "float[4,7,5] x, float[4,5,3] w", "float[4,7,3]", 2 * 4 * 7 * 3 * 5),
        ("y = MatMul(x, w)", "float[5] x, float[4,5,3] w", "float[4,3]", 2 * 4 * 3 * 5),
        ("y = MatMul(x, w)", "float[4,5] x, float[5] w", "float[4]", 2 * 4 * 5),
        ("y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)", "float[1,3,8,8] x", "float[1,3,4,4]", 48 * 4),
        ("y = GlobalAveragePool(x)", "float[1,3,8,8] x", "float[1,3,1,1]", 192),
        ("y = ReduceSum<keepdims=1>(x)", "float[2,8] x", "float[1,1]", 16),
        ("y = Softmax(x)", "float[2,8] x", "float[2,8]", 80),
        ("y = Sigmoid(x)", "float[2,8] x", "float[2,8]", 160),
        ("y = Transpose<perm=[1,0]>(x)", "float[2,8] x", "float[8,2]", 0),
    ],
)
def test_flops(body: str, inputs: str, output: str, flops: int) -> None:
    (node,) = nodes_of(HEAD + f"agraph ({inputs}) => ({output} y) {{ {body} }}")
    assert count_flops(node) == flops


def test_flops_of_lstm() -> None:
    (node,) = nodes_of(HEAD + """
    agraph (float[7,2,3] x, float[1,20,3] w, float[1,20,5] r) => (float[7,1,2,5] y) {
        y = LSTM<hidden_size=5>(x, w, r)
    }""")
    assert count_flops(node) == 2 * 7 * 2 * 20 * (3 + 5)


def test_symbolic_size_is_asked_for_else_one() -> None:
    (node,) = nodes_of(HEAD + "agraph (float[N,8] x) => (float[N,8] y) { y = Relu(x) }")
    assert count_flops(node, {"N": 4}) == 32
    assert count_flops(node) == 8


def test_only_the_border_of_a_group_moves() -> None:
    nodes = nodes_of(conv(16, 32, 56))
    both = estimate_group(nodes, made_target(), "fp32")
    tensors = 16 * 56 * 56 + 32 * 56 * 56 + 32 * 16 * 9 + 32
    assert both.bytes_moved == 4 * tensors
    assert both.kernels == 1
    apart = total(estimate_group([node], made_target(), "fp32") for node in nodes)
    assert apart.bytes_moved == both.bytes_moved + 2 * 4 * 32 * 56 * 56
    assert apart.seconds > both.seconds and apart.kernels == 2
    assert estimate_group(nodes, made_target(), "fp16").bytes_moved * 2 == both.bytes_moved


def test_a_tensor_read_outside_the_group_is_written() -> None:
    text = HEAD + """
    agraph (float[1,4,8,8] x, float[4,4,1,1] w) => (float[1,4,8,8] z, float[1,4,8,8] y) {
        y = Conv(x, w)
        z = Relu(y)
    }"""
    assert estimate_group(nodes_of(text), made_target(), "fp32").bytes_moved == 4 * (3 * 256 + 16)


def test_element_wise_nodes_ride_on_a_heavy_one() -> None:
    nodes = nodes_of(conv(16, 32, 56))
    assert estimate_nodes(nodes, made_target(), "fp16") == estimate_group(nodes, made_target(), "fp16")


def test_a_second_reader_stops_the_ride() -> None:
    text = HEAD + """
    agraph (float[1,4,8,8] x, float[4,4,1,1] w) => (float[1,4,8,8] z, float[1,4,8,8] v) {
        y = Conv(x, w)
        z = Relu(y)
        v = Sigmoid(y)
    }"""
    assert estimate_nodes(nodes_of(text), made_target(), "fp32").kernels == 3


def test_candidate_nodes_need_no_graph() -> None:
    x = ir.Value(name="x", shape=ir.Shape([1, 8]), type=ir.TensorType(ir.DataType.FLOAT))
    node = make_node("Relu", [x], name="n", outputs=["y"], dtype=ir.DataType.FLOAT, shapes=[(1, 8)])
    estimate = estimate_nodes([node], made_target(), "fp32")
    assert estimate.bytes_moved == 64 and estimate.bound == "launch"


def test_bounds_and_precisions() -> None:
    heavy = nodes_of(conv(512, 512, 56))
    by_precision = {p: estimate_group(heavy, made_target(), p) for p in ("fp32", "fp16", "int8")}
    assert all(e.bound == "compute" for e in by_precision.values())
    assert by_precision["fp32"].seconds > by_precision["fp16"].seconds > by_precision["int8"].seconds
    light = nodes_of(HEAD + "agraph (float[64,64,56,56] x) => (float[64,64,56,56] y) { y = Relu(x) }")
    assert estimate_group(light, made_target(), "fp32").bound == "memory"


def test_a_channel_beyond_the_tile_costs_like_the_next_tile() -> None:
    def seconds(cout: int) -> float:
        return estimate_group(nodes_of(conv(512, cout, 112)), made_target(), "fp16").seconds

    assert seconds(129) > seconds(128) * 1.2
    assert seconds(129) <= seconds(192)


def test_depthwise_runs_on_the_plain_lanes() -> None:
    nodes = nodes_of(conv(512, 512, 112, group=512))[:1]
    fast = dataclasses.replace(made_target(), facts=made_target(**{"gpu.fp16_tflops": 1e6}).facts)
    assert estimate_group(nodes, fast, "fp16") == estimate_group(nodes, made_target(), "fp16")


def test_views_and_shape_arithmetic_launch_nothing() -> None:
    text = HEAD + """
    agraph (float[2,8] x) => (float[16] y) {
        s = Shape(x)
        n = ReduceProd<keepdims=1>(s)
        y = Reshape(x, n)
    }"""
    assert estimate_nodes(nodes_of(text), made_target(), "fp32").seconds == 0.0


def test_recurrence_waits_for_itself() -> None:
    nodes = nodes_of(HEAD + """
    agraph (float[50,1,8] x, float[1,16,8] w, float[1,16,4] r) => (float[50,1,1,4] y) {
        y = LSTM<hidden_size=4>(x, w, r)
    }""")
    assert estimate_nodes(nodes, made_target(), "fp32").seconds > 50 * LAUNCH_SECONDS["geforce"]


def test_unknown_fact_is_refused_by_name() -> None:
    target = made_target(**{"gpu.int8_tops": None})
    with pytest.raises(TargetError, match="gpu.int8_tops"):
        estimate_nodes(nodes_of(conv(16, 32, 56)), target, "int8")


def test_unknown_precision_and_shape_are_refused() -> None:
    nodes = nodes_of(conv(16, 32, 56))
    with pytest.raises(UsageError, match="precision"):
        estimate_nodes(nodes, made_target(), "fp12")
    nodes[0].outputs[0].shape = None
    with pytest.raises(UsageError, match="shapes"):
        estimate_nodes(nodes, made_target(), "fp16")


def test_cpu_computes_fp16_in_fp32() -> None:
    nodes = nodes_of(conv(64, 64, 56))
    cpu = made_target("cpu")
    assert estimate_nodes(nodes, cpu, "fp16") == estimate_nodes(nodes, cpu, "fp32")
    int8 = estimate_nodes(nodes, cpu, "int8").seconds
    assert int8 < estimate_nodes(nodes, cpu, "fp32").seconds
    assert int8 < estimate_nodes(nodes, made_target("cpu", **{"cpu.isa": ("avx2",)}), "int8").seconds
    with pytest.raises(TargetError, match="cpu.isa"):
        estimate_nodes(nodes, made_target("cpu", **{"cpu.isa": None}), "int8")


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(TargetError, match="does not compute in int8"):
        estimate_nodes(nodes_of(conv(16, 32, 56)), made_target(**{"gpu.int8_tops": 0}), "int8")


def test_table_says_why_a_row_is_empty() -> None:
    model = model_of(HEAD + """
    agraph (float[2] x, bool c) => (float[2] z) {
        y = If(c) <then_branch = t () => (float[2] a) { a = Relu(x) },
                   else_branch = e () => (float[2] b) { b = Neg(x) }>
        z = Relu(y)
    }""")
    groups = [FusionGroup(f"g{i}", n.op_type, (n.name,), (), ()) for i, n in enumerate(model.graph)]
    rows = estimate_groups(model, groups, made_target(), "fp32")
    assert rows[0].estimate is None and "body" in rows[0].reason
    assert rows[1].estimate is not None and rows[1].estimate.kernels == 1
    with pytest.raises(UsageError, match="not in the graph"):
        estimate_groups(model, [FusionGroup("g", "Relu", ("nobody",), (), ())], made_target(), "fp32")


def test_own_types_of_a_strongly_typed_graph() -> None:
    model = model_of(HEAD + """
    agraph (float[2,8] x) => (float16[2,8] z) {
        y = Cast<to=10>(x)
        z = Relu(y)
    }""")
    assert total(estimate_group([n], made_target(), "graph") for n in model.graph).bytes_moved == 16 * (4 + 2 + 2 + 2)
    assert np.isclose(estimate_nodes([], made_target(), "fp32").seconds, 0.0)
