"""Reads an LSTM node whose sizes and weights are known, or says which of its options is not covered.

Covered: forward, reverse and bidirectional; activations Sigmoid, Tanh, Tanh; with or without bias and initial states.
Not covered, each a near miss: peepholes, clip, input_forget, other activations, layout 1, sequences of different
length, weights that are computed, and a number of steps or a batch that is not static.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hwc.graph.match import attribute, constant, require, static_shape

GATES = 4  # ONNX orders their rows i, o, f, c
_DEFAULT_ACTIVATIONS = ("sigmoid", "tanh", "tanh")
_REVERSED = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class Lstm:
    """One LSTM: T steps, batch B, I inputs, H hidden values, D directions.

    Args:
        x: [T, B, I]
        is_reversed: per direction, whether it runs from the last step to the first.
        weight: W transposed, all directions side by side, [I, D * 4H].
        recurrence: R transposed per direction, [D, H, 4H].
        bias: the sum of the input's and the recurrence's, [D * 4H], or None.
        initial_h: [D, B, H], or None for zeros; `initial_c` likewise.
    """

    x: ir.Value
    steps: int
    batch: int
    hidden: int
    is_reversed: tuple[bool, ...]
    weight: np.ndarray
    recurrence: np.ndarray
    bias: np.ndarray | None
    initial_h: ir.Value | None
    initial_c: ir.Value | None

    @property
    def directions(self) -> int:
        return len(self.is_reversed)

    @property
    def state_shape(self) -> tuple[int, int, int]:
        return self.directions, self.batch, self.hidden

    @property
    def gates_shape(self) -> tuple[int, int, int]:
        return self.directions, self.batch, GATES * self.hidden


def read_lstm(node: ir.Node) -> Lstm:
    """The node's operands in the order that a rewrite wants them.

    Raises:
        NoMatch: near; names the option that is not covered.
    """
    _require_plain(node)
    inputs = [*node.inputs, *[None] * (8 - len(node.inputs))]
    x, _, _, _, lengths, initial_h, initial_c, peepholes = inputs
    require(peepholes is None, "it has peepholes")
    steps, batch, _ = static_shape(x, "its input")
    require(steps > 0, "the sequence is empty")
    if lengths is not None:
        given = constant(lengths, "sequence_lens")
        require((given == steps).all(), "sequence_lens are shorter than the sequence")
    weight = constant(inputs[1], "W")
    recurrence = constant(inputs[2], "R")
    hidden = recurrence.shape[2]
    bias = None
    if inputs[3] is not None:
        both = constant(inputs[3], "B")
        half = GATES * hidden
        bias = (both[:, :half] + both[:, half:]).reshape(-1)
    assert x is not None
    return Lstm(
        x=x,
        steps=steps,
        batch=batch,
        hidden=hidden,
        is_reversed=_REVERSED[attribute(node, "direction", "forward")],
        weight=np.concatenate([matrix.T for matrix in weight], axis=1),
        recurrence=np.ascontiguousarray(recurrence.transpose(0, 2, 1)),
        bias=bias,
        initial_h=initial_h,
        initial_c=initial_c,
    )


def _require_plain(node: ir.Node) -> None:
    activations = [name.lower() for name in attribute(node, "activations", [])]
    directions = len(_REVERSED[attribute(node, "direction", "forward")])
    require(activations in ([], [*_DEFAULT_ACTIVATIONS] * directions), f"its activations are {', '.join(activations)}")
    for name in ("clip", "input_forget", "layout"):
        value = attribute(node, name, 0)
        require(not value, f"{name} is {value}")
