from functools import partial

import numpy as np
import pytest

from hwc.passes.canonicalize_global_pool import canonicalize_global_pool
from tests.passes.check import check_pass as check_for
from tests.passes.check import context, ops

# TensorRT for RTX is the one engine that this pass leaves alone.
check_pass = partial(check_for, ctx=context("t4"))


def test_tensorrt_rtx_keeps_what_it_fuses_itself() -> None:
    pool = text("y = AveragePool<kernel_shape = [5, 7]>(x)")
    _, _, report = check_for(canonicalize_global_pool, pool, feeds=FEEDS, rewrites=0)
    assert "TensorRT for RTX" in report.misses[0].reason

FEEDS = {"x": np.ones((2, 3, 5, 7), np.float32)}


def text(body: str, x: str = "2,3,5,7", y: str = "2,3,1,1", opset: int = 17) -> str:
    axes = " <int64[2] ax = {2, 3}>" if "ax)" in body else ""
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> agraph (float[{x}] x) => (float[{y}] y){axes} {{'
    return head + body + "}"


@pytest.mark.parametrize(
    ("model", "left"),
    [
        (text("y = ReduceMean<axes = [2, 3]>(x)"), "GlobalAveragePool"),
        (text("y = ReduceMean<axes = [-1, -2]>(x)"), "GlobalAveragePool"),
        (text("y = ReduceMean(x, ax)", opset=18), "GlobalAveragePool"),
        (text("y = ReduceMean<axes = [2, 3, 4]>(x)", "N,3,H,5,W", "N,3,1,1,1"), "GlobalAveragePool"),
        (text("y = ReduceMax<axes = [2, 3]>(x)", "N,3,H,W", "N,3,1,1"), "GlobalMaxPool"),
        (text("y = AveragePool<kernel_shape = [5, 7]>(x)"), "GlobalAveragePool"),
    ],
)
def test_forms(model: str, left: str) -> None:
    after, _, _ = check_pass(canonicalize_global_pool, model, rewrites=1)
    assert ops(after) == [left]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (text("y = ReduceMean<axes = [2, 3], keepdims = 0>(x)", y="2,3"), "drops its axes"),
        (text("y = AveragePool<kernel_shape = [5, 7]>(x)", "N,3,H,7", "N,3,A,1"), "not static"),
    ],
)
def test_near_misses(model: str, reason: str) -> None:
    _, _, report = check_pass(canonicalize_global_pool, model, rewrites=0, feeds=None if "H" not in model else FEEDS)
    assert reason in report.misses[0].reason


@pytest.mark.parametrize(
    "model",
    [
        text("y = ReduceMean<axes = [1, 2, 3]>(x)", y="2,1,1,1"),
        text("y = ReduceMean<axes = [3]>(x)", y="2,3,5,1"),
        text("y = ReduceMean<axes = [2]>(x)", "2,3,5", "2,3,1"),
        text("y = AveragePool<kernel_shape = [5, 5]>(x)", y="2,3,1,3"),
        text("y = AveragePool<kernel_shape = [5, 7], pads = [1, 1, 1, 1]>(x)", y="2,3,3,3"),
    ],
)
def test_others_are_not_near(model: str) -> None:
    _, _, report = check_pass(canonicalize_global_pool, model, rewrites=0)
    assert report.misses == ()
