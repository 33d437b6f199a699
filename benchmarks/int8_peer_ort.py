"""Quantizes one ONNX file with ONNX Runtime's `quantize_static`; runs in an environment of its own.

    python -m benchmarks.int8_peer_ort MODEL.onnx SAMPLES.npz OUT.onnx VARIANT

QDQ, per channel, symmetric: what its documentation advises for engines that want Q/DQ, and what OpenVINO runs fastest.
Variants: `minmax`, `entropy`, `percentile`, each also with `-7bit`: weights of reduced range, which its documentation
asks for on x86 without VNNI; `minmax-u8-7bit` has the asymmetric uint8 activations that it advises for ONNX Runtime's
own CPU kernels. Histograms are collected in strides, because all tensors of all samples would not fit into memory.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.int8_feeds import Samples, read_samples

STRIDE = 10


def make_reader(samples: Samples, count: int) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.place, self.end = 0, count

        def __len__(self) -> int:
            return count

        def set_range(self, start_index: int, end_index: int) -> None:
            self.place, self.end = start_index, end_index

        def get_next(self) -> Any:
            if self.place >= self.end:
                return None
            self.place += 1
            return samples[self.place - 1]

    return Reader()


def quantize(model: Path, samples: Samples, out: Path, variant: str) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    method, *rest = variant.split("-")
    unsigned = "u8" in rest
    # The largest number of samples up to the stride that divides all of them, as quantize_static asks.
    stride = max(k for k in range(1, STRIDE + 1) if len(samples) % k == 0)
    with tempfile.TemporaryDirectory() as work:
        prepared = Path(work) / "prepared.onnx"
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(out),
            make_reader(samples, len(samples)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range="7bit" in rest,
            activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method={
                "minmax": CalibrationMethod.MinMax,
                "entropy": CalibrationMethod.Entropy,
                "percentile": CalibrationMethod.Percentile,
            }[method],
            extra_options={
                "ActivationSymmetric": not unsigned,
                "WeightSymmetric": True,
                "CalibStridedMinMax": stride,
            },
        )
    onnx.checker.check_model(str(out))


if __name__ == "__main__":
    model, samples, out, variant = sys.argv[1:]
    quantize(Path(model), read_samples(Path(samples)), Path(out), variant)
