"""Times the layers of a TensorRT engine, in an execution context of their own.

A profiler makes TensorRT wait between layers, so these runs are apart from those whose latency is reported, and their
sum is larger. The context borrows the addresses of the session's tensors and gets its own activation memory, which is
freed with it. A layer's time is the median over the runs.

This file is part of the device half: Python 3.8, standard library only; the module is an argument.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any, Dict, List, Sequence, Tuple

from hwc.artifacts import Kernel
from hwc.engines.cuda_memory import Cuda
from hwc.errors import EngineError

_RUNS = 10


def time_layers(
    trt: Any, engine: Any, cuda: Cuda, stream: int, bound: Any, profile: int, kernels: Sequence[Kernel]
) -> Tuple[Kernel, ...]:
    """The kernels with `time_us`, by the shapes and addresses that the context `bound` was run with last.

    A layer that no kernel is named after is added as the runtime names it, so that nothing timed is hidden.

    Raises:
        EngineError: the profiled runs fail.
    """
    profiler = make_profiler(trt)
    context = engine.create_execution_context()
    if context is None:
        raise EngineError("TensorRT makes no execution context to time layers in", do="free GPU memory")
    if profile and not context.set_optimization_profile_async(profile, stream):
        raise EngineError("TensorRT does not change its profile")
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            context.set_input_shape(name, tuple(bound.get_tensor_shape(name)))
        address = bound.get_tensor_address(name)
        if not address:
            return ()  # an output that TensorRT allocates as it runs
        context.set_tensor_address(name, address)
    context.profiler = profiler
    for _ in range(_RUNS):
        if not context.execute_async_v3(stream):
            raise EngineError("TensorRT does not run this engine with a profiler")
        cuda.synchronize(stream)
    taken = {name: statistics.median(times) * 1e3 for name, times in profiler.times_ms.items()}
    timed = [replace(kernel, time_us=taken.pop(kernel.name, None)) for kernel in kernels]
    return (*timed, *(Kernel(name, "unnamed", "unknown", (), time_us) for name, time_us in taken.items()))


def make_profiler(trt: Any) -> Any:
    """An IProfiler that keeps every layer's times in milliseconds."""

    class Profiler(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times_ms: Dict[str, List[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_ms.setdefault(layer_name, []).append(ms)

    return Profiler()
