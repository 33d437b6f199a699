"""The pass checker bites: it refuses each fault that a published checker of this kind lets pass."""

import numpy as np
import onnx_ir as ir
import pytest

from hwc.passes.base import PassContext, PassReport
from tests.graph.samples import CHAIN
from tests.passes import check
from tests.passes.check import assert_same_outputs, check_pass, model_of

CONSTANT = """
<ir_version: 8, opset_import: ["": 17]>
net (float[2,3] x) => (float[2,3] y)
<float[1] zero = {0}, float[1] w = {0}>
{ [none] z = Mul(x, zero) [add] y = Add(z, w) }
"""


def constant_model(value: float) -> ir.Model:
    """y is `value` everywhere, whatever x is."""
    model = model_of(CONSTANT)
    model.graph.initializers["w"].const_value = ir.tensor(np.float32([value]), name="w")
    return model


@pytest.mark.parametrize(("one", "other"), [(1, 1000), (1000, 1), (0, 8), (8, 0), (1, 1.001), (0, 1e-4)])
def test_gross_errors_are_refused(one, other):
    with pytest.raises(AssertionError):
        assert_same_outputs(constant_model(one), constant_model(other))


def test_what_rounding_does_passes():
    assert_same_outputs(constant_model(1), constant_model(np.nextafter(np.float32(1), np.float32(2))))


def test_nan_where_there_was_a_number_is_refused():
    with pytest.raises(AssertionError):
        assert_same_outputs(constant_model(1), constant_model(np.nan))


def test_another_dtype_or_shape_of_equal_values_is_refused():
    cast = CHAIN.replace("float[2,3] y", "double[2,3] y").replace("[third] y", "[third] s").replace(
        "Add(b, a)", "Add(b, a) [cast] y = Cast<to = 11>(s)")
    with pytest.raises(AssertionError):
        assert_same_outputs(model_of(CHAIN), model_of(cast))
    flat = CHAIN.replace("float[2,3] y", "float[6] y").replace("y)\n{", "y)\n<int64[1] n = {-1}>\n{").replace(
        "[third] y = Add(b, a)", "[third] s = Add(b, a) [flat] y = Reshape(s, n)")
    with pytest.raises(AssertionError):
        assert_same_outputs(model_of(CHAIN), model_of(flat))


def test_feeds_are_not_all_zero_and_depend_on_the_seed():
    model = model_of(CHAIN)
    one, two = (check.random_feeds(model, seed)["x"] for seed in (0, 1))
    assert (np.abs(one) > 0.01).any() and not np.array_equal(one, two)
    assert np.array_equal(one, check.random_feeds(model, 0)["x"])


def swap_neg(model: ir.Model, ctx: PassContext) -> PassReport:
    """A pass that changes what the model computes."""
    model.graph[1].op_type = "Abs"
    return PassReport(1)


def do_nothing(model: ir.Model, ctx: PassContext) -> PassReport:
    return PassReport(0)


def test_a_pass_that_changes_the_outputs_is_refused():
    with pytest.raises(AssertionError):
        check_pass(swap_neg, CHAIN, rewrites=1)


def test_a_pass_with_another_number_of_rewrites_is_refused():
    check_pass(do_nothing, CHAIN, rewrites=0)
    with pytest.raises(AssertionError, match="0 rewrites"):
        check_pass(do_nothing, CHAIN, rewrites=1)
