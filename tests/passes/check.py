"""The fixed set of checks that every pass test makes; used as `check_pass(some_pass, TEXT, rewrites=1)`.

Text model in; `run_pass` (which verifies and compares digests); the rewrite count; onnx's checker; and both models run
by the ONNX reference evaluator on the same random inputs. The tolerance is for FP32 sums in another order and is
proved to bite by tests/passes/test_check.py.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
from onnx.reference import ReferenceEvaluator

from hwc import targets
from hwc.artifacts import Step
from hwc.graph.model import name_everything
from hwc.graph.shapes import infer_shapes
from hwc.passes.base import Pass, PassContext, PassReport, run_pass

RTOL, ATOL = 1e-4, 1e-5


def model_of(text: str, initializers: dict[str, np.ndarray] | None = None) -> ir.Model:
    """The model of onnx's text syntax; `initializers` adds arrays too large to write as text, by input name."""
    proto = onnx.parser.parse_model(text)
    for name, array in (initializers or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return prepare(ir.from_proto(proto))


def prepare(model: ir.Model) -> ir.Model:
    """The state that front ends leave behind: constants lifted, everything named, shapes inferred."""
    common.LiftConstantsToInitializersPass(lift_all_constants=True)(model)
    common.RemoveInitializersFromInputsPass()(model)
    name_everything(model)
    infer_shapes(model)
    return model


def context(target: str = "rtx-4090", **options: object) -> PassContext:
    return PassContext(target=targets.load(target), **options)  # type: ignore[arg-type]


def random_feeds(model: ir.Model, seed: int = 0, sizes: dict[str, int] | None = None) -> dict[str, np.ndarray]:
    """Inputs for the model: normal floats, small non-negative integers; symbolic dimensions from `sizes`, else 2."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        shape = [d if isinstance(d, int) else (sizes or {}).get(str(d.value), 2) for d in value.shape]
        dtype = value.dtype.numpy()
        if np.issubdtype(dtype, np.floating):
            feeds[value.name] = rng.standard_normal(shape).astype(dtype)
        elif dtype == np.bool_:
            feeds[value.name] = rng.integers(0, 2, shape).astype(dtype)
        else:
            feeds[value.name] = rng.integers(0, 4, shape).astype(dtype)
    return feeds


def evaluate(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)


def assert_same_outputs(
    before: ir.Model, after: ir.Model, *, rtol: float = RTOL, atol: float = ATOL, seed: int = 0, feeds=None
) -> None:
    feeds = feeds or random_feeds(before, seed)
    for old, new in zip(evaluate(before, feeds), evaluate(after, feeds), strict=True):
        assert old.dtype == new.dtype and old.shape == new.shape
        np.testing.assert_allclose(new, old, rtol=rtol, atol=atol)


def check_pass(
    graph_pass: Pass,
    model: str | ir.Model,
    *,
    rewrites: int,
    ctx: PassContext | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
    feeds: dict[str, np.ndarray] | None = None,
) -> tuple[ir.Model, Step, PassReport]:
    """Runs the pass with all checks; returns the new model, the step and the report for further assertions."""
    before = model_of(model) if isinstance(model, str) else model
    after, step, report = run_pass(before, graph_pass, ctx or context())
    assert step.rewrites == rewrites, f"{step.rewrites} rewrites; misses: {report.misses}"
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert_same_outputs(before, after, rtol=rtol, atol=atol, feeds=feeds)
    return after, step, report


def ops(model: ir.Model) -> list[str]:
    """Operator types in graph order."""
    return [node.op_type for node in model.graph]
