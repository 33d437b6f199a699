"""One node in onnx's text syntax, judged for a board."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from hwc import targets
from hwc.artifacts import Fact, QuantTable, Target, TensorScale
from hwc.dla.board import Board, open_board
from hwc.dla.judge_layers import Verdict, judge_layers
from tests.passes.check import model_of

XAVIER, ORIN = "agx-xavier", "agx-orin"


def board(target: str | Target = XAVIER, precision: str = "fp16", **options: object) -> Board:
    hardware = targets.load(target) if isinstance(target, str) else target
    return open_board(hardware, precision, **options)  # type: ignore[arg-type]


def with_facts(target: str, **values: object) -> Target:
    """A target with other values of its own facts; dots are written as two underscores."""
    hardware = targets.load(target)
    facts = dict(hardware.facts)
    for name, value in values.items():
        key = name.replace("__", ".")
        facts[key] = dataclasses.replace(facts[key], value=value, source="made for a test")
        assert isinstance(facts[key], Fact)
    return dataclasses.replace(hardware, facts=facts)


def model(body: str, inputs: str, outputs: str, *, arrays: dict[str, tuple[int, ...]] | None = None,
          opset: int = 17) -> ir.Model:  # fmt: skip
    """A graph of these lines; `arrays` adds constants of ones by shape, () for a number."""
    arrays = arrays or {}
    given = [f"float[{','.join(map(str, shape))}] {name}" for name, shape in arrays.items()]
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>\nagraph ({", ".join([inputs, *given])}) => ({outputs})'
    return model_of(head + "{" + body + "}", {n: np.ones(shape, np.float32) for n, shape in arrays.items()})


def judge(body: str, inputs: str, outputs: str, on: Board | None = None, **options: object) -> tuple[Verdict, ...]:
    """The verdict about each node."""
    return judge_layers(model(body, inputs, outputs, **options), on or board())  # type: ignore[arg-type]


def rules(body: str, inputs: str, outputs: str, on: Board | None = None, **options: object) -> list[tuple[str, str]]:
    """(rule, kind) of every finding about the last node."""
    verdict = judge(body, inputs, outputs, on, **options)[-1]
    for finding in verdict.findings:
        # Every verdict names the node, the fact and its source, what was expected and what was found.
        assert finding.node == verdict.node and finding.expected and finding.got
        assert (on or board()).fact(finding.fact).source == finding.source != ""
    return [(finding.rule, finding.kind) for finding in verdict.findings]


def scales(**values: float) -> QuantTable:
    return QuantTable("m", "d", 1, "max", {name: TensorScale((value,)) for name, value in values.items()})
