"""What the tests of the DLA passes share: contexts, and models whose shapes and constants are given."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hwc.passes.base import Pass, PassContext
from tests.dla.judged import ORIN, XAVIER, with_facts
from tests.passes.check import check_pass, context, model_of

__all__ = ["ORIN", "XAVIER", "graph", "on", "rewrite", "with_facts"]


def on(target: str = XAVIER, **options: object) -> PassContext:
    return context(target, **options)


def graph(body: str, x: str, y: str, arrays: dict[str, np.ndarray] | None = None, opset: int = 17) -> ir.Model:
    """One input x of these dimensions; constants by name."""
    given = [f"float[{','.join(map(str, array.shape))}] {name}" for name, array in (arrays or {}).items()]
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>\nagraph ({", ".join([f"float[{x}] x", *given])})'
    return model_of(f"{head} => (float[{y}] y) {{ {body} }}", arrays)


def rewrite(graph_pass: Pass, model: ir.Model, ctx: PassContext | None = None, *, rewrites: int = 1):
    """`check_pass` for Xavier; and the pass leaves targets without a DLA alone."""
    check_pass(graph_pass, model, rewrites=0, ctx=context("rtx-4090"))
    return check_pass(graph_pass, model, rewrites=rewrites, ctx=ctx or on())
