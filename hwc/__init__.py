"""hwc: a hardware-aware deployment compiler for TensorRT, NVIDIA Jetson and the CPU."""

__version__ = "0.1.0"
