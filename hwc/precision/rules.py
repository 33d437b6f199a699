"""How a target's engine wants INT8: its `QuantRules`, from the target's facts.

* OpenVINO and ONNX Runtime on a CPU take uint8 for tensors that are never negative: one bit more. On x86 without VNNI
  or AMX their kernels multiply with vpmaddubsw, which adds two u8*s8 products into 16 saturating bits; 255 * 128 =
  32640 is the largest sum that fits, so |w[2k]| + |w[2k+1]| <= 128 keeps every sum exact. Where the instruction set is
  not known the limit is kept: it is right on every CPU.
  Source: oneDNN, "Nuances of int8 computations", https://uxlfoundation.github.io/oneDNN/dev_guide_int8_computations.html
* On EfficientNet-Lite0, processor time of OpenVINO 2026.4 (AVX2, one thread) was 1.0 with both operands of an addition
  quantized, 1.010 with the skip alone or none, 1.03 with the first layer and 1.08 with depthwise layers left in float,
  1.10 without uint8; NNCF's own graph took 1.10. Measured in turns, the median of paired ratios.
* On both, signed tensors are written as uint8 around 128 (`shift_signed`). ONNX Runtime 1.32 joins a layer only if its
  types agree: 1.0 against 1.34. OpenVINO 2026.4 gives wrong results for int8 ones where its rewriting meets a Concat:
  12 of 120 random networks were off by 10 to 50 % of the largest value (tests/precision/test_simulate.py keeps one),
  none with uint8. The price: a transposed convolution of signed data and a depthwise one in 3-D fall back to float.
* TensorRT is symmetric int8 only. Its parsers take stored int8 weights from version 10; older ones get float weights
  behind Q and DQ. Source: TensorRT developer guide, "Working with quantized types".
* TensorRT for RTX has no INT8 convolution, so there is nothing to gain: refused.
"""

from __future__ import annotations

from hwc.artifacts import Target
from hwc.errors import TargetError
from hwc.precision.plan import QuantRules

_PAIR_LIMIT = 128
_CPU_ENGINES = ("openvino", "onnxruntime", "reference")
_ARM = ("aarch64", "arm64")
_STORED_INT8_FROM = 10


def rules_for(target: Target, backend: str) -> QuantRules:
    """The rules of `backend` ("openvino", "onnxruntime", "reference", "tensorrt") on `target`.

    Raises:
        TargetError: this engine or this hardware has no INT8 convolution.
    """
    if backend in _CPU_ENGINES:
        limit = _PAIR_LIMIT if backend != "reference" and _saturates(target) else None
        return QuantRules(
            unsigned=True, pair_limit=limit, pair_flat=backend == "onnxruntime", shift_signed=True, quantize_sum=True,
            split_pool=True,
        )  # fmt: skip
    if backend == "tensorrt":
        if target.knows("precision.int8_tensor") and target.fact("precision.int8_tensor").value is False:
            raise TargetError(
                f"{target.name} computes nothing in INT8",
                expected="precision.int8_tensor = yes",
                got="precision.int8_tensor = no",
                source=target.fact("precision.int8_tensor").source,
                do="use --precision fp16 or auto",
            )
        return QuantRules(unsigned=False, stored_int8=_major(target) >= _STORED_INT8_FROM)
    if backend == "tensorrt_rtx":
        raise TargetError(
            f"TensorRT for RTX has no INT8 convolution, so {target.name} gains nothing from INT8",
            expected="an engine with INT8 convolutions: tensorrt, openvino, onnxruntime",
            got=backend,
            source="https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/advanced.html",
            do="use --precision fp16 or auto, or --engine tensorrt",
        )
    known = ", ".join((*_CPU_ENGINES, "tensorrt"))
    raise TargetError(f"no INT8 rules are known for engine '{backend}'", expected=known, got=backend)


def _saturates(target: Target) -> bool:
    """Whether INT8 sums may saturate: an x86 CPU without VNNI and AMX, or one that nobody has looked at."""
    if target.knows("cpu.architecture") and str(target.fact("cpu.architecture").value).lower() in _ARM:
        return False
    if not target.knows("cpu.isa"):
        return True
    found = target.fact("cpu.isa").value
    names = set(found) if isinstance(found, tuple) else set(str(found).replace(",", " ").split())
    return not names & {"vnni", "amx", "neon", "dotprod"}


def _major(target: Target) -> int:
    """TensorRT's major version on the target; 0 where it is not known, which asks least of the parser."""
    text = str(target.fact("software.tensorrt").value or "") if target.knows("software.tensorrt") else ""
    head = text.split(".")[0]
    return int(head) if head.isdigit() else 0
