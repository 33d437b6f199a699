"""The stand-in's runtime: loads the plans that its builder wrote and runs them with ONNX's reference evaluator.

Device addresses must be those of a stand-in driver (tests/engines/fake_driver.py), whose device memory is host memory.
"""

import base64
import ctypes
import json

import numpy as np
from fake_strict import Strict, require, typed

_NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "BOOL": "bool", "UINT8": "uint8",
          "INT64": "int64"}  # fmt: skip


def nptype(dtype):
    return np.dtype(_NUMPY[dtype.name])


class EngineInspector(Strict):
    def __init__(self, engine):
        self._engine = engine

    def get_engine_information(self, form):
        require(form, self._engine._module.LayerInformationFormat, "get_engine_information")
        return json.dumps({"Layers": self._engine._plan["layers"], "Bindings": [t["name"] for t in self._engine._io]})


class ICudaEngine(Strict):
    num_io_tensors = property(lambda self: len(self._io))
    num_bindings = property(lambda self: len(self._io))
    num_layers = property(lambda self: len(self._plan["layers"]))
    num_optimization_profiles = property(lambda self: max(1, len(self._plan["profiles"])))
    device_memory_size = property(lambda self: 4096)
    device_memory_size_v2 = property(lambda self: 4096)

    def __init__(self, module, plan):
        self._module, self._plan = module, plan
        self._io = plan["io"]

    def _tensor(self, name):
        return next(tensor for tensor in self._io if tensor["name"] == name)

    def get_tensor_name(self, index):
        return self._io[index]["name"]

    def get_tensor_mode(self, name):
        return self._module.TensorIOMode.__members__[self._tensor(name)["mode"]]

    def get_tensor_dtype(self, name):
        return self._module.DataType.__members__[self._tensor(name)["dtype"]]

    def get_tensor_location(self, name):
        return self._module.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name, index):
        return [tuple(shape) for shape in self._plan["profiles"][index][name]]

    def create_engine_inspector(self):
        return EngineInspector(self)

    def create_execution_context(self, strategy=None):
        if strategy is not None:
            require(strategy, self._module.ExecutionContextAllocationStrategy, "create_execution_context")
        return self._module.IExecutionContext(self, has_memory=strategy is None or strategy.name != "USER_MANAGED")

    def create_execution_context_without_device_memory(self):
        return self._module.IExecutionContext(self, has_memory=False)


class IOutputAllocator(Strict):
    def __init__(self):
        self._made = True


class IProfiler(Strict):
    def __init__(self):
        self._made = True


class IExecutionContext(Strict):
    profiler = typed("profiler", IProfiler)
    device_memory = property(None, lambda self, address: self._give_memory(address))

    def __init__(self, engine, has_memory=True):
        self._engine, self._has_memory = engine, has_memory
        self._shapes, self._addresses, self._allocators, self._profile_index = {}, {}, {}, 0

    def _give_memory(self, address):
        self._has_memory = require(address, int, "device_memory") > 0

    def set_device_memory(self, memory, size):
        self._has_memory = memory > 0 and size >= 4096

    def set_optimization_profile_async(self, index, stream):
        self._profile_index = require(index, int, "set_optimization_profile_async")
        return stream > 0 and index < self._engine.num_optimization_profiles

    def set_input_shape(self, name, shape):
        require(shape, tuple, "set_input_shape")
        tensor = self._engine._tensor(name)
        if -1 in tensor["shape"]:
            low, _, high = self._engine._plan["profiles"][self._profile_index][name]
            if not all(a <= n <= b for a, n, b in zip(low, shape, high)):
                return False
        elif list(shape) != tensor["shape"]:
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        tensor = self._engine._tensor(name)
        if name in self._shapes:
            return self._shapes[name]
        sizes = {}
        for other in self._engine._io:
            if other["name"] in self._shapes:
                sizes.update(zip(other["dims"], self._shapes[other["name"]]))
        return tuple(dim if isinstance(dim, int) else sizes.get(dim, -1) for dim in tensor["dims"])

    def set_tensor_address(self, name, address):
        self._addresses[name] = require(address, int, "set_tensor_address")
        return address > 0

    def get_tensor_address(self, name):
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name, allocator):
        self._allocators[name] = require(allocator, IOutputAllocator, "set_output_allocator")
        return True

    def execute_async_v3(self, stream):
        logger, plan = self._engine._plan_logger, self._engine._plan
        if require(stream, int, "execute_async_v3") <= 0 or not self._has_memory:
            logger.log(self._engine._module.ILogger.ERROR, "no stream or no activation memory")
            return False
        feeds = {}
        for tensor in self._engine._io:
            if tensor["mode"] == "INPUT":
                name = tensor["name"]
                feeds[name] = _array(self._addresses[name], _NUMPY[tensor["dtype"]], self._shapes[name]).copy()
        for name, value in _evaluate(plan, feeds).items():
            self._deliver(name, value)
        if self.profiler is not None:
            for layer in plan["layers"]:
                self.profiler.report_layer_time(layer["Name"], 0.25)
        return True

    def _deliver(self, name, value):
        dtype = np.dtype(_NUMPY[self._engine._tensor(name)["dtype"]])
        value = np.ascontiguousarray(value.astype(dtype))
        address = self._addresses.get(name, 0)
        if name in self._allocators:
            allocator = self._allocators[name]
            address = allocator.reallocate_output(name, address, value.nbytes, 256)
            allocator.notify_shape(name, value.shape)
        _array(address, dtype, value.shape)[...] = value


class Runtime(Strict):
    engine_host_code_allowed = typed("engine_host_code_allowed", bool, False)
    DLA_core = typed("DLA_core", int, -1)
    num_DLA_cores = property(lambda self: self._module.FAKE["dla_cores"])

    def __init__(self, logger):
        self._logger = require(logger, self._module.ILogger, "Runtime")

    def deserialize_cuda_engine(self, plan):
        require(plan, (bytes, bytearray, memoryview), "deserialize_cuda_engine")
        content = json.loads(bytes(plan))
        if content["version"] != self._module.__version__:
            self._logger.log(self._module.ILogger.ERROR, f"the plan is for version {content['version']}")
            return None
        needs_code = "VERSION_COMPATIBLE" in content["flags"]
        if needs_code and self._module.FAKE["checks_host_code"] and not self.engine_host_code_allowed:
            self._logger.log(self._module.ILogger.ERROR, "host code is not allowed")
            return None
        engine = self._module.ICudaEngine(self._module, content)
        engine._plan_logger = self._logger
        return engine


def _array(address, dtype, shape):
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = (ctypes.c_ubyte * size).from_address(address)
    return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)


def _evaluate(plan, feeds):
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_from_string(base64.b64decode(plan["model"]))
    names = [value.name for value in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(names, feeds)))
