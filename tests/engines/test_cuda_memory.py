"""CUDA memory on a driver over host memory: every call in its kind, everything freed, every refusal clear."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest

from hwc.engines import cuda_memory
from hwc.engines.cuda_memory import Cuda, check_memory, has_cuda_gpu, main, open_cuda
from hwc.errors import EngineError, TargetError, UsageError
from tests.engines.fakes import FakeDriver


@pytest.fixture
def driver(monkeypatch):
    fake = FakeDriver()
    monkeypatch.setattr(cuda_memory, "load_driver", lambda: fake)
    return fake


def test_the_check_copies_times_and_frees(driver, capsys):
    assert main(["--bytes", "4096"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["way"], shown["device"], shown["driver_version"]) == (True, "driver", "Fake GPU", 12040)
    assert shown["h2d_ms"] == pytest.approx(1e-3 + 4096 / 1e7, rel=1e-4) and shown["h2d_gb_per_s"] > 0
    assert shown["free_bytes"] < shown["total_bytes"] == 1 << 30
    assert not driver.alive and driver.contexts == 0


def test_other_bytes_than_sent_are_found(driver):
    real = driver.do_cuMemcpyDtoHAsync_v2

    def flip(host, device, size, stream):
        code = real(host, device, size, stream)
        np.ctypeslib.as_array((cuda_memory.ctypes.c_ubyte * size).from_address(host))[7] ^= 1
        return code

    driver.do_cuMemcpyDtoHAsync_v2 = flip
    with Cuda() as cuda, pytest.raises(EngineError, match="other bytes") as caught:
        check_memory(cuda, 1000)
    assert caught.value.got == "1 differ" and not driver.alive


def test_what_is_left_is_freed_at_the_end_and_only_once(driver):
    cuda = Cuda()
    cuda.allocate(100)
    pinned = cuda.pin(100)
    stream, event = cuda.stream(), cuda.event()
    cuda.record(event, stream)
    cuda.unpin(pinned)
    with pytest.raises(EngineError, match="freed before"):
        cuda.unpin(pinned)
    with pytest.raises(EngineError, match="not ours"):
        cuda.free(4096)
    cuda.close()
    cuda.close()
    assert not driver.alive and driver.contexts == 0


def test_a_call_that_fails_is_told_by_name(driver):
    with Cuda() as cuda:
        stream = cuda.stream()
        with pytest.raises(EngineError, match="a CUDA call failed") as caught:
            cuda.copy_up(12345, 0, 8, stream)
        assert caught.value.where == "cuMemcpyHtoDAsync_v2" and "CUDA_ERROR_INVALID_VALUE (1)" in caught.value.got
        with pytest.raises(EngineError, match="out of GPU memory"):
            cuda.allocate(2 << 30)


def test_views_share_the_pinned_bytes(driver):
    with Cuda() as cuda:
        pinned = cuda.pin(64)
        pinned.view(np.dtype(np.float32), (2, 3))[...] = 1.5
        assert pinned.array[:24].view(np.float32).tolist() == [1.5] * 6


def test_no_driver_and_no_gpu_are_told_apart(monkeypatch, capsys):
    monkeypatch.setattr(cuda_memory, "load_driver", lambda: None)
    assert not has_cuda_gpu()
    with pytest.raises(TargetError, match="no CUDA driver"):
        open_cuda()
    assert main([]) == 3 and json.loads(capsys.readouterr().out)["what"] == "there is no CUDA driver here"
    monkeypatch.setattr(cuda_memory, "load_driver", lambda: FakeDriver(devices=0))
    assert not has_cuda_gpu()
    with pytest.raises(TargetError, match="finds no GPU"):
        open_cuda()
    monkeypatch.setattr(cuda_memory, "load_driver", FakeDriver)
    assert has_cuda_gpu()


def test_the_way_can_be_named(driver):
    with pytest.raises(UsageError, match="no such way"):
        open_cuda("opencl")
    with pytest.raises(EngineError, match="pycuda is not installed"):
        open_cuda("pycuda")


# pycuda, by a stand-in of what is used of pycuda.driver (2024.1 and newer), over the same driver.


class _Stub:
    """What pycuda.driver has of these calls; an attribute that it lacks is an AttributeError."""

    class MemoryError(Exception):
        """pycuda's own."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._current = cuda, []
        stub = self

        class Device:
            def __init__(self, index):
                assert index == 0

            count = staticmethod(lambda: 1)

            def name(self):
                return cuda.device_name

            def retain_primary_context(self):
                return Context()

        class Context:
            def push(self):
                stub._current.append(self)

            pop = staticmethod(lambda: stub._current.pop())
            get_current = staticmethod(lambda: stub._current[-1] if stub._current else None)

            def detach(self):
                stub.detached = True

        class Memory:
            def __init__(self, size):
                self.address = cuda.allocate(size)

            def __int__(self):
                return self.address

            def free(self):
                cuda.free(self.address)

        class Stream:
            def __init__(self):
                self.handle = cuda.stream()

            def synchronize(self):
                cuda.synchronize(self.handle)

        class Event:
            def __init__(self):
                self.handle = cuda.event()

            def record(self, stream):
                cuda.record(self.handle, stream.handle)

            def time_till(self, end):
                return cuda.elapsed_ms(self.handle, end.handle)

        self.Device, self.Context, self.Stream, self.Event, self.mem_alloc = Device, Context, Stream, Event, Memory

    def init(self):
        """cuInit."""

    def get_driver_version(self):
        return self._cuda.driver_version

    def mem_get_info(self):
        return self._cuda.memory()

    def pagelocked_empty(self, size, dtype):
        cuda, pinned = self._cuda, self._cuda.pin(size)

        class Base(np.ndarray):
            def free(self):
                cuda.unpin(pinned)

        return pinned.array.view(Base).view(dtype)

    def memcpy_htod_async(self, device, host, stream):
        self._cuda.copy_up(device, host.ctypes.data, host.nbytes, stream.handle)

    def memcpy_dtoh_async(self, host, device, stream):
        self._cuda.copy_down(host.ctypes.data, device, host.nbytes, stream.handle)


def test_pycuda_is_taken_where_it_is_installed(driver, monkeypatch):
    stub = _Stub(Cuda())
    package = types.ModuleType("pycuda")
    package.driver = stub
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", stub)
    with open_cuda() as cuda:
        assert cuda.way == "pycuda"
        assert check_memory(cuda, 512)["h2d_ms"] > 0
        cuda.make_current()
    assert stub.detached and not stub._current
    assert {kind for kind, *_ in driver.alive.values()} <= {"stream", "event"}  # pycuda's own, freed by its collector
