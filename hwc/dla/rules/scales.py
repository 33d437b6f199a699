"""INT8: tensors that must have one scale, by the rule of their operator.

TensorRT's header gives the rules to dynamic ranges that are set, and says that ranges from a calibrator are levelled to
the largest by itself. So without a table the rule is a condition; with one, unequal scales block the layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from hwc.dla.finding import Finding, Judge


def check_equal_scales(judge: Judge, values: Sequence[ir.Value | None]) -> Iterator[Finding]:
    """A condition, or a finding that blocks where the table has unequal scales; nothing in FP16."""
    if not judge.board.is_int8:
        return
    fact = "dla.int8_equal_scales"
    names = [str(value.name) for value in values if value is not None]
    expected = "one scale for " + ", ".join(f"'{name}'" for name in names)
    table = judge.board.table
    if table is None:
        yield judge.find(
            "int8.equal_scales", fact, kind="condition", expected=expected, got="no scales yet", rewrite="equal scales"
        )
        return
    missing = [name for name in names if name not in table.tensors]
    if missing:
        yield judge.find("int8.scale", fact, expected="a scale for each tensor", got=f"none for '{missing[0]}'")
        return
    scales = [table.tensors[name].scale for name in names]
    if any(scale != scales[0] for scale in scales):
        got = ", ".join(f"{scale[0]:.4g}" for scale in scales)
        yield judge.find("int8.equal_scales", fact, expected=expected, got=got, rewrite="equal scales")
