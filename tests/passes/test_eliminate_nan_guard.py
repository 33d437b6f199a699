import numpy as np
import onnx_ir as ir
import pytest

from hwc.engines import base
from hwc.passes.base import run_pass
from hwc.passes.eliminate_nan_guard import eliminate_nan_guard
from tests.engines.contract import request
from tests.passes.check import check_pass, context, evaluate, model_of, ops

LOWEST = float(np.finfo(np.float32).min)
GUARD = "n = IsNaN(p) g = Where(n, zero, p)"


def attention(
    guard: str = GUARD, *, masked: float = LOWEST, scores: str = "t", rest: str = "y = MatMul(g, t)"
) -> ir.Model:
    """Tokens and a mask to the product P V; every row is masked where the mask is false throughout."""
    arrays = {
        "table": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32),
        "masked": np.float32(masked),
        "zero": np.float32(0),
    }
    return model_of(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        agraph (int64[4] ids, bool[1,4] mask, float[4,4] f) => (float[4,4] y)
        <float[9,4] table, float masked, float zero> {{
            t = Gather(table, ids) r = Transpose({scores}) q = MatMul({scores}, r)
            m = Where(mask, zero, masked) s = Add(q, m) p = Softmax(s) {guard} {rest}
        }}""",
        arrays,
    )


def feeds(*mask: bool) -> dict[str, np.ndarray]:
    f = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    return {"ids": np.array([1, 0, 8, 3]), "mask": np.array([mask]), "f": f}


@pytest.mark.parametrize("guard", [GUARD, "n = IsNaN(p) o = Not(n) g = Where(o, p, zero)"])
@pytest.mark.parametrize("mask", [(True, True, False, False), (False, False, False, False)])
def test_a_finite_mask_needs_no_guard(guard: str, mask: tuple[bool, ...]) -> None:
    after, _, report = check_pass(
        eliminate_nan_guard, attention(guard), rewrites=1, ctx=context("cpu"), feeds=feeds(*mask)
    )
    assert "IsNaN" not in ops(after) and ops(after).count("Where") == 1 and report.misses == ()


def test_a_mask_of_infinities_keeps_the_guard() -> None:
    model, given = attention(masked=-np.inf), feeds(False, False, False, False)
    _, _, report = check_pass(eliminate_nan_guard, model, rewrites=0, ctx=context("cpu"), feeds=given)
    assert report.misses[0].reason == "a row may be NaN: the constant masked holds NaN or infinity"
    # And so it must: without the guard, this is what comes out.
    (bare,) = evaluate(attention("g = Identity(p)", masked=-np.inf), given)
    assert np.isnan(bare).all() and not np.isnan(evaluate(model, given)[0]).any()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"scores": "f"}, "a row may be NaN: f may hold NaN or infinity"),
        ({"masked": np.nan}, "a row may be NaN: the constant masked holds NaN or infinity"),
        ({"guard": "n = IsNaN(s) g = Where(n, zero, s)"}, "guards no Softmax"),
        ({"guard": "n = IsNaN(p) g = Where(n, f, p)", "masked": -np.inf}, "the constant masked holds"),
        ({"masked": np.inf}, "the constant masked holds NaN or infinity"),
    ],
)
def test_unproven_is_a_near_miss(options: dict, reason: str) -> None:
    _, step, report = run_pass(attention(**options), eliminate_nan_guard, context("cpu"))
    assert step.rewrites == 0 and reason in report.misses[0].reason


def test_a_replacement_that_widens_the_result_stays() -> None:
    model = model_of("""<ir_version: 10, opset_import: ["" : 20]>
    agraph (uint8[4] u, float[3,4] f) => (float[3,4] y) {
        x = Cast<to=1>(u) p = Softmax(x) n = IsNaN(p) y = Where(n, f, p)
    }""")
    _, _, report = check_pass(eliminate_nan_guard, model, rewrites=0, ctx=context("cpu"))
    assert report.misses[0].reason == "the guard is not known to keep the shape of the softmax"


def test_the_guard_at_a_graph_output_gives_the_softmax_its_name() -> None:
    model = attention("n = IsNaN(p) y = Where(n, zero, p)", rest="")
    after, _, _ = check_pass(
        eliminate_nan_guard, model, rewrites=1, ctx=context("cpu"), feeds=feeds(True, False, True, True)
    )
    assert after.graph.outputs[0].producer().op_type == "Softmax"


def test_selections_that_are_no_guard_are_not_near() -> None:
    model = attention("g = Identity(p)")
    _, step, report = run_pass(model, eliminate_nan_guard, context("cpu"))
    assert step.rewrites == 0 and report.misses == ()


@pytest.mark.parametrize(
    ("ctx", "reason"),
    [
        (context("rtx-4090"), "tensorrt_rtx is not known to be hindered by the guard"),
        (context("cpu", precision="bf16"), "in bf16 a mask of FP32's lowest value is -inf"),
    ],
)
def test_where_the_guard_stays(ctx: object, reason: str) -> None:
    _, step, report = run_pass(attention(), eliminate_nan_guard, ctx)
    assert step.rewrites == 0 and report.misses[0].reason == reason


def test_the_engine_gives_no_nan_for_a_row_masked_throughout(tmp_path) -> None:
    """The proof is of the graph as it is written; this is what OpenVINO makes of it."""
    before = attention()
    after, _, _ = run_pass(before, eliminate_nan_guard, context("cpu"))
    asked = request(ir.to_proto(after), tmp_path)
    engine = base.build("openvino", asked)
    with base.open_session(engine, asked.out_dir) as session:
        for mask in ((False,) * 4, (True, False, False, True)):
            made = session.run(feeds(*mask))
            np.testing.assert_allclose(made["y"], evaluate(before, feeds(*mask))[0], rtol=1e-4, atol=1e-5)
