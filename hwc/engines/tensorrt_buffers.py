"""The buffers of a TensorRT session: for each tensor one in pinned host memory and one on the device.

They grow to the largest size seen, so that after the first inference of a shape nothing is allocated. A tensor that
TensorRT wants in host memory (a shape tensor) has no device buffer. An output allocator grows the same buffers, for
outputs whose size only the data decide.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Tuple

import numpy as np

from hwc.artifacts import TensorSpec
from hwc.engines.cuda_memory import Cuda, Pinned
from hwc.errors import EngineError


@dataclass
class Buffer:
    """Memory of one tensor. `size` is what is in use, `capacity` what is there, both in bytes."""

    pinned: Pinned
    device: int
    capacity: int
    size: int
    is_on_device: bool

    @property
    def address(self) -> int:
        """What TensorRT is told."""
        return self.device if self.is_on_device else self.pinned.address


class Buffers:
    """All buffers of a session; freed with its `Cuda`.

    Raises:
        EngineError: the engine's tensors are not those of its record, in name, direction or type.
    """

    def __init__(
        self, trt: Any, engine: Any, cuda: Cuda, inputs: Tuple[TensorSpec, ...], outputs: Tuple[TensorSpec, ...]
    ) -> None:
        self._cuda = cuda
        self._held: Dict[str, Buffer] = {}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        for specs, mode in ((inputs, trt.TensorIOMode.INPUT), (outputs, trt.TensorIOMode.OUTPUT)):
            found = {name for name in names if modes[name] == mode}
            if found != {spec.name for spec in specs}:
                raise EngineError(
                    "the engine's tensors are not those of its record", where=mode.name.lower(),
                    expected=", ".join(sorted(spec.name for spec in specs)), got=", ".join(sorted(found)),
                    do="build the engine again",
                )  # fmt: skip
            for spec in specs:
                size = int(np.dtype(trt.nptype(engine.get_tensor_dtype(spec.name))).itemsize)
                if size != np.dtype(spec.dtype).itemsize:
                    raise EngineError(
                        "a tensor of the engine has another type", where=spec.name, expected=spec.dtype,
                        got=str(engine.get_tensor_dtype(spec.name)), do="build the engine again",
                    )  # fmt: skip
        host = trt.TensorLocation.HOST
        self._on_host = {name for name in names if engine.get_tensor_location(name) == host}

    def hold(self, name: str, size: int) -> Buffer:
        """The buffer of that tensor with room for `size` bytes; its content is lost if it had to grow."""
        buffer = self._held.get(name)
        if buffer is not None and buffer.capacity >= size:
            buffer.size = size
            return buffer
        is_on_device = name not in self._on_host
        if buffer is not None:
            del self._held[name]
            self._cuda.unpin(buffer.pinned)
            if is_on_device:
                self._cuda.free(buffer.device)
        room = max(size, 1)
        device = self._cuda.allocate(room) if is_on_device else 0
        self._held[name] = Buffer(self._cuda.pin(room), device, room, size, is_on_device)
        return self._held[name]

    def held(self, name: str) -> Buffer:
        """The buffer that `hold` gave last."""
        return self._held[name]


def make_allocator(trt: Any, buffers: Buffers) -> Any:
    """An IOutputAllocator over those buffers; `shapes` holds what TensorRT reported."""

    class Allocator(trt.IOutputAllocator):
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.shapes: Dict[str, Tuple[int, ...]] = {}

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            try:
                return buffers.hold(name, size).address  # cuMemAlloc aligns to 256, more than TensorRT asks
            except EngineError:
                return 0  # called from C++: TensorRT reports the failure

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shapes[name] = tuple(int(dim) for dim in shape)

    return Allocator()
