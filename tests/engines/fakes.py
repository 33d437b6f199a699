"""Loads the strict stand-ins: TensorRT of a named version, a CUDA driver over host memory, a trtexec of a version."""

from __future__ import annotations

import ctypes
import importlib
import json
import stat
import sys
from pathlib import Path

MODULES = Path(__file__).parent / "fake_modules"
VERSIONS = ("8.2.1.8", "8.5.2.2", "8.6.1.6", "10.3.0.26", "10.7.0.23", "10.16.0.1", "11.1.0.1")
_OURS = ("tensorrt", "fake_strict", "fake_onnx", "fake_network", "fake_runtime")


def load_fake(monkeypatch, version: str, dla_cores: int = 0):
    """The stand-in of that version, imported afresh in this process, as `import tensorrt` will give it."""
    monkeypatch.setenv("HWC_FAKE_TENSORRT_VERSION", version)
    monkeypatch.setenv("HWC_FAKE_DLA_CORES", str(dla_cores))
    monkeypatch.syspath_prepend(str(MODULES))
    for name in _OURS:
        # Set and taken away: the undo then also takes away what is imported below, and other tests see no TensorRT.
        monkeypatch.setitem(sys.modules, name, sys)
        del sys.modules[name]
    return importlib.import_module("tensorrt")


def make_trtexec(folder: Path, version: str, monkeypatch) -> Path:
    """A trtexec of that version, named by HWC_TRTEXEC."""
    path = folder / "trtexec"
    script = MODULES / "fake_trtexec.py"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" {version} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("HWC_TRTEXEC", str(path))
    return path


def build_in_process(monkeypatch) -> None:
    """Builds by the stand-in that is loaded here and not in a child process: the same code, a second sooner."""
    from hwc.engines import tensorrt, tensorrt_child

    def run(request, out, progress, command, timing, history=None):
        content = json.loads(request.read_text())
        extras = tensorrt_child.Extras(timing.write is not None, timing.read, history)
        with (out / tensorrt_child.LOG).open("w", encoding="utf-8") as log:
            return tensorrt_child.build_plan(content, request.parent, out, log, extras)

    monkeypatch.setattr(tensorrt, "run_child", run)


class _Call:
    """One function of the driver: takes what its `argtypes` take, in number and kind, as ctypes would."""

    def __init__(self, function):
        self.function, self.argtypes, self.restype = function, None, None

    def __call__(self, *arguments):
        if self.argtypes is not None:
            if len(arguments) != len(self.argtypes):
                raise TypeError(f"this function takes {len(self.argtypes)} arguments ({len(arguments)} given)")
            for kind, value in zip(self.argtypes, arguments):
                kind.from_param(value)
        return self.function(*arguments)


class FakeDriver:
    """libcuda.so.1 over host memory: one device, every call done at once. Refuses what was never given out.

    Args:
        devices: how many devices it finds.
        memory: bytes that can be allocated; more is CUDA_ERROR_OUT_OF_MEMORY.
    """

    def __init__(self, devices: int = 1, memory: int = 1 << 30) -> None:
        self.devices, self.memory, self.clock_ms, self.alive, self.calls = devices, memory, 0.0, {}, []
        self.contexts = 0
        for name in dir(self):
            if name.startswith("do_"):
                setattr(self, name[3:], _Call(self._counted(name)))

    def _counted(self, name):
        def call(*arguments):
            self.calls.append(name[3:])
            return getattr(self, name)(*arguments)

        return call

    def _give(self, pointer, kind: str, size: int = 64) -> int:
        if sum(memory[1] for memory in self.alive.values()) + size > self.memory:
            return 2
        raw = ctypes.create_string_buffer(size + 256)
        address = (ctypes.addressof(raw) + 255) // 256 * 256
        self.alive[address] = (kind, size, raw)
        pointer._obj.value = address
        return 0

    def _take(self, address, kind: str) -> int:
        if address not in self.alive or self.alive[address][0] != kind:
            return 1  # CUDA_ERROR_INVALID_VALUE
        del self.alive[address]
        return 0

    def _copy(self, target: int, source: int, size: int, device: int, stream: int) -> int:
        inside = any(low <= device and device + size <= low + memory[1] for low, memory in self.alive.items()
                     if memory[0] == "device")  # fmt: skip
        if not inside or self.alive.get(stream, ("",))[0] != "stream" or not self.contexts:
            return 1
        ctypes.memmove(target, source, size)
        self.clock_ms += 1e-3 + size / 1e7  # 10 GB/s
        return 0

    def do_cuInit(self, flags):
        return 0

    def do_cuDriverGetVersion(self, pointer):
        pointer._obj.value = 12040
        return 0

    def do_cuDeviceGetCount(self, pointer):
        pointer._obj.value = self.devices
        return 0

    def do_cuDeviceGet(self, pointer, index):
        pointer._obj.value = index
        return 0 if index < self.devices else 101

    def do_cuDeviceGetName(self, text, size, device):
        text.value = b"Fake GPU"
        return 0

    def do_cuDevicePrimaryCtxRetain(self, pointer, device):
        self.contexts += 1
        pointer._obj.value = 77
        return 0

    def do_cuDevicePrimaryCtxRelease_v2(self, device):
        self.contexts -= 1
        return 0 if self.contexts >= 0 else 201

    def do_cuCtxSetCurrent(self, context):
        return 0 if context == 77 else 201

    def do_cuMemGetInfo_v2(self, free, total):
        used = sum(memory[1] for memory in self.alive.values())
        free._obj.value, total._obj.value = self.memory - used, self.memory
        return 0

    def do_cuMemAlloc_v2(self, pointer, size):
        return self._give(pointer, "device", size)

    def do_cuMemFree_v2(self, address):
        return self._take(address, "device")

    def do_cuMemHostAlloc(self, pointer, size, flags):
        return self._give(pointer, "pinned", size)

    def do_cuMemFreeHost(self, address):
        return self._take(address, "pinned")

    def do_cuMemcpyHtoDAsync_v2(self, device, host, size, stream):
        return self._copy(device, host, size, device, stream)

    def do_cuMemcpyDtoHAsync_v2(self, host, device, size, stream):
        return self._copy(host, device, size, device, stream)

    def do_cuStreamCreate(self, pointer, flags):
        return self._give(pointer, "stream")

    def do_cuStreamSynchronize(self, stream):
        return 0 if self.alive.get(stream, ("",))[0] == "stream" else 400

    def do_cuStreamDestroy_v2(self, stream):
        return self._take(stream, "stream")

    def do_cuEventCreate(self, pointer, flags):
        return self._give(pointer, "event")

    def do_cuEventRecord(self, event, stream):
        if self.alive.get(event, ("",))[0] != "event":
            return 400
        self.alive[event] = (*self.alive[event][:3], self.clock_ms)
        return 0

    def do_cuEventElapsedTime(self, pointer, start, end):
        if len(self.alive[start]) < 4 or len(self.alive[end]) < 4:
            return 400
        pointer._obj.value = self.alive[end][3] - self.alive[start][3]
        return 0

    def do_cuEventDestroy_v2(self, event):
        return self._take(event, "event")

    def do_cuGetErrorName(self, code, pointer):
        pointer._obj.value = b"CUDA_ERROR_INVALID_VALUE"
        return 0
