"""Several steps of an LSTM written out, and the body of a Scan that is made of them.

The product h R^T is split into the four gates before the inputs' part is added. Added first, the sum is one more kernel
to be sliced by copies: TensorRT for RTX 1.7.1 then builds 153 kernels for english_g2, and 79 as it is written here.
"""

from __future__ import annotations

import onnx_ir as ir

from hwc.passes.emitter import Emitter
from hwc.passes.lstm_node import GATES, Lstm


def emit_steps(
    emit: Emitter, lstm: Lstm, h: ir.Value, c: ir.Value, gates: ir.Value, recurrence: ir.Value, count: int
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """`count` steps from the state h, c, [D, B, H] each.

    Args:
        gates: what the inputs add to the gates, [count, D, B, 4H].
        recurrence: [D, H, 4H]

    Returns:
        h and c after the last step, and h after every step, [count, D, B, H].
    """
    rows = [gates]
    if count > 1:
        rows = list(emit.many("Split", "rows", [gates, emit.ints(*[1] * count)], [(1, *lstm.gates_shape)] * count,
                              axis=0))
    results = []
    for row in rows:
        added = emit.one("Squeeze", "row", [row, emit.ints(0)], lstm.gates_shape)
        h, c = _emit_step(emit, lstm, h, c, added, recurrence)
        results.append(emit.one("Unsqueeze", "y", [h, emit.ints(0)], (1, *lstm.state_shape)))
    return h, c, emit.concat(results, 0, (count, *lstm.state_shape))


def _emit_step(
    emit: Emitter, lstm: Lstm, h: ir.Value, c: ir.Value, added: ir.Value, recurrence: ir.Value
) -> tuple[ir.Value, ir.Value]:
    state = lstm.state_shape
    sizes = emit.ints(*[lstm.hidden] * GATES)
    product = emit.one("MatMul", "product", [h, recurrence], lstm.gates_shape)
    from_h = emit.many("Split", "from_h", [product, sizes], [state] * GATES, axis=2)
    from_x = emit.many("Split", "from_x", [added, sizes], [state] * GATES, axis=2)
    i, o, f, z = (emit.one("Add", "gate", pair, state) for pair in zip(from_x, from_h))
    i, o, f = (emit.one("Sigmoid", "opening", [gate], state) for gate in (i, o, f))
    kept = emit.one("Mul", "kept", [f, c], state)
    taken = emit.one("Mul", "taken", [i, emit.one("Tanh", "candidate", [z], state)], state)
    c = emit.one("Add", "c", [kept, taken], state)
    return emit.one("Mul", "h", [o, emit.one("Tanh", "squashed", [c], state)], state), c


def make_body(emit: Emitter, lstm: Lstm, recurrence: ir.Value, count: int) -> ir.Graph:
    """h, c and a chunk of gates in; h, c and a chunk of Y out. `recurrence` is read from the outer scope."""
    inner = emit.nested()
    kind = ir.TensorType(recurrence.dtype)  # type: ignore[arg-type]
    shapes = {"h0": lstm.state_shape, "c0": lstm.state_shape, "gates": (count, *lstm.gates_shape)}
    inputs = [ir.Value(name=emit.fresh(f"body_{name}"), type=kind, shape=ir.Shape(shape))
              for name, shape in shapes.items()]
    h, c, gates = inputs
    results = emit_steps(inner, lstm, h, c, gates, recurrence, count)
    return ir.Graph(inputs, results, nodes=inner.nodes, name=emit.fresh("body"))
