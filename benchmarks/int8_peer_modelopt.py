"""Quantizes one ONNX file with ModelOpt's ONNX PTQ; runs in an environment of its own.

    python -m benchmarks.int8_peer_modelopt MODEL.onnx SAMPLES.npz OUT.onnx VARIANT

Variants: `max`, `entropy`. Everything on the CPU, and FP32 around the INT8 layers instead of its default, FP16: the
engine that judges computes in FP32. ModelOpt asks for onnxruntime-gpu and CUDA; its post-training quantization runs
with onnxruntime and torch for the CPU (benchmarks/requirements-modelopt.txt).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.int8_feeds import Samples, read_samples


def quantize(model: Path, samples: Samples, out: Path, variant: str) -> None:
    from modelopt.onnx.quantization import quantize as modelopt_quantize

    # It cuts these again into samples of the model's own batch.
    stacks = {name: np.concatenate(list(stack)) for name, stack in samples.feeds.items()}

    modelopt_quantize(
        str(model),
        quantize_mode="int8",
        calibration_data=stacks,
        calibration_method=variant,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(out),
        log_level="WARNING",
    )


if __name__ == "__main__":
    model, samples, out, variant = sys.argv[1:]
    quantize(Path(model), read_samples(Path(samples)), Path(out), variant)
