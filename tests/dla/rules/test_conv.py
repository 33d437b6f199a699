import pytest

from hwc.dla.rules.conv import cbuf_banks
from tests.dla.judged import ORIN, XAVIER, board, judge, rules, with_facts

BLOCKS = "blocks"


def conv(attributes: str = "", weight=(8, 4, 3, 3), x: str = "1,4,16,16", on=None):
    return rules(f"y = Conv<{attributes or 'group=1'}>(x, w)", f"float[{x}] x", "float[] y", on, arrays={"w": weight})


def test_an_ordinary_conv_may_run() -> None:
    assert conv("pads=[1,1,1,1], strides=[2,2]") == []


@pytest.mark.parametrize(
    ("attributes", "weight", "x", "rule"),
    [
        ("", (8, 4, 33, 1), "1,4,64,16", "conv.kernel"),
        ("pads=[3,1,3,1]", (8, 4, 3, 3), "1,4,16,16", "conv.padding_below_kernel"),
        ("strides=[9,1]", (8, 4, 3, 3), "1,4,64,16", "conv.stride"),
        ("dilations=[1,33]", (8, 4, 3, 3), "1,4,16,90", "conv.dilation"),
        ("", (8193, 4, 1, 1), "1,4,2,2", "general.dimension"),
        ("", (8, 4, 3), "1,4,16", "general.rank"),
        ("", (8, 4, 1, 1, 1), "1,4,2,2,2", "general.rank"),
        ("", (8, 4, 3, 3), "1,4,16,8193", "general.dimension"),
        ("", (8, 4, 3, 3), "4097,4,3,3", "general.batch"),
        ("", (8, 4, 3, 3), "1,4,H,16", "general.static_shape"),
    ],
)
def test_each_limit_blocks(attributes, weight, x, rule) -> None:
    assert (rule, BLOCKS) in conv(attributes, weight, x)


@pytest.mark.parametrize(
    ("attributes", "weight", "x"),
    [
        ("", (8, 4, 32, 1), "1,4,64,16"),
        ("pads=[2,1,2,1]", (8, 4, 3, 3), "1,4,16,16"),
        ("strides=[8,1]", (8, 4, 3, 3), "1,4,64,16"),
        ("dilations=[1,32]", (8, 4, 3, 3), "1,4,16,90"),
        ("", (8192, 4, 1, 1), "1,4,2,2"),
        ("", (8, 4, 1, 1), "1,4,16,8192"),
        ("", (8, 4, 3, 3), "4096,4,3,3"),
    ],
)
def test_the_limits_themselves_are_within(attributes, weight, x) -> None:
    assert conv(attributes, weight, x) == []


def test_the_buffer_formula() -> None:
    # 512 channels of 3x3 in FP16 are 9216 bytes, one bank; a row of 56 columns is 448 entries, 3 rows 1344, 6 banks.
    assert cbuf_banks(512, 56, (3, 3), 1, is_int8=False, bank_bytes=32768) == (1, 6)
    assert cbuf_banks(512, 56, (3, 3), 1, is_int8=True, bank_bytes=32768) == (1, 3)
    assert cbuf_banks(2048, 56, (3, 3), 1, is_int8=False, bank_bytes=32768) == (2, 21)
    # A kernel of one element rounds up to 128 bytes, a row to one entry.
    assert cbuf_banks(1, 1, (1, 1), 1, is_int8=True, bank_bytes=32768) == (1, 1)
    # Dilation spreads the rows.
    assert cbuf_banks(512, 56, (3, 3), 2, is_int8=False, bank_bytes=32768) == (1, 9)


def test_the_buffer_blocks_in_fp16_and_not_in_int8() -> None:
    wide = {"weight": (8, 1024, 3, 3), "x": "1,1024,8,68"}
    assert conv("", **wide) == []  # 1 + 13 banks
    over = {"weight": (8, 1024, 3, 3), "x": "1,1024,8,84"}
    assert conv("", **over) == [("conv.buffer", BLOCKS)]  # 1 + 16 banks
    assert conv("", **over, on=board(precision="int8")) == []


def test_unequal_padding_is_as_sure_as_its_fact() -> None:
    uneven = "pads=[0,0,1,1], strides=[2,2]"
    assert conv(uneven) == [("conv.equal_padding", "unsure")]
    assert conv(uneven, on=board(with_facts(XAVIER, dla__asymmetric_padding=True))) == []
    assert conv(uneven, on=board(with_facts(XAVIER, dla__asymmetric_padding=False))) == [("conv.equal_padding", BLOCKS)]
    assert conv('auto_pad="SAME_UPPER", strides=[2,2]') == [("conv.equal_padding", "unsure")]


def test_computed_weights_block() -> None:
    found = rules("y = Conv(x, w)", "float[1,4,8,8] x, float[8,4,3,3] w", "float[1,8,6,6] y")
    assert found == [("conv.constant_weight", BLOCKS)]


def test_gemm_by_a_constant_may_run() -> None:
    for target in (XAVIER, ORIN):
        assert rules("y = Gemm(x, w)", "float[1,512] x", "float[1,10] y", board(target), arrays={"w": (512, 10)}) == []


@pytest.mark.parametrize(
    ("body", "inputs", "arrays", "rule"),
    [
        ("y = Gemm(x, w)", "float[1,8] x, float[8,4] w", {}, "matrix.constant"),
        ("y = Gemm<transA=1>(x, w)", "float[8,1] x", {"w": (8, 4)}, "matrix.constant"),
        ("y = MatMul(x, w)", "float[1,1,2,8] x", {"w": (8, 4)}, "matrix.rank"),
        ("y = MatMul(x, w)", "float[2,2,8] x", {"w": (8, 4)}, "general.rank"),
    ],
)
def test_other_products_block(body, inputs, arrays, rule) -> None:
    assert (rule, BLOCKS) in rules(body, inputs, "float[] y", arrays=arrays)


def test_a_type_that_dla_lacks_blocks() -> None:
    verdict = judge("y = Add(x, z)", "int64[1,4,8,8] x, int64[1,4,8,8] z", "int64[1,4,8,8] y")[0]
    assert [finding.rule for finding in verdict.findings] == ["general.type"] and not verdict.is_legal
