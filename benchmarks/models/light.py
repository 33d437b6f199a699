"""Nine classic networks that ship inside the onnx wheel as test data, for structure and speed, not for accuracy.

Each weight is made in the graph by a ConstantOfShape node from its shape, so a file of a few kB becomes a network of
up to 550 MB once folded, all of one value: outputs are uniform and no calibration means anything. IR version 3: each
initializer is a graph input too. Batch norm in the densenet and the second inception is followed by Mul and Add.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from benchmarks.samples import crop_photo, planes, read_photos

# Name -> name of the input, always 1x3x224x224 float32.
LIGHT_INPUTS = {
    "bvlc_alexnet": "data_0",
    "densenet121": "data_0",
    "inception_v1": "data_0",
    "inception_v2": "data_0",
    "resnet50": "gpu_0/data_0",
    "shufflenet": "gpu_0/data_0",
    "squeezenet": "data_0",
    "vgg19": "data_0",
    "zfnet512": "gpu_0/data_0",
}


def find_light(name: str) -> Path:
    """The file of one light network; looks onnx up without importing it."""
    spec = importlib.util.find_spec("onnx")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"


def example_inputs() -> tuple[np.ndarray, ...]:
    """The first foolbox photo, 1x3x224x224 float32, mean near 0."""
    return (planes(crop_photo(read_photos()[0][0], 256, 224), 127.0, 128.0),)
