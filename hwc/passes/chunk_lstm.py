"""Makes an LSTM one product for all inputs and a Scan over chunks of steps, for builders that unroll the operator.

With step t, gates in ONNX's order i, o, f, c, and both directions stacked as a batch of D:

    G   = x [W_0^T | W_1^T] + (Wb + Rb)                 one MatMul for all steps; the reverse half is turned round
    a_t = G_t + h R^T,   c = sigma(a_f) c + sigma(a_i) tanh(a_c),   h = sigma(a_o) tanh(c)

The Scan's body is k steps written out (`lstm_chunk` has them), so it runs T / k times. T is filled up to a multiple of
k behind the last real step of each direction. The gates of those idle steps are -m, 0, m, 0 with
m = 100 + max_j sum_i |R_ij|, so sigma(a_f) = 1 and sigma(a_i) = 0 whatever h is, and c stays what it was: Y_c is the
carried c. Y_h is read from Y at the last real step. Up to 16 steps there is no Scan, only the steps.

Why, and why only for TensorRT for RTX (1.7.1, built for SM86, FP32, kernels of the built engine):

* it has no LSTM kernel: the operator becomes a loop that is unrolled by 8, with the remainder written out. english_g2
  (two bidirectional LSTMs of 256, 79 steps) has 237 kernels plain and 79 with chunks of 8; one such LSTM with all three
  outputs read, 120 and 34.
* chunks of 4, 5, 6, 7, 8, 9, 10, 20 and 79 steps give english_g2 89, 97, 71, 75, 79, 83, 87, 127 and 337 kernels: a
  body of less than 6 steps is unrolled again, and each further step costs two kernels. Idle steps cost time, though: 6
  and 7 have five of them. So k is 6 to 10, whichever pads least, and of those the least.
* the loop itself takes about 18 kernels, as many as nine steps: 16 steps have 33 kernels written out, 34 as two chunks
  of 8, and 91 plain.

Limit: G and Y are held for all steps, so activation memory grows (english_g2: 11.874 -> 11.878 MB; one LSTM of 1000
steps: 10.3 -> 18.5 MB). What was counted are kernels; times were not measured.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import require, sweep
from hwc.graph.model import Namer, opset, replace_nodes
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter
from hwc.passes.lstm_chunk import emit_steps, make_body
from hwc.passes.lstm_node import GATES, Lstm, read_lstm

CHUNKS = range(6, 11)
LONGEST_SINGLE_CHUNK = 16
_SPLIT_TAKES_SIZES = 13
# With sigma(100) = 1 and sigma(-100) = 0 to the last bit of FP32, whatever is computed around them.
_SATURATED = 100.0
_TO_THE_FIRST = -(2**31)


def chunk_lstm(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    rule = partial(_chunk, namer=Namer(model), version=opset(model), target=context.target)
    return PassReport(sweep(model, ("LSTM",), rule, misses=misses), tuple(misses))


def unrolls_lstm(target: Target) -> bool:
    """Whether the target's builder has no LSTM kernel and unrolls the operator: measured, see the module docstring.

    OpenVINO runs an LSTM as one layer (LSTMSequence), which the rewrite would take from it; TensorRT was not measured.
    """
    return target.engine == "tensorrt_rtx"


def choose_chunk(steps: int) -> int:
    """Steps of one chunk; `steps` itself where no loop is worth its kernels."""
    if steps <= LONGEST_SINGLE_CHUNK:
        return steps
    return min(CHUNKS, key=lambda size: (-steps % size, size))


def _chunk(node: ir.Node, *, namer: Namer, version: int, target: Target) -> None:
    require(unrolls_lstm(target), f"the builder of {target.engine} is not known to unroll an LSTM")
    require(version >= _SPLIT_TAKES_SIZES, f"the sizes of a Split are an input from opset 13 on, this is {version}")
    lstm = read_lstm(node)
    chunk = choose_chunk(lstm.steps)
    trips = -(-lstm.steps // chunk)
    emit = Emitter(node, namer)
    gates = _emit_gates(emit, lstm, trips * chunk - lstm.steps)
    zero = np.zeros(lstm.state_shape, lstm.weight.dtype)
    h, c = (emit.constant(zero, "zero") if start is None else start for start in (lstm.initial_h, lstm.initial_c))
    recurrence = emit.constant(lstm.recurrence, "recurrence")
    if trips == 1:
        h, c, y = emit_steps(emit, lstm, h, c, gates, recurrence, chunk)
    else:
        gates = emit.reshape(gates, (trips, chunk, *lstm.gates_shape))
        body = make_body(emit, lstm, recurrence, chunk)
        shapes = [lstm.state_shape, lstm.state_shape, (trips, chunk, *lstm.state_shape)]
        h, c, y = emit.many("Scan", "scan", [h, c, gates], shapes, body=body, num_scan_inputs=1)
        y = emit.reshape(y, (trips * chunk, *lstm.state_shape))
    values = _emit_results(node, emit, lstm, y, h, c, is_padded=trips * chunk > lstm.steps)
    replace_nodes([node], emit.nodes, values)


def _emit_gates(emit: Emitter, lstm: Lstm, padding: int) -> ir.Value:
    """What the inputs add to the gates, each direction in its own order of time: [T + padding, D, B, 4H]."""
    directions, batch, width = lstm.gates_shape
    shape = (lstm.steps, batch, directions * width)
    all_gates = emit.one("MatMul", "projection", [lstm.x, emit.constant(lstm.weight, "weight")], shape)
    if lstm.bias is not None:
        all_gates = emit.one("Add", "bias_add", [all_gates, emit.constant(lstm.bias, "bias")], shape)
    parts = []
    for index, is_reversed in enumerate(lstm.is_reversed):
        part = all_gates
        if directions > 1:
            part = emit.slice(part, 2, index * width, (index + 1) * width, (lstm.steps, batch, width))
        if is_reversed:
            part = emit.slice(part, 0, -1, _TO_THE_FIRST, (lstm.steps, batch, width), step=-1)
        parts.append(emit.one("Unsqueeze", "stacked", [part, emit.ints(1)], (lstm.steps, 1, batch, width)))
    gates = emit.concat(parts, 1, (lstm.steps, *lstm.gates_shape))
    if padding:
        idle = emit.constant(_idle_gates(lstm, padding), "idle")
        gates = emit.concat([gates, idle], 0, (lstm.steps + padding, *lstm.gates_shape))
    return gates


def _idle_gates(lstm: Lstm, steps: int) -> np.ndarray:
    """Gates of steps that leave c as it is, [steps, D, B, 4H]."""
    # A state h lies in (-1, 1) after the first step, and idle steps never come first.
    closed = _SATURATED + float(np.abs(lstm.recurrence).sum(axis=1).max())
    gates = np.zeros((steps, lstm.directions, lstm.batch, GATES, lstm.hidden), lstm.weight.dtype)
    gates[..., 0, :] = -closed
    gates[..., 2, :] = closed
    return gates.reshape(steps, *lstm.gates_shape)


def _emit_results(
    node: ir.Node, emit: Emitter, lstm: Lstm, y: ir.Value, h: ir.Value, c: ir.Value, *, is_padded: bool
) -> dict[ir.Value, ir.Value]:
    """What replaces each output of the node that is read.

    Args:
        y: [T + padding, D, B, H], each direction in its own order of time.
    """
    values: dict[ir.Value, ir.Value] = {}
    outputs = {
        name: value
        for name, value in zip(("Y", "Y_h", "Y_c"), node.outputs)
        if value.uses() or value.is_graph_output()
    }
    if "Y_h" in outputs:
        if is_padded:
            last = emit.slice(y, 0, lstm.steps - 1, lstm.steps, (1, *lstm.state_shape))
            h = emit.one("Squeeze", "last_h", [last, emit.ints(0)], lstm.state_shape)
        values[outputs["Y_h"]] = h
    if "Y_c" in outputs:
        values[outputs["Y_c"]] = c
    if "Y" in outputs:
        if is_padded:
            y = emit.slice(y, 0, 0, lstm.steps, (lstm.steps, *lstm.state_shape))
        shape = (lstm.steps, 1, lstm.batch, lstm.hidden)
        parts = []
        for index, is_reversed in enumerate(lstm.is_reversed):
            part = emit.slice(y, 1, index, index + 1, shape) if lstm.directions > 1 else y
            parts.append(emit.slice(part, 0, -1, _TO_THE_FIRST, shape, step=-1) if is_reversed else part)
        values[outputs["Y"]] = emit.concat(parts, 1, (lstm.steps, *lstm.state_shape))
    return values
