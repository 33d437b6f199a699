import pytest

from hwc.passes.convolve_slice import convolve_slice
from tests.passes.check import check_pass, ops
from tests.passes.for_dla import ORIN, graph, on, rewrite

HEAD = "b = Constant<value_ints=[1]>() e = Constant<value_ints=[5]>() a = Constant<value_ints=[1]>() " \
       "t = Constant<value_ints=[2]>() m = Constant<value_ints=[-2]>() " \
       "big = Constant<value_ints=[9223372036854775807]>() " \
       "two = Constant<value_ints=[1,0]>() ends = Constant<value_ints=[3,4]>() axes = Constant<value_ints=[1,2]>() " \
       "h = Constant<value_ints=[2]>() parts = Constant<value_ints=[2,4]>() "


@pytest.mark.parametrize(
    ("body", "convs"),
    [
        ("y = Slice(x, b, e, a)", 1), ("y = Slice(x, b, e, a, t)", 1), ("y = Slice(x, m, big, a)", 1),
        ("y = Slice(x, two, ends, axes)", 1), ("y, z = Split<axis=1>(x, parts)", 1),
        ("p, q = Split<axis=1>(x, parts) y = Concat<axis=1>(q, p)", 2),
    ],
)  # fmt: skip
def test_forms(body, convs) -> None:
    after, _, _ = rewrite(convolve_slice, graph(HEAD + body, "2,6,4,5", "a,b,c,d"))
    assert ops(after).count("Conv") == convs and not {"Slice", "Split"} & set(ops(after))


@pytest.mark.parametrize(
    ("body", "reason"),
    [("y = Slice(x, b, e, h)", "another axis")],
)
def test_near_misses(body, reason) -> None:
    _, _, report = rewrite(convolve_slice, graph(HEAD + body, "2,6,4,5", "a,b,c,d"), rewrites=0)
    assert reason in report.misses[0].reason


def test_orin_slices_in_fp16_but_not_in_int8() -> None:
    model = graph(HEAD + "y = Slice(x, b, e, a)", "2,6,4,5", "2,4,4,5")
    check_pass(convolve_slice, model, rewrites=0, ctx=on(ORIN, precision="fp16"))
    check_pass(convolve_slice, model, rewrites=1, ctx=on(ORIN, precision="int8"))
    check_pass(convolve_slice, model, rewrites=0)
