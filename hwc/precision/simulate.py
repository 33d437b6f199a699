"""Runs a Q/DQ graph as integer hardware would, to the bit, with no such hardware.

Each Conv, ConvTranspose, Gemm and MatMul whose data and weight come from DequantizeLinear is computed as

    acc = sum of x_q * w_q        exact, 32-bit integer
    y   = float32(acc) * float32(s_x * s_w) + bias,   then activation in float32
    q   = saturate(round_half_even(y / s_y))           (QuantizeLinear)

and every other node as it is written, in float32. This is what TensorRT documents for explicit quantization: INT8
products, INT32 sums, float epilogue with bias and activation before requantization
(https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html), and what VNNI does.

How the sum is exact on a float machine: a float32 holds every integer below 2**24, so a convolution of integer-valued
float32 tensors is exact in any order of summation where (sum of |w_q| of the channel) * max |x_q| < 2**24. A larger one
is split over its input channels into parts that each keep the bound, and the parts are added as int32. Products of
matrices are done in float64 instead.

Limits: the real epilogue of an engine may round once differently (a fused multiply-add, a reciprocal), so an integer
may differ by one where a value lies on the border between two; average pools and additions are float32 here. Such a
difference is not small for long: each step from one integer to the next is a whole quantization step to the layer
behind it. On EfficientNet-Lite0 one in 25 000 integers differs after the first layer when the sums are made in float32,
half of them after 50 layers, with the same accuracy. So layers are compared one by one, networks by their answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from hwc.errors import TargetError
from hwc.graph.evaluate import Evaluator
from hwc.graph.match import attribute, is_op
from hwc.graph.model import Namer, add_initializer, constant_array, make_node, remove_dead
from hwc.precision.integer_flow import carried_inputs, carries, weight_axis
from hwc.precision.split_sums import channel_sums, split_sums

_EXACT = 2**24
_OVERFLOW = 2**31


class Simulator:
    """A Q/DQ graph ready to run on exact integers.

    `integer_nodes` names the nodes that are computed so; `parts` says into how many sums a large one is split.
    """

    def __init__(self, model: ir.Model) -> None:
        """Rewrites a clone of `model`; symmetric Q/DQ only (zero point 0, or uint8 around 128, which is int8).

        Raises:
            TargetError: a sum could leave 32 bits, or a zero point is not 0.
        """
        self.model = model.clone()
        self.parts: dict[str, int] = {}
        self._quantized = {
            str(node.inputs[0].name): str(node.outputs[0].name)
            for node in self.model.graph
            if is_op(node, "QuantizeLinear") and node.inputs[0] is not None and constant_array(node.inputs[0]) is None
        }
        self._shifted = {
            str(node.inputs[0].name)
            for node in self.model.graph
            if is_op(node, "QuantizeLinear") and node.inputs[0] is not None and _is_shifted(node)
        }
        rewriter = _Rewriter(self.model, self.parts)
        for node in list(self.model.graph):
            if is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
                rewriter.rewrite(node)
        remove_dead(self.model)
        self._evaluator: Evaluator | None = None
        self._watcher: Evaluator | None = None

    @property
    def integer_nodes(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Output name -> array."""
        if self._evaluator is None:
            self._evaluator = Evaluator(self.model)
        return self._evaluator.run(feeds)

    def integers(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Name of each quantized activation (the tensor in front of its pair) -> its int8 or uint8 values.

        What is written as uint8 around 128 comes back as int8.
        """
        if self._watcher is None:
            watched = self.model.clone()
            made = {str(v.name): v for node in watched.graph for v in node.outputs}
            known = {v.name for v in watched.graph.outputs}
            watched.graph.outputs.extend(made[n] for n in self._quantized.values() if n in made and n not in known)
            self._watcher = Evaluator(watched)
        found = self._watcher.run(feeds)
        values = {tensor: found[name] for tensor, name in self._quantized.items() if name in found}
        for tensor in values.keys() & self._shifted:
            values[tensor] = (values[tensor].astype(np.int16) - 128).astype(np.int8)
        return values


class _Rewriter:
    def __init__(self, model: ir.Model, parts: dict[str, int]) -> None:
        self.graph = model.graph
        self.namer = Namer(model)
        self.parts = parts

    def rewrite(self, node: ir.Node) -> None:
        """Replaces one node by exact integer arithmetic if both of its operands are integers behind a scale."""
        data, weight = _scale_of(node.inputs[0]), _integers_of(node)
        if data is None:
            return
        scale, dtype = data
        if weight is None:
            other = _scale_of(node.inputs[1]) if node.op_type == "MatMul" else None
            if other is None:
                return
            self._rewrite_product(node, scale, dtype, other)
            return
        integers, factor = weight
        largest = 255 if dtype == np.uint8 else 128
        longest = int(channel_sums(np.abs(integers.astype(np.int64)), node).sum(axis=0).max(initial=0))
        if longest * largest >= _OVERFLOW:
            raise TargetError(
                "a sum of INT8 products leaves 32 bits", where=str(node.name), expected=f"below {_OVERFLOW}",
                got=f"up to {longest * largest}", do="keep this layer in the higher precision",
            )  # fmt: skip
        nodes: list[ir.Node] = []
        source = self._as_integers(node.inputs[0], scale, dtype, nodes)
        if node.op_type in ("Conv", "ConvTranspose"):
            total = self._convolve(node, source, integers, largest, nodes)
        else:
            total = self._multiply(node, source, integers, nodes)
        self._finish(node, total, (scale * factor).astype(np.float32), nodes)

    def _convolve(
        self, node: ir.Node, source: ir.Value, integers: np.ndarray, largest: int, nodes: list[ir.Node]
    ) -> ir.Value:
        """float32 tensor of exact sums, from as many partial convolutions as exactness asks for."""
        attributes = dict(node.attributes)
        chunks = split_sums(integers, node, _EXACT // largest)
        self.parts[str(node.name)] = len(chunks)
        total: ir.Value | None = None
        for chunk in chunks:
            weight = self._constant(f"{node.name}_integers", chunk.astype(np.float32))
            part = self._add(node.op_type, [source, weight], nodes, node, attributes)
            if len(chunks) == 1:
                return part
            part = self._add("Cast", [part], nodes, node, {"to": int(ir.DataType.INT32)})
            total = part if total is None else self._add("Add", [total, part], nodes, node)
        assert total is not None
        return self._add("Cast", [total], nodes, node, {"to": int(ir.DataType.FLOAT)})

    def _multiply(self, node: ir.Node, source: ir.Value, integers: np.ndarray, nodes: list[ir.Node]) -> ir.Value:
        self.parts[str(node.name)] = 1
        left = self._add("Cast", [source], nodes, node, {"to": int(ir.DataType.DOUBLE)})
        if node.op_type == "Gemm":
            integers = integers.T if attribute(node, "transB", 0) else integers
            if attribute(node, "transA", 0):
                left = self._add("Transpose", [left], nodes, node, {"perm": [1, 0]})
        right = self._constant(f"{node.name}_integers", integers.astype(np.float64))
        product = self._add("MatMul", [left, right], nodes, node)
        return self._add("Cast", [product], nodes, node, {"to": int(ir.DataType.FLOAT)})

    def _rewrite_product(
        self, node: ir.Node, scale: np.float32, dtype: np.dtype, other: tuple[np.float32, np.dtype]
    ) -> None:
        """A product of two activations."""
        nodes: list[ir.Node] = []
        self.parts[str(node.name)] = 1
        sides = [
            self._add("Cast", [self._as_integers(v, s, d, nodes)], nodes, node, {"to": int(ir.DataType.DOUBLE)})
            for v, (s, d) in zip(node.inputs, ((scale, dtype), other))
        ]
        product = self._add("MatMul", sides, nodes, node)
        total = self._add("Cast", [product], nodes, node, {"to": int(ir.DataType.FLOAT)})
        self._finish(node, total, np.asarray(scale * other[0], np.float32), nodes)

    def _finish(self, node: ir.Node, total: ir.Value, factor: np.ndarray, nodes: list[ir.Node]) -> None:
        """Scale, bias, and the old output's name."""
        if node.op_type == "Gemm":
            factor = (factor * np.float32(attribute(node, "alpha", 1.0))).astype(np.float32)
        rank = len(node.outputs[0].shape) if node.outputs[0].shape is not None else 0
        along = 1 if node.op_type in ("Conv", "ConvTranspose") else max(rank - 1, 0)
        shape = [-1 if i == along else 1 for i in range(rank)] if factor.size > 1 else []
        result = self._add("Mul", [total, self._constant(f"{node.name}_factor", factor.reshape(shape))], nodes, node)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None:
            if node.op_type == "Gemm":
                beta = np.float32(attribute(node, "beta", 1.0))
                bias = self._add("Mul", [bias, self._constant(f"{node.name}_beta", beta)], nodes, node)
            else:
                target = self._constant(f"{node.name}_shape", np.asarray([1, -1] + [1] * (rank - 2), np.int64))
                bias = self._add("Reshape", [bias, target], nodes, node)
            result = self._add("Add", [result, bias], nodes, node)
        self.graph.insert_before(node, nodes)
        old = node.outputs[0]
        name = old.name
        result.shape, result.type = old.shape, old.type
        old.replace_all_uses_with(result, replace_graph_outputs=True)
        old.name = None
        result.name = name
        self.graph.remove(node, safe=True)

    def _as_integers(
        self, value: ir.Value | None, scale: np.float32, dtype: np.dtype, nodes: list[ir.Node]
    ) -> ir.Value:
        """Integer-valued float32 of a tensor that is a dequantized one, possibly moved about by carriers.

        Quantizing q * s again with the same s gives q: the quotient is off by less than 2**-14.
        """
        assert value is not None
        step = self._constant(f"{value.name}_step", np.asarray(scale, np.float32))
        zero = self._constant(f"{value.name}_zero", np.zeros((), dtype))
        quantized = self._add("QuantizeLinear", [value, step, zero], nodes, None)
        return self._add("Cast", [quantized], nodes, None, {"to": int(ir.DataType.FLOAT)})

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        return add_initializer(self.graph, self.namer.fresh(name), array)

    def _add(
        self, op_type: str, inputs: list[ir.Value], nodes: list[ir.Node], source: ir.Node | None,
        attributes: Mapping[str, object] | None = None,
    ) -> ir.Value:  # fmt: skip
        base = f"{source.name if source is not None else inputs[0].name}_{op_type.lower()}"
        made = make_node(op_type, inputs, name=self.namer.fresh(base), outputs=[self.namer.fresh(f"{base}_out")],
                         attributes=attributes, sources=[source] if source is not None else ())  # fmt: skip
        nodes.append(made)
        return made.outputs[0]


def _scale_of(value: ir.Value | None) -> tuple[np.float32, np.dtype] | None:
    """Scale and integer type of a dequantized activation, looked up through carriers; None if it is float."""
    node = value.producer() if value is not None else None
    if node is None:
        return None
    if is_op(node, "DequantizeLinear"):
        if node.inputs[0] is not None and constant_array(node.inputs[0]) is not None:
            return None
        scale, zero = constant_array(node.inputs[1]), _zero_point(node)
        return None if scale is None or scale.size != 1 else (np.float32(scale.reshape(())), zero.dtype)
    if not carries(node):
        return None
    found = {_scale_of(node.inputs[i]) for i in carried_inputs(node)}
    return found.pop() if len(found) == 1 else None


def _integers_of(node: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """Integers of a constant weight and its float32 scales (one, or one per output channel)."""
    dequantize = node.inputs[1].producer() if node.inputs[1] is not None else None
    if dequantize is None or not is_op(dequantize, "DequantizeLinear"):
        return None
    scale = constant_array(dequantize.inputs[1])
    stored = constant_array(dequantize.inputs[0])
    if scale is None:
        return None
    _zero_point(dequantize)
    axis = attribute(dequantize, "axis", 1) if scale.ndim else None
    if stored is None:
        quantize = dequantize.inputs[0].producer() if dequantize.inputs[0] is not None else None
        if quantize is None or not is_op(quantize, "QuantizeLinear"):
            return None
        grid = constant_array(quantize.inputs[0])
        if grid is None:
            return None
        wide = scale.reshape([-1 if i == axis else 1 for i in range(grid.ndim)]) if axis is not None else scale
        stored = np.clip(np.rint(grid / wide), -128, 127).astype(np.int8)
    if axis is not None and axis % stored.ndim != weight_axis(node):
        return None
    return stored, scale.astype(np.float32)


def _is_shifted(node: ir.Node) -> bool:
    """Whether int8 is written as uint8 around 128."""
    zero = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    return zero is not None and zero.dtype == np.uint8 and zero.size == 1 and int(zero.reshape(())) == 128


def _zero_point(node: ir.Node) -> np.ndarray:
    """Zeros of the integers' type; uint8 around 128 is int8."""
    if _is_shifted(node):
        return np.zeros((), np.int8)
    zero = constant_array(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
    if zero is None or zero.any():
        raise TargetError("only symmetric Q/DQ is simulated", where=str(node.name), expected="zero point 0",
                          got="another one", do="quantize with zero point 0")  # fmt: skip
    return zero
