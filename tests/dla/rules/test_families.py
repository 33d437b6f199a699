"""Every other family: one case that may run, and one for each rule that it breaks."""

import pytest

from tests.dla.judged import ORIN, XAVIER, board, judge, rules, scales, with_facts

X = "float[1,4,16,16] x"
Y = "float[] y"
B, U, C = "blocks", "unsure", "condition"
INT8 = {"precision": "int8"}


@pytest.mark.parametrize(
    ("body", "weight", "found"),
    [
        ("ConvTranspose<strides=[2,2]>(x, w)", (4, 8, 2, 2), []),
        ("ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(x, w)", (4, 8, 4, 4), [("deconv.padding", B)]),
        ("ConvTranspose<strides=[2,2], output_padding=[1,1]>(x, w)", (4, 8, 2, 2), [("deconv.padding", B)]),
        ('ConvTranspose<auto_pad="SAME_UPPER">(x, w)', (4, 8, 3, 3), [("deconv.padding", B)]),
        ("ConvTranspose<group=2>(x, w)", (4, 2, 2, 2), [("deconv.groups", B)]),
        ("ConvTranspose<dilations=[2,1]>(x, w)", (4, 2, 2, 2), [("deconv.dilation", B)]),
        ("ConvTranspose(x, w)", (4, 2, 33, 1), [("deconv.kernel", B)]),
        ("ConvTranspose(x, w)", (4, 2, 1, 96), []),
        ("ConvTranspose(x, w)", (4, 2, 23, 23), [("deconv.square_kernel", B)]),
        ("ConvTranspose(x, w)", (4, 2, 22, 22), []),
        ("ConvTranspose<strides=[24,24]>(x, w)", (4, 2, 2, 2), [("deconv.square_stride", B)]),
    ],
)
def test_deconv(body, weight, found) -> None:
    assert rules(f"y = {body}", X, Y, arrays={"w": weight}) == found


@pytest.mark.parametrize(
    ("body", "target", "found"),
    [
        ("MaxPool<kernel_shape=[8,8], strides=[16,1]>(x)", XAVIER, []),
        ("MaxPool<kernel_shape=[9,1]>(x)", XAVIER, [("pool.window", B)]),
        ("MaxPool<kernel_shape=[2,2], strides=[17,1]>(x)", XAVIER, [("pool.stride", B)]),
        ("MaxPool<kernel_shape=[2,2], dilations=[2,2]>(x)", XAVIER, [("pool.dilation", B)]),
        ("MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", XAVIER, [("pool.equal_padding", U)]),
        ("MaxPool<kernel_shape=[2,2], pads=[0,0,1,1]>(x)", XAVIER, [("pool.equal_padding", U)]),
        ("AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", XAVIER, [("pool.counted_padding", B)]),
        ("AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", ORIN, []),
        ("AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)", XAVIER, []),
        ("GlobalAveragePool(x)", ORIN, [("reduce.operator", B)]),
        ("GlobalMaxPool(x)", ORIN, []),
        ("GlobalMaxPool(x)", XAVIER, [("reduce.operator", B)]),
        ("ReduceMean<axes=[2,3]>(x)", ORIN, [("reduce.operator", B)]),
    ],
)
def test_pool(body, target, found) -> None:
    assert rules(f"y = {body}", X, Y, board(target)) == found


def test_padding_of_a_pool_has_its_own_limit() -> None:
    body = "y = MaxPool<kernel_shape=[17,1], pads=[8,0,8,0]>(x)"
    assert rules(body, X, Y) == [("pool.window", B), ("pool.padding", B)]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("Relu(x)", []), ("Sigmoid(x)", []), ("Tanh(x)", []), ("LeakyRelu(x)", []),
        ("HardSwish(x)", [("general.operator", B)]), ("HardSigmoid(x)", [("general.operator", B)]),
        ("Elu(x)", [("general.operator", B)]), ("Clip(x, zero, six)", []),
        ("Clip(x, zero, half)", [("activation.clip", B)]),
        ("Clip(x, zero, big)", [("activation.clip", B)]), ("Clip(x, half, six)", [("activation.clip", B)]),
        ("Clip(x, zero)", [("activation.clip", B)]), ("PRelu(x, slope)", []), ("Abs(x)", []),
        ("Exp(x)", [("unary.operator", B)]), ("Dropout(x)", [("general.operator", B)]),
    ],
)  # fmt: skip
def test_activation(body, found) -> None:
    head = "zero = Constant<value_float=0.0>() six = Constant<value_float=6.0>() half = Constant<value_float=0.5>() " \
           "big = Constant<value_float=128.0>() "
    assert rules(f"{head} y = {body}", X, Y, arrays={"slope": (4, 1, 1)}) == found


def test_sigmoid_is_fp16_in_int8_and_computed_parameters_block() -> None:
    assert rules("y = Sigmoid(x)", X, Y, board(**INT8)) == [("activation.int8", C)]
    assert rules("y = PRelu(x, s)", f"{X}, float[4,1,1] s", Y) == [("general.rank", B)]
    assert rules("y = PRelu(x, s)", f"{X}, float[1,4,1,1] s", Y) == [("activation.slope", B)]
    assert rules("y = Clip(x, l)", f"{X}, float[1,1,1,1] l", Y) == [("activation.clip", B)]


@pytest.mark.parametrize(
    ("body", "target", "found"),
    [
        ("Add(x, z)", XAVIER, []), ("Mul(x, z)", XAVIER, []), ("Max(x, z)", XAVIER, []), ("Min(x, z)", XAVIER, []),
        ("Sub(x, z)", XAVIER, [("elementwise.sub", C)]), ("Sub(x, z)", ORIN, []),
        ("Div(x, z)", XAVIER, [("elementwise.operator", B)]), ("Div(x, z)", ORIN, []),
        ("Pow(x, z)", ORIN, [("elementwise.pow", B)]), ("Pow(x, one)", ORIN, []),
        ("Pow(x, one)", XAVIER, [("elementwise.operator", B)]),
        ("Mul(x, g)", XAVIER, [("elementwise.broadcast", U)]),
        ("Mul(x, one)", XAVIER, []), ("Add(x, channels)", XAVIER, []), ("Add(x, map)", XAVIER, []),
        ("Add(x, row)", XAVIER, [("scale.shape", B)]), ("Div(x, one)", XAVIER, []),
        ("Div(one, x)", XAVIER, [("elementwise.operator", B)]), ("Sub(one, x)", XAVIER, []),
        ("BatchNormalization(x, c, c, c, c)", XAVIER, []),
    ],
)  # fmt: skip
def test_elementwise(body, target, found) -> None:
    inputs = f"{X}, float[1,4,16,16] z, float[1,4,1,1] g"
    arrays = {"one": (1,), "channels": (4, 1, 1), "map": (4, 16, 16), "row": (1, 16), "c": (4,)}
    assert rules(f"y = {body}", inputs, Y, board(target), arrays=arrays) == found


def test_statistics_that_are_computed_block_a_scale() -> None:
    body, inputs = "y = BatchNormalization(x, c, c, c, s)", f"{X}, float[4] s"
    assert rules(body, inputs, Y, arrays={"c": (4,)}) == [("general.rank", B)]


def test_a_fact_decides_about_broadcasts() -> None:
    for value, found in ((True, []), (False, [("elementwise.broadcast", B)])):
        on = board(with_facts(ORIN, dla__elementwise_broadcast=value))
        assert rules("y = Mul(x, g)", f"{X}, float[1,4,1,1] g", Y, on) == found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("Concat<axis=1>(x, z)", []), ("Concat<axis=-3>(x, z)", []), ("Concat<axis=2>(x, z)", [("concat.axis", B)]),
        ("Concat<axis=1>(x)", [("concat.inputs", B)]), ("Concat<axis=1>(x, k)", [("concat.constant", B)]),
    ],
)  # fmt: skip
def test_concat(body, found) -> None:
    assert rules(f"y = {body}", f"{X}, float[1,4,16,16] z", Y, arrays={"k": (1, 4, 16, 16)}) == found


@pytest.mark.parametrize(
    ("mode", "scales_of", "found"),
    [
        ("nearest", "1.0, 1.0, 2.0, 32.0", []), ("linear", "1.0, 1.0, 4.0, 1.0", []),
        ("linear", "1.0, 1.0, 5.0, 1.0", [("resize.factor", B)]),
        ("nearest", "1.0, 1.0, 33.0, 1.0", [("resize.factor", B)]),
        ("nearest", "1.0, 1.0, 1.5, 1.0", [("resize.factor", B)]),
        ("nearest", "1.0, 1.0, 0.5, 1.0", [("resize.factor", B)]),
        ("cubic", "1.0, 1.0, 2.0, 2.0", [("resize.mode", B)]), ("nearest", "1.0, 2.0, 2.0, 2.0", [("resize.axes", B)]),
    ],
)  # fmt: skip
def test_resize(mode, scales_of, found) -> None:
    body = f's = Constant<value_floats=[{scales_of}]>() y = Resize<mode="{mode}">(x, , s)'
    assert rules(body, X, Y) == found


SLICE = "b = Constant<value_ints=[0]>() e = Constant<value_ints=[2]>() a = Constant<value_ints=[1]>() " \
        "t = Constant<value_ints=[2]>() "


@pytest.mark.parametrize(
    ("body", "target", "precision", "found"),
    [
        ("Slice(x, b, e, a)", XAVIER, "fp16", [("slice.precision", B)]),
        ("Slice(x, b, e, a)", ORIN, "fp16", []),
        ("Slice(x, b, e, a)", ORIN, "int8", [("slice.precision", B)]),
        ("Slice(x, b, e, a, t)", ORIN, "fp16", [("slice.step", B)]),
        ("Slice(x, i, e, a)", ORIN, "fp16", [("general.type", B)]),
    ],
)
def test_slice(body, target, precision, found) -> None:
    assert rules(f"{SLICE} y = {body}", f"{X}, int64[1] i", Y, board(target, precision)) == found


def test_a_slice_of_channels_can_be_selected() -> None:
    verdict = judge(f"{SLICE} y = Slice(x, b, e, a)", X, Y)[-1]
    assert verdict.findings[0].rewrite is not None and verdict.findings[0].rewrite.by == "convolve_slice"


@pytest.mark.parametrize(
    ("shape", "axis", "target", "found"),
    [
        ("1,1000,1,1", 1, XAVIER, [("softmax.generation", B)]), ("1,1000,1,1", 1, ORIN, []),
        ("1,8192,1,1", 1, ORIN, []), ("1,1024,4,4", 1, ORIN, []), ("1,1025,4,4", 1, ORIN, [("softmax.size", B)]),
        ("1,4,4,4", 0, ORIN, [("softmax.axis", B)]), ("2,10,1,1", 1, ORIN, [("softmax.batch", U)]),
        ("1,10", 1, XAVIER, [("softmax.generation", B)]), ("1,10", 1, ORIN, [("general.rank", B)]),
    ],
)  # fmt: skip
def test_softmax(shape, axis, target, found) -> None:
    outputs = f"float[{shape}] y"
    assert rules(f"y = Softmax<axis={axis}>(x)", f"float[{shape}] x", outputs, board(target)) == found


def test_lrn_and_what_breaks_networks_apart() -> None:
    assert rules("y = LRN<size=5>(x)", X, Y) == []
    assert rules("y = LRN<size=4>(x)", X, Y) == [("lrn.window", B)]
    assert rules("y = Transpose<perm=[0,2,3,1]>(x)", X, Y) == [("shuffle.operator", B)]
    assert rules("y = Flatten(x)", X, "float[1,1024] y") == [("shuffle.operator", B)]
    assert rules("y = InstanceNormalization(x, c, c)", X, Y, arrays={"c": (4,)}) == [("normalization.operator", B)]
    pads = "p = Constant<value_ints=[0,0,1,1,0,0,1,1]>() y = Pad(x, p)"
    assert rules(pads, X, Y) == [("pad.operator", B)]


def test_a_normalization_names_what_would_replace_it() -> None:
    verdict = judge("y = InstanceNormalization(x, c, c)", X, Y, arrays={"c": (4,)})[-1]
    assert verdict.findings[0].rewrite is not None and verdict.findings[0].rewrite.effect == "needs retraining"
    verdict = judge("y = HardSwish(x)", X, Y)[-1]
    assert "Relu" in str(verdict.findings[0].rewrite)


def test_quantize_nodes_need_a_newer_tensorrt() -> None:
    body = "s = Constant<value_float=0.1>() y = QuantizeLinear(x, s)"
    verdict = judge(body, X, "uint8[1,4,16,16] y")[-1]
    assert "general.type" in {f.rule for f in verdict.findings}  # its result is no float, whatever the version
    body = "s = Constant<value_float=0.1>() y = DequantizeLinear(x, s)"
    assert judge(body, "int8[1,4,16,16] x", Y)[-1].blocks


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (None, [("int8.equal_scales", C)]),
        (scales(x=0.1, y=0.1), []),
        (scales(x=0.1, y=0.2), [("int8.equal_scales", B)]),
        (scales(x=0.1), [("int8.scale", B)]),
    ],
)
def test_scales_of_a_pool_are_equal(table, found) -> None:
    assert rules("y = MaxPool<kernel_shape=[2,2]>(x)", X, Y, board(precision="int8", table=table)) == found
    assert rules("y = MaxPool<kernel_shape=[2,2]>(x)", X, Y) == []


def test_scales_of_operands_and_joins_are_equal() -> None:
    inputs = f"{X}, float[1,4,16,16] z"
    add = board(precision="int8", table=scales(x=0.1, z=0.1, y=0.7))
    assert rules("y = Add(x, z)", inputs, Y, add) == []
    assert rules("y = Concat<axis=1>(x, z)", inputs, Y, add) == [("int8.equal_scales", B)]
