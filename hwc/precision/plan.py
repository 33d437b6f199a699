"""The one value that all of INT8 reads and rewrites: an FP32 graph with the integers and scales chosen for it.

Every improvement (equalisation, bias correction, learned rounding, a layer put back) takes a `QuantPlan` and returns
another; `place_qdq` turns the last one into a graph with Q/DQ. Nothing is edited in place, so the guard can roll back
to any earlier plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hwc.artifacts import FusionGroup, TensorScale


@dataclass(frozen=True)
class QuantRules:
    """How one engine on one target wants INT8; made by `rules_for` from the target's facts.

    Args:
        unsigned: whether a tensor that is never negative may be uint8 (OpenVINO and ONNX Runtime; never TensorRT).
        weight_max: largest magnitude of a weight's integer, 127.
        pair_limit: largest |w[2k]| + |w[2k+1]| over adjacent input channels, for CPUs that add two u8*s8 products in 16
            saturating bits (AVX2 and AVX-512 without VNNI): 128. None where sums are exact.
        split_pool: the pair of a group that ends in MaxPool stands before the pool: the same integers, for max commutes
            with rounding, and right where the engine has no kernel of Conv and MaxPool but a pool on integers.
        shift_signed: a signed activation is written as uint8 with zero point 128: the same grid and integers plus 128,
            for CPU engines, whose integer kernels want one type for data and result.
        pair_flat: pairs run on over kernel positions (position first, channel second), as where a convolution is a
            product with unrolled patches (ONNX Runtime); else each position starts anew (oneDNN).
        stored_int8: weights are int8 initializers behind one DequantizeLinear; else float with Q and DQ, as the parsers
            of TensorRT 8 want them.
        quantize_add: a residual addition in a convolution's group reads its skip input as integers.
        quantize_sum: and the convolution's own result too, although that puts a pair inside the group: OpenVINO and
            ONNX Runtime fuse or run an addition on integers only if all of its operands are integers.
        quantize_average: average pools read integers.
        quantize_matmul: MatMul of two activations (attention) is quantized too.
    """

    unsigned: bool
    weight_max: int = 127
    pair_limit: int | None = None
    stored_int8: bool = True
    quantize_add: bool = True
    quantize_average: bool = True
    quantize_matmul: bool = False
    quantize_sum: bool = False
    split_pool: bool = False
    shift_signed: bool = False
    pair_flat: bool = False


@dataclass(frozen=True)
class QuantPoint:
    """One tensor that gets a Q/DQ pair, and the inputs that read it behind that pair.

    Args:
        tensor: name of the value in the FP32 graph.
        readers: (node name, input index) of each use that reads the quantized value; other uses keep the float.
        share: points with equal `share` must have the same scale (all inputs of one Concat).
        is_unsigned: proved never negative by the graph (behind Relu, Clip from 0, Sigmoid, Softmax).
        groups: ids of the fusion groups that read it; the pair goes when all of them are put back.
    """

    tensor: str
    readers: tuple[tuple[str, int], ...]
    share: str
    is_unsigned: bool
    groups: tuple[str, ...]


@dataclass(frozen=True)
class QuantWeight:
    """Integers of one constant weight: w ~ integers * scale along `axis` (None: one scale).

    `integers` is int8 of the weight's shape; `scale` is float32, one entry or one per channel.
    """

    integers: np.ndarray
    scale: np.ndarray
    axis: int | None

    def dequantize(self) -> np.ndarray:
        """The float32 values that the engine computes with."""
        if self.axis is None:
            return (self.integers.astype(np.float32) * self.scale.reshape(())).astype(np.float32)
        shape = [1] * self.integers.ndim
        shape[self.axis] = -1
        return (self.integers.astype(np.float32) * self.scale.reshape(shape)).astype(np.float32)


@dataclass(frozen=True)
class QuantPlan:
    """All that decides an INT8 graph.

    Args:
        model: the FP32 graph; improvements that change weights or biases put a changed clone here.
        points: where activations are quantized, `find_points` of that graph.
        scales: one per point, by tensor name.
        weights: by (initializer name); a weight read by a group in `high` is not listed or is ignored.
        high: ids of fusion groups that stay in the higher precision.
        original: the FP32 graph before biases were fitted to integers, with the same names. A group that is put back
            takes its constants from there: what makes up for rounding is wrong where nothing is rounded.
    """

    model: ir.Model
    groups: tuple[FusionGroup, ...]
    rules: QuantRules
    points: tuple[QuantPoint, ...]
    scales: Mapping[str, TensorScale]
    weights: Mapping[str, QuantWeight]
    high: frozenset[str] = frozenset()
    original: ir.Model | None = None

    def replace(self, **changes: object) -> QuantPlan:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]
