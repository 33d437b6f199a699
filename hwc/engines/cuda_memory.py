"""CUDA memory, streams and events, and nothing else of CUDA: the one file that touches a GPU's driver.

Two ways to the same calls. `pycuda` where it is installed (extra [gpu]); else the driver API itself by ctypes, from
libcuda.so.1, which every NVIDIA driver and every JetPack brings, so a board needs no package. Both use the device's
primary context, the one that TensorRT runs in. Addresses and streams are plain integers; `close` frees what is left.

`python -m hwc.engines.cuda_memory [--bytes N] [--way driver|pycuda]` checks the whole path on a GPU: allocate, copy up
and down through pinned memory on a stream, time with events, compare, free; one JSON line, exit code 0 or 4.

Limits: one device per process (number 0 of CUDA_VISIBLE_DEVICES), no unified memory. A context is current per thread:
`make_current` before the first call in another thread.
Source: https://docs.nvidia.com/cuda/cuda-driver-api/ (names ending in _v2 are those that cuda.h maps to).

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from hwc.errors import EngineError, HwcError, TargetError, UsageError

_LIBRARY = "libcuda.so.1"
_POINTER = ctypes.c_uint64  # CUdeviceptr
_HANDLE = ctypes.c_void_p
_OUT = ctypes.POINTER
# Function -> types of its arguments. Every function returns a CUresult, 0 for success.
_CALLS: Dict[str, Tuple[Any, ...]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDriverGetVersion": (_OUT(ctypes.c_int),),
    "cuDeviceGetCount": (_OUT(ctypes.c_int),),
    "cuDeviceGet": (_OUT(ctypes.c_int), ctypes.c_int),
    "cuDeviceGetName": (ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "cuDevicePrimaryCtxRetain": (_OUT(_HANDLE), ctypes.c_int),
    "cuDevicePrimaryCtxRelease_v2": (ctypes.c_int,),
    "cuCtxSetCurrent": (_HANDLE,),
    "cuMemGetInfo_v2": (_OUT(ctypes.c_size_t), _OUT(ctypes.c_size_t)),
    "cuMemAlloc_v2": (_OUT(_POINTER), ctypes.c_size_t),
    "cuMemFree_v2": (_POINTER,),
    "cuMemHostAlloc": (_OUT(_HANDLE), ctypes.c_size_t, ctypes.c_uint),
    "cuMemFreeHost": (_HANDLE,),
    "cuMemcpyHtoDAsync_v2": (_POINTER, _HANDLE, ctypes.c_size_t, _HANDLE),
    "cuMemcpyDtoHAsync_v2": (_HANDLE, _POINTER, ctypes.c_size_t, _HANDLE),
    "cuStreamCreate": (_OUT(_HANDLE), ctypes.c_uint),
    "cuStreamSynchronize": (_HANDLE,),
    "cuStreamDestroy_v2": (_HANDLE,),
    "cuEventCreate": (_OUT(_HANDLE), ctypes.c_uint),
    "cuEventRecord": (_HANDLE, _HANDLE),
    "cuEventElapsedTime": (_OUT(ctypes.c_float), _HANDLE, _HANDLE),
    "cuEventDestroy_v2": (_HANDLE,),
}
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the legacy default stream
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


class Pinned:
    """Page-locked host memory: `array` is its bytes (uint8), `address` what copies take."""

    def __init__(self, address: int, array: np.ndarray, owner: Any = None) -> None:
        self.address, self.array, self.owner = address, array, owner

    def view(self, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
        """The first bytes as an array of that dtype and shape; shares the memory."""
        count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self.array[:count].view(dtype).reshape(tuple(shape))


class Cuda:
    """The calls, by ctypes; `PycudaCuda` makes the same ones. What was not freed before is freed by `close`."""

    way = "driver"
    device_name = ""
    driver_version = 0  # 12040 for CUDA 12.4

    def __init__(self, library: Any = None) -> None:
        self._library = load_driver() if library is None else library
        self._is_open = False
        if self._library is None:
            raise TargetError("there is no CUDA driver here", expected=_LIBRARY, do="run this on an NVIDIA GPU")
        for name, types in _CALLS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = types, ctypes.c_int
        self._free: List[Tuple[str, Any]] = []  # (function, handle) of everything alive, in the order made
        self._call("cuInit", 0)
        self.driver_version = self._get("cuDriverGetVersion", ctypes.c_int)
        if self._get("cuDeviceGetCount", ctypes.c_int) < 1:
            raise TargetError("the CUDA driver finds no GPU", do="check nvidia-smi and CUDA_VISIBLE_DEVICES")
        self._device = self._get("cuDeviceGet", ctypes.c_int, 0)
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, len(text), self._device)
        self.device_name = text.value.decode(errors="replace")
        self._context = self._get("cuDevicePrimaryCtxRetain", _HANDLE, self._device)
        self._is_open = True
        self.make_current()

    def make_current(self) -> None:
        """Makes the context that of the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def memory(self) -> Tuple[int, int]:
        """(free, total) bytes of device memory; on a Jetson that is the one memory of CPU and GPU."""
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return int(free.value), int(total.value)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes of device memory, aligned to 256 at least."""
        return self._keep("cuMemFree_v2", self._get("cuMemAlloc_v2", _POINTER, max(size, 1)))

    def free(self, address: int) -> None:
        """Frees what `allocate` gave."""
        self._drop("cuMemFree_v2", address)

    def pin(self, size: int) -> Pinned:
        """`size` bytes of page-locked host memory."""
        address = self._keep("cuMemFreeHost", self._get("cuMemHostAlloc", _HANDLE, max(size, 1), 0))
        return Pinned(address, _bytes_at(address, max(size, 1)))

    def unpin(self, pinned: Pinned) -> None:
        """Frees what `pin` gave; its array must not be used any more."""
        self._drop("cuMemFreeHost", pinned.address)

    def copy_up(self, device: int, host: int, size: int, stream: int) -> None:
        """Starts a copy from host to device on the stream."""
        self._call("cuMemcpyHtoDAsync_v2", device, host, size, stream)

    def copy_down(self, host: int, device: int, size: int, stream: int) -> None:
        """Starts a copy from device to host on the stream."""
        self._call("cuMemcpyDtoHAsync_v2", host, device, size, stream)

    def stream(self) -> int:
        """The handle of a new stream."""
        return self._keep("cuStreamDestroy_v2", self._get("cuStreamCreate", _HANDLE, _NON_BLOCKING))

    def synchronize(self, stream: int) -> None:
        """Waits until all work of the stream is done."""
        self._call("cuStreamSynchronize", stream)

    def event(self) -> Any:
        """A new event with timing."""
        return self._keep("cuEventDestroy_v2", self._get("cuEventCreate", _HANDLE, 0))

    def record(self, event: Any, stream: int) -> None:
        """The event happens when the stream's work so far is done."""
        self._call("cuEventRecord", event, stream)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two events that have happened; resolution about 0.5 us."""
        taken = ctypes.c_float(0.0)
        self._call("cuEventElapsedTime", ctypes.byref(taken), start, end)
        return float(taken.value)

    def close(self) -> None:
        """Frees all that is left and lets the context go; may be called twice."""
        if not self._is_open:
            return
        self._is_open = False
        self.make_current()
        for function, handle in reversed(self._free):
            self._call(function, handle)
        self._free.clear()
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def __enter__(self) -> "Cuda":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _keep(self, function: str, handle: int) -> int:
        self._free.append((function, handle))
        return handle

    def _drop(self, function: str, handle: int) -> None:
        # The list is short, and freeing twice must be an error here and not a crash in the driver.
        if (function, handle) not in self._free:
            raise EngineError("this CUDA memory is not ours or was freed before", got=hex(handle))
        self._free.remove((function, handle))
        self._call(function, handle)

    def _get(self, function: str, kind: Any, *arguments: Any) -> int:
        """The value that a function writes through its first argument."""
        value = kind(0)
        self._call(function, ctypes.byref(value), *arguments)
        return int(value.value or 0)

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code != 0:
            raise _failed(function, code, _error_name(self._library, code))


class PycudaCuda(Cuda):
    """The same through pycuda (https://documen.tician.de/pycuda/driver.html)."""

    way = "pycuda"

    def __init__(self) -> None:
        import pycuda.driver as driver

        self._driver = driver
        driver.init()
        if driver.Device.count() < 1:
            raise TargetError("the CUDA driver finds no GPU", do="check nvidia-smi and CUDA_VISIBLE_DEVICES")
        self.driver_version, device = driver.get_driver_version(), driver.Device(0)
        self.device_name = device.name()
        self._context: Any = device.retain_primary_context()
        self._context.push()
        self._alive: Dict[int, Any] = {}  # address or handle -> the object that frees it when it goes

    def make_current(self) -> None:
        if self._driver.Context.get_current() is None:
            self._context.push()

    def memory(self) -> Tuple[int, int]:
        free, total = self._driver.mem_get_info()
        return int(free), int(total)

    def allocate(self, size: int) -> int:
        try:
            memory = self._driver.mem_alloc(max(size, 1))
        except self._driver.MemoryError as error:
            raise _failed("mem_alloc", _OUT_OF_MEMORY, str(error)) from None
        self._alive[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        self._alive.pop(address).free()

    def pin(self, size: int) -> Pinned:
        array = self._driver.pagelocked_empty(max(size, 1), np.uint8)
        return Pinned(int(array.ctypes.data), array, array.base)

    def unpin(self, pinned: Pinned) -> None:
        pinned.owner.free()

    def copy_up(self, device: int, host: int, size: int, stream: int) -> None:
        self._driver.memcpy_htod_async(device, _bytes_at(host, size), self._alive[stream])

    def copy_down(self, host: int, device: int, size: int, stream: int) -> None:
        self._driver.memcpy_dtoh_async(_bytes_at(host, size), device, self._alive[stream])

    def stream(self) -> int:
        stream = self._driver.Stream()
        self._alive[int(stream.handle)] = stream
        return int(stream.handle)

    def synchronize(self, stream: int) -> None:
        self._alive[stream].synchronize()

    def event(self) -> Any:
        return self._driver.Event()

    def record(self, event: Any, stream: int) -> None:
        event.record(self._alive[stream])

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(start.time_till(end))

    def close(self) -> None:
        context, self._context = self._context, None
        if context is not None:
            self._alive.clear()
            context.pop()
            context.detach()


def open_cuda(way: str = "") -> Cuda:
    """The calls through pycuda where it is installed, else through the driver API.

    Args:
        way: "pycuda" or "driver" to insist on one.

    Raises:
        TargetError: no driver or no GPU.
        EngineError: pycuda was asked and is not installed, or the driver refuses to start.
    """
    if way not in ("", "driver", "pycuda"):
        raise UsageError("no such way to CUDA", expected="driver or pycuda", got=way)
    if way != "driver":
        try:
            return PycudaCuda()
        except ImportError as error:
            if way == "pycuda":
                raise EngineError("pycuda is not installed", got=str(error), do="pip install 'hwc[gpu]'") from None
    return Cuda()


def load_driver() -> Any:
    """libcuda.so.1, or None where there is none."""
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError:
        return None


def has_cuda_gpu() -> bool:
    """Whether the CUDA driver is here and finds a device."""
    driver, count = load_driver(), ctypes.c_int(0)
    if driver is None or driver.cuInit(0) != 0:
        return False
    return driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _bytes_at(address: int, size: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(address))


def _error_name(library: Any, code: int) -> str:
    name = ctypes.c_char_p()
    function = getattr(library, "cuGetErrorName", None)
    if function is None or function(ctypes.c_int(code), ctypes.byref(name)) != 0 or not name.value:
        return "unknown error"
    return name.value.decode()


def _failed(function: str, code: int, name: str) -> EngineError:
    if code == _OUT_OF_MEMORY:
        return EngineError("out of GPU memory", where=function, do="use a smaller batch, or free memory on this GPU")
    return EngineError("a CUDA call failed", where=function, got=f"{name} ({code})")


def check_memory(cuda: Cuda, size: int) -> Dict[str, Any]:
    """Copies `size` bytes up, and down again, and compares; what was found and timed.

    Raises:
        EngineError: the bytes that came back are others.
    """
    up, down = cuda.pin(size), cuda.pin(size)
    device, stream = cuda.allocate(size), cuda.stream()
    start, middle, end = (cuda.event() for _ in range(3))
    up.array[:] = np.random.default_rng(7).integers(0, 256, len(up.array), np.uint8)
    free_bytes, total_bytes = cuda.memory()
    for _ in range(2):  # the first copies also wake the clocks and map the pages
        down.array[:] = 0
        cuda.record(start, stream)
        cuda.copy_up(device, up.address, size, stream)
        cuda.record(middle, stream)
        cuda.copy_down(down.address, device, size, stream)
        cuda.record(end, stream)
        cuda.synchronize(stream)
    if not np.array_equal(up.array[:size], down.array[:size]):
        wrong = int((up.array[:size] != down.array[:size]).sum())
        raise EngineError("the GPU gave back other bytes", expected=f"{size} equal bytes", got=f"{wrong} differ")
    h2d_ms, d2h_ms = cuda.elapsed_ms(start, middle), cuda.elapsed_ms(middle, end)
    cuda.free(device)
    cuda.unpin(up)
    cuda.unpin(down)
    return {
        "way": cuda.way, "device": cuda.device_name, "driver_version": cuda.driver_version, "bytes": size,
        "free_bytes": free_bytes, "total_bytes": total_bytes, "h2d_ms": h2d_ms, "d2h_ms": d2h_ms,
        "h2d_gb_per_s": size / max(h2d_ms, 1e-6) / 1e6, "d2h_gb_per_s": size / max(d2h_ms, 1e-6) / 1e6,
    }  # fmt: skip


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The self-check; the exit code."""
    parser = argparse.ArgumentParser(description="check CUDA memory, streams and events")
    parser.add_argument("--bytes", type=int, default=64 << 20)
    parser.add_argument("--way", default="", choices=["", "driver", "pycuda"])
    args = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        with open_cuda(args.way) as cuda:
            result = {"ok": True, **check_memory(cuda, args.bytes)}
        result["seconds"], code = time.monotonic() - started, 0
    except HwcError as error:
        result, code = {"ok": False, **error.to_dict()}, error.exit_code
    print(json.dumps(result, sort_keys=True))  # noqa: T201 - this is the command's answer
    return code


if __name__ == "__main__":
    sys.exit(main())
