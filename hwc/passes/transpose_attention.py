"""Computes self-attention transposed, [features, rows] instead of [rows, features], so that heads are whole blocks.

    T = [Wq | Wk | Wv]^T x^T + [bq | bk | bv]^T       [B, 3 h d, S], one product; scales of Q, K, V are in W and b
    Q^T, K^T, V^T = T[0:h], T[h:2h], T[2h:3h]         of T seen as [B, 3 h, d, S]
    P = softmax(f((Q^T)^T K^T))                       f, the mask and a scale, is left as it is
    O^T = V^T P^T,   join(O) = (O^T)^T                of O^T seen as [B, h d, S], read by the output projection

The three slices are blocks, and putting the heads side by side is a view; the Transposes that remain are operands of
products, which an engine reads either way. Each sum has the same terms. The products are of [B h, rows, columns], with
three axes: with four, the builder keeps two of the copies (minilm: 67 kernels).

Reason, counted with TensorRT for RTX 1.7.1 for SM86 in FP32: minilm (6 layers, 64 rows) has 61 kernels instead of 79
and 8.88 MB of activations instead of 9.18. Two layers of 2 to 12 heads, 16 to 512 rows, have 14 instead of 20, with an
odd number of rows 27 instead of 28; with a batch of 2 to 8, 17 instead of 21, but with an odd number of rows 31 instead
of 29. Memory fell by up to 9 % or stayed, but for 3 to 4 % more at 384 rows and at a batch of 2 with 256. In FP16
there is one kernel less in all (minilm: 62 to 61) and up to 4 % more memory. Kernels were counted, not timed.

The guard that exporters put behind the softmax, Where(IsNaN(P), 0, P), stays: it costs no kernel.

Limit: Q, K and V of one value of static shape, FP32; a batch above one only with an even number of rows.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from hwc.artifacts import NearMiss, Target
from hwc.graph.match import require, sweep
from hwc.graph.model import Namer, opset, replace_nodes
from hwc.passes.attention_heads import Attention, read_attention
from hwc.passes.base import PassContext, PassReport
from hwc.passes.emitter import Emitter

_SLICE_TAKES_INPUTS = 10


def transpose_attention(model: ir.Model, context: PassContext) -> PassReport:
    """See the module docstring."""
    misses: list[NearMiss] = []
    rule = partial(_transpose, namer=Namer(model), version=opset(model), context=context)
    return PassReport(sweep(model, ("Softmax",), rule, misses=misses), tuple(misses))


def copies_heads(target: Target) -> bool:
    """Whether the target's builder takes a copy for each of Q, K, V and the result to cut heads out of rows.

    Counted for TensorRT for RTX, see the module docstring. TensorRT and OpenVINO were not counted; both have fusions
    for attention in its exported form, which the rewrite could hide from them.
    """
    return target.engine == "tensorrt_rtx"


def _transpose(node: ir.Node, *, namer: Namer, version: int, context: PassContext) -> None:
    attention = read_attention(node, version)
    require(copies_heads(context.target), f"{context.target.engine} is not known to copy heads")
    require(context.precision == "fp32", f"in {context.precision} the builder saves one kernel at most")
    require(attention.x.dtype == ir.DataType.FLOAT, f"{attention.x.name} is not FP32")
    is_even = attention.rows % 2 == 0
    require(attention.batch == 1 or is_even, f"an odd number of rows ({attention.rows}) in a batch has more kernels")
    require(version >= _SLICE_TAKES_INPUTS, f"the places of a Slice are inputs from opset 10 on, this is {version}")
    first = Emitter(attention.scores, namer)
    second = first.nested()
    scores, value = _emit_scores(first, attention)
    result = _emit_result(second, attention, value)
    # The last part first: it frees the heads of V, which stand before the scores.
    replace_nodes([attention.product, *attention.joining], second.nodes, {attention.result: result})
    made = attention.scores.outputs[0]
    replace_nodes([*attention.making, attention.scores], first.nodes, {made: scores})


def _emit_scores(emit: Emitter, a: Attention) -> tuple[ir.Value, ir.Value]:
    """Q K^T as it was, and V^T, [batch * heads, width, rows]."""
    inputs = a.projections[0].weight.shape[2]
    total, count = 3 * a.heads * a.width, a.batch * a.heads
    weight = np.concatenate([one.weight.reshape(-1, inputs) for one in a.projections])
    turned = emit.one("Transpose", "input", [a.x], (a.batch, inputs, a.rows), perm=[0, 2, 1])
    made = emit.one("MatMul", "heads", [emit.constant(weight, "weight"), turned], (a.batch, total, a.rows))
    if any(one.bias is not None for one in a.projections):
        zero = np.zeros((a.heads, a.width), weight.dtype)
        bias = np.concatenate([(zero if one.bias is None else one.bias).reshape(-1, 1) for one in a.projections])
        made = emit.one("Add", "bias_add", [made, emit.constant(bias, "bias")], (a.batch, total, a.rows))
    query, key, value = _cut(emit, made, a)
    query = emit.one("Transpose", "query", [query], (count, a.rows, a.width), perm=[0, 2, 1])
    scores = emit.one("MatMul", "scores", [query, key], (count, a.rows, a.rows))
    return emit.reshape(scores, (a.batch, a.heads, a.rows, a.rows)), value


def _cut(emit: Emitter, made: ir.Value, a: Attention) -> list[ir.Value]:
    """Q^T, K^T and V^T, each [batch * heads, width, rows]."""
    shape = (a.batch * a.heads, a.width, a.rows)
    bounds = [(index * a.heads, (index + 1) * a.heads) for index in range(3)]
    if a.batch == 1:
        made = emit.reshape(made, (3 * a.heads, a.width, a.rows))
        return [emit.slice(made, 0, start, end, shape) for start, end in bounds]
    made = emit.reshape(made, (a.batch, 3 * a.heads, a.width, a.rows))
    parts = (emit.slice(made, 1, *bound, (a.batch, a.heads, a.width, a.rows)) for bound in bounds)
    return [emit.reshape(part, shape) for part in parts]


def _emit_result(emit: Emitter, a: Attention, value: ir.Value) -> ir.Value:
    """The heads side by side, [batch, rows, heads * width], as a view of the transposed product."""
    count = a.batch * a.heads
    probabilities = a.product.inputs[0]
    assert probabilities is not None
    flat = emit.reshape(probabilities, (count, a.rows, a.rows))
    turned = emit.one("Transpose", "probabilities", [flat], (count, a.rows, a.rows), perm=[0, 2, 1])
    product = emit.one("MatMul", "product", [value, turned], (count, a.width, a.rows))
    joined = emit.reshape(product, (a.batch, a.heads * a.width, a.rows))
    return emit.one("Transpose", "rows", [joined], (a.batch, a.rows, a.heads * a.width), perm=[0, 2, 1])
