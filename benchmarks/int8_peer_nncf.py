"""Quantizes one ONNX file with NNCF; runs in an environment of its own.

    python -m benchmarks.int8_peer_nncf MODEL.onnx SAMPLES.npz OUT.(onnx|xml) VARIANT

A variant is one or more of these words, joined by "-":

| word         | what it is                                                                                        |
|--------------|---------------------------------------------------------------------------------------------------|
| default      | `nncf.quantize` of the OpenVINO model, defaults                                                   |
| onnx         | the same of the ONNX model                                                                        |
| mixed        | preset `mixed`: asymmetric activations                                                            |
| transformer  | `model_type=TRANSFORMER`, as its documentation asks for BERT and its like                         |
| overflow     | `overflow_fix=ENABLE`: weights of half range, for x86 without VNNI                                |
| bias         | `fast_bias_correction=False`: its slower, more exact bias correction                              |
| control      | `nncf.quantize_with_accuracy_control`, `max_drop=0.005` absolute on the samples' own truths        |

The accuracy control is given the calibration samples with their truths to validate on, never the judged ones. The
OpenVINO model comes from `convert_model` and not from `read_model`: in the latter NNCF 3.4 does not find the biases of
convolutions, and leaves its bias correction out without a word (measured on EfficientNet-Lite0, 1.2 dB of SQNR).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.int8_feeds import Samples, read_samples
from benchmarks.int8_tasks import TASKS

MAX_DROP = 0.005


def quantize(model: Path, samples: Samples, out: Path, variant: str) -> None:
    import nncf
    import onnx
    import openvino as ov

    words = variant.split("-")
    options: dict[str, Any] = {}
    if "mixed" in words:
        options["preset"] = nncf.QuantizationPreset.MIXED
    if "transformer" in words:
        options["model_type"] = nncf.ModelType.TRANSFORMER
    if "bias" in words:
        options["fast_bias_correction"] = False
    is_controlled = "control" in words
    if "overflow" in words:
        name = "advanced_quantization_parameters" if is_controlled else "advanced_parameters"
        options[name] = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    data = nncf.Dataset(range(len(samples)), lambda index: samples[index])
    loaded = onnx.load(str(model)) if "onnx" in words else ov.convert_model(str(model))
    if is_controlled:
        made = nncf.quantize_with_accuracy_control(
            loaded, data, data, validate(samples), max_drop=MAX_DROP, subset_size=len(samples), **options
        )
    else:
        made = nncf.quantize(loaded, data, subset_size=len(samples), **options)
    if "onnx" in words:
        onnx.save(made, str(out))
    else:
        ov.save_model(made, str(out), compress_to_fp16=False)


def validate(samples: Samples) -> Any:
    """The function that the accuracy control asks for: the mean score, and the score of each sample."""
    task = TASKS[samples.task]

    def run(compiled: Any, items: Iterable[int]) -> tuple[float, list[float]]:
        scores = []
        for index in items:
            made = compiled(samples[index])
            outputs = [made[port] for port in compiled.outputs]
            scores.append(task.score(task.decide(outputs, samples[index], samples.constant), samples.truths[index]))
        return sum(scores) / len(scores), scores

    return run


if __name__ == "__main__":
    model, samples, out, variant = sys.argv[1:]
    quantize(Path(model), read_samples(Path(samples)), Path(out), variant)
