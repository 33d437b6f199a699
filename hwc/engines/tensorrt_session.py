"""A TensorRT engine that runs: tensors by name, one stream, pinned buffers, four events per inference.

    pinned input -> H2D copies -> execute_async_v3 -> D2H copies -> pinned output       all on one stream
         event 0          event 1                event 2           event 3

so H2D = e1 - e0, GPU compute = e2 - e1, D2H = e3 - e2, as trtexec counts them; enqueue is the host's time in
execute_async_v3. Buffers grow to the largest shape seen and are kept. An output whose size follows from data (its shape
is still open after all inputs are set) is allocated by an IOutputAllocator. With several optimization profiles, the
first that holds the shapes is taken, and kept while it fits.

Activation memory is TensorRT's own, or ours (`owns_activations`): then its size is known and it can be put elsewhere.
Limits: TensorRT 8.5 and newer (8.2 has no tensors by name); one inference at a time; float and integer tensors in
linear layout.
Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/ExecutionContext.html.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from hwc.artifacts import Engine, Kernel, TensorSpec
from hwc.engines import cuda_memory
from hwc.engines.base import Session, check_feeds
from hwc.engines.tensorrt_buffers import Buffer, Buffers, make_allocator
from hwc.engines.tensorrt_builder import load_module
from hwc.engines.tensorrt_child import PLAN, make_logger
from hwc.engines.tensorrt_configure import load_plugins, make_runtime
from hwc.engines.tensorrt_options import read_options
from hwc.engines.tensorrt_place import read_request
from hwc.engines.tensorrt_profiler import time_layers
from hwc.errors import EngineError, TargetError

_ERRORS = ("ERROR", "INTERNAL_ERROR")


class TensorrtSession(Session):
    """One execution context of one engine.

    Args:
        folder: holds the plan.
        owns_activations: allocate the activation memory here and not in TensorRT.
        request_folder: holds engine.request.json and plugins, if not `folder`.
    """

    def __init__(
        self, engine: Engine, folder: Path, *, owns_activations: bool = False, request_folder: Optional[Path] = None
    ) -> None:
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.last_times_ms: Dict[str, float] = {}
        self.activation_bytes = 0
        self._kernels = engine.kernels
        self._lock = threading.Lock()
        self._trt = load_module(engine.backend)
        self._log = io.StringIO()
        self._logger = make_logger(self._trt, self._log)
        self._cuda: Optional[cuda_memory.Cuda] = cuda_memory.open_cuda()
        try:
            self._open(folder, request_folder or folder, owns_activations)
        except BaseException:
            self.close()
            raise

    def _open(self, folder: Path, request_folder: Path, owns_activations: bool) -> None:
        trt, cuda = self._trt, self._cuda
        assert cuda is not None
        options = read_options(read_request(request_folder)["options"])
        load_plugins(trt, self._logger, options, request_folder)
        self._runtime = make_runtime(trt, self._logger, options)
        self._engine = self._runtime.deserialize_cuda_engine((folder / PLAN).read_bytes())
        if self._engine is None:
            raise EngineError(
                "TensorRT does not load this engine", where=str(folder / PLAN), got=self._errors(),
                do="an engine belongs to the GPU and the TensorRT that built it: build it again on this machine",
            )  # fmt: skip
        if not hasattr(self._engine, "num_io_tensors"):
            raise TargetError(
                "this TensorRT has no tensors by name, so no session can be opened",
                got=f"{trt.__name__} {trt.__version__}", expected="TensorRT 8.5 or newer",
                do=f"run {PLAN} with trtexec --loadEngine={PLAN}",
            )  # fmt: skip
        self._context = self._make_context(owns_activations)
        self._stream = cuda.stream()
        self._events = [cuda.event() for _ in range(4)]
        self._buffers = Buffers(trt, self._engine, cuda, self.inputs, self.outputs)
        self._allocators: Dict[str, Any] = {}
        self._profile = 0
        self._feeds: Dict[str, np.ndarray] = {}

    def _make_context(self, owns_activations: bool) -> Any:
        trt, engine = self._trt, self._engine
        if not owns_activations:
            context = engine.create_execution_context()
        elif hasattr(trt, "ExecutionContextAllocationStrategy"):
            context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        else:
            context = engine.create_execution_context_without_device_memory()
        if context is None:
            raise EngineError("TensorRT makes no execution context", got=self._errors(), do="free GPU memory")
        if owns_activations:
            assert self._cuda is not None
            size = getattr(engine, "device_memory_size_v2", None)
            self.activation_bytes = int(engine.device_memory_size if size is None else size)
            address = self._cuda.allocate(self.activation_bytes)
            if hasattr(context, "set_device_memory"):  # 10.1 and newer
                context.set_device_memory(address, self.activation_bytes)
            else:
                context.device_memory = address
        return context

    def run(self, feeds: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """One inference; `last_times_ms` then holds h2d, gpu, d2h, enqueue and host of it, in milliseconds."""
        with self._lock:
            cuda = self._require_open()
            check_feeds(self.inputs, feeds)
            started = time.perf_counter()
            cuda.make_current()
            self._choose_profile(feeds)
            fills = [self._bind_input(spec, feeds[spec.name]) for spec in self.inputs]
            waiting = self._bind_outputs()
            cuda.record(self._events[0], self._stream)
            for buffer in fills:
                if buffer.is_on_device:
                    cuda.copy_up(buffer.device, buffer.pinned.address, buffer.size, self._stream)
            cuda.record(self._events[1], self._stream)
            before = time.perf_counter()
            if not self._context.execute_async_v3(self._stream):
                raise EngineError("TensorRT does not run this engine", got=self._errors())
            enqueue_ms = (time.perf_counter() - before) * 1e3
            cuda.record(self._events[2], self._stream)
            results = self._copy_down(waiting)
            host_ms = (time.perf_counter() - started) * 1e3
            h2d, gpu, d2h = (cuda.elapsed_ms(*self._events[index : index + 2]) for index in range(3))
            self.last_times_ms = {"h2d": h2d, "gpu": gpu, "d2h": d2h, "enqueue": enqueue_ms, "host": host_ms}
            self._feeds = dict(feeds)
            return results

    def last_times(self) -> Dict[str, float]:
        """Milliseconds of the last inference: h2d, gpu, d2h (by events), enqueue and host (by the host's clock)."""
        return dict(self.last_times_ms)

    def stage_times_ns(self) -> Dict[str, int]:
        """As the contract says; empty before the first run."""
        return {name: round(ms * 1e6) for name, ms in self.last_times_ms.items() if name != "host"}

    def layers(self) -> Tuple[Kernel, ...]:
        """Kernels with `time_us`, from ten more runs of the last feeds in a context with a profiler of its own."""
        with self._lock:
            cuda = self._require_open()
            if not self._feeds:
                return ()
            cuda.make_current()
            return time_layers(self._trt, self._engine, cuda, self._stream, self._context, self._profile, self._kernels)

    def close(self) -> None:
        cuda, self._cuda = self._cuda, None
        if cuda is None:
            return
        # TensorRT's objects free device memory, so they must go while the CUDA context is there, the context first.
        for name in ("_context", "_allocators", "_engine", "_runtime", "_buffers"):
            self.__dict__.pop(name, None)
        cuda.close()

    def _require_open(self) -> cuda_memory.Cuda:
        if self._cuda is None:
            raise EngineError("this session is closed", do="open it again")
        return self._cuda

    def _choose_profile(self, feeds: Mapping[str, np.ndarray]) -> None:
        count = int(self._engine.num_optimization_profiles)
        if count <= 1 or self._fits(self._profile, feeds):
            return
        for index in range(count):
            if self._fits(index, feeds):
                if not self._context.set_optimization_profile_async(index, self._stream):
                    raise EngineError("TensorRT does not change its profile", got=self._errors())
                self._profile = index
                return

    def _fits(self, index: int, feeds: Mapping[str, np.ndarray]) -> bool:
        for spec in self.inputs:
            if not spec.is_static:
                low, _, high = self._engine.get_tensor_profile_shape(spec.name, index)
                if not all(a <= n <= b for a, n, b in zip(tuple(low), feeds[spec.name].shape, tuple(high))):
                    return False
        return True

    def _bind_input(self, spec: TensorSpec, array: np.ndarray) -> Buffer:
        buffer = self._buffers.hold(spec.name, array.nbytes)
        buffer.pinned.view(array.dtype, array.shape)[...] = array
        is_set = self._context.set_input_shape(spec.name, tuple(array.shape))
        if not is_set or not self._context.set_tensor_address(spec.name, buffer.address):
            raise EngineError("TensorRT refuses an input", where=spec.name, got=f"{array.shape}; {self._errors()}")
        return buffer

    def _bind_outputs(self) -> List[Tuple[TensorSpec, Optional[Tuple[int, ...]], Any]]:
        """(output, shape or None if data decide it, its allocator or None)."""
        waiting: List[Tuple[TensorSpec, Optional[Tuple[int, ...]], Any]] = []
        for spec in self.outputs:
            shape = tuple(int(size) for size in self._context.get_tensor_shape(spec.name))
            if min(shape, default=0) >= 0:
                buffer = self._buffers.hold(spec.name, _bytes(spec, shape))
                if not self._context.set_tensor_address(spec.name, buffer.address):
                    raise EngineError("TensorRT refuses an output", where=spec.name, got=self._errors())
                waiting.append((spec, shape, None))
                continue
            # One per output for good: the binding keeps every allocator alive that it was ever given.
            allocator = self._allocators.setdefault(spec.name, make_allocator(self._trt, self._buffers))
            if not self._context.set_output_allocator(spec.name, allocator):
                raise EngineError("TensorRT refuses an output's allocator", where=spec.name, got=self._errors())
            waiting.append((spec, None, allocator))
        return waiting

    def _copy_down(
        self, waiting: List[Tuple[TensorSpec, Optional[Tuple[int, ...]], Any]]
    ) -> Dict[str, np.ndarray]:
        cuda = self._require_open()
        if any(allocator is not None for _, _, allocator in waiting):
            cuda.synchronize(self._stream)  # only then are the sizes known
        shapes: Dict[str, Tuple[int, ...]] = {}
        for spec, known, allocator in waiting:
            shape = known if known is not None else tuple(allocator.shapes[spec.name])
            shapes[spec.name] = shape
            buffer = self._buffers.hold(spec.name, _bytes(spec, shape))
            if buffer.is_on_device and buffer.size:
                cuda.copy_down(buffer.pinned.address, buffer.device, buffer.size, self._stream)
        cuda.record(self._events[3], self._stream)
        cuda.synchronize(self._stream)
        return {
            spec.name: self._buffers.held(spec.name).pinned.view(np.dtype(spec.dtype), shapes[spec.name]).copy()
            for spec in self.outputs
        }

    def _errors(self) -> str:
        """The last errors that TensorRT logged."""
        lines = [line for line in self._log.getvalue().splitlines() if line.startswith(_ERRORS)]
        return " | ".join(lines[-3:]) or "TensorRT gave no reason"


def measure_latency_ms(session: TensorrtSession, runs: int = 30, warmup: int = 10) -> float:
    """Median GPU time of one inference at the profile's best shapes, inputs of a fixed random seed."""
    random = np.random.default_rng(0)
    feeds = {
        spec.name: np.ascontiguousarray(random.random(spec.at("opt")).astype(spec.dtype)) for spec in session.inputs
    }
    times = []
    for _ in range(warmup + runs):
        session.run(feeds)
        times.append(session.last_times_ms["gpu"])
    return float(np.median(times[warmup:]))


def _bytes(spec: TensorSpec, shape: Tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
