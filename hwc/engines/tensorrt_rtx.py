"""TensorRT for RTX: engines for GeForce RTX and workstation GPUs, built ahead of time on a machine without a GPU.

Its API is TensorRT's, so `tensorrt` does the work; this file is the name under which `engines.base` finds it. What it
lacks (Jetson, Hopper, DLA, INT8 convolution) is refused there, with the source that says so.

This file is part of the device half: Python 3.8.
"""

from __future__ import annotations

from hwc.artifacts import Engine
from hwc.engines import tensorrt
from hwc.engines.base import BuildRequest

NAME = "tensorrt_rtx"
open_session = tensorrt.open_session


def build(request: BuildRequest) -> Engine:
    """As `tensorrt.build`, with the module `tensorrt_rtx`."""
    return tensorrt.build_with(NAME, request)
