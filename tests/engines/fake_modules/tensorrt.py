"""A stand-in for TensorRT 8.5's Python module: its API as far as the builder uses it, and ways to die.

HWC_FAKE_TENSORRT = crash (signal 6 after a log line), sleep (for ever), none (build_serialized_network gives None).
The "plan" is a JSON text that records what was set, so that a test can read it.
"""

import enum
import json
import os
import time

__version__ = "8.5.2.2"
MODE = os.environ.get("HWC_FAKE_TENSORRT", "")


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0


class BuilderFlag(enum.IntEnum):
    FP16 = 0
    INT8 = 1
    TF32 = 7
    GPU_FALLBACK = 3


LayerType = enum.Enum("LayerType", "CONVOLUTION DECONVOLUTION ACTIVATION QUANTIZE DEQUANTIZE")
DataType = enum.Enum("DataType", "FLOAT HALF INT8 INT32 BOOL")
ProfilingVerbosity = enum.Enum("ProfilingVerbosity", "DETAILED")
MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE")
DeviceType = enum.Enum("DeviceType", "GPU DLA")
LayerInformationFormat = enum.Enum("LayerInformationFormat", "ONELINE JSON")


class ILogger:
    def __init__(self):
        pass


class Tensor:
    def __init__(self, name, shape):
        self.name, self.shape, self.dtype = name, shape, DataType.FLOAT


class Network:
    num_inputs = num_outputs = 1
    num_layers = 0

    def get_input(self, index):
        return Tensor("x", (-1, 8, 8, 8))

    def get_output(self, index):
        return Tensor("pooled", (-1, 8, 4, 4))


class OnnxParser:
    num_errors = 0

    def __init__(self, network, logger):
        pass

    def parse_from_file(self, path):
        return os.path.isfile(path)


class Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, low, best, high):
        self.shapes[name] = [low, best, high]


class Config:
    def __init__(self):
        self.set, self.flags, self.pools, self.profiles = {}, {BuilderFlag.TF32}, {}, []

    def set_flag(self, flag):
        self.flags.add(flag)

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def get_flag(self, flag):
        return flag in self.flags

    def set_memory_pool_limit(self, pool, size):
        self.pools[pool.name] = size

    def add_optimization_profile(self, profile):
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1


class Builder:
    num_DLA_cores = 0

    def __init__(self, logger):
        self.logger = logger

    def create_network(self, flags):
        self.network_flags = flags
        return Network()

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        self.logger.log("VERBOSE", "the last words")
        if MODE == "crash":
            os.abort()
        while MODE == "sleep":
            time.sleep(0.05)
        if MODE == "none":
            self.logger.log("ERROR", "no implementation for node stem/conv")
            return None
        flags = sorted(flag.name for flag in config.flags)
        record = {"flags": flags, "network": self.network_flags, "pools": config.pools, "profiles": config.profiles}
        return json.dumps(record).encode()


class Inspector:
    def get_engine_information(self, form):
        half = [{"Name": "x", "Location": "Device", "Format/Datatype": "Channel major FP16 format"}]
        layer = {
            "Name": "stem/conv + stem/relu",
            "LayerType": "CaskConvolution",
            "Inputs": half,
            "Outputs": half,
            "TacticName": "sm72_xmma_fprop",
        }
        return json.dumps({"Layers": [layer], "Bindings": ["x", "pooled"]})


class CudaEngine:
    device_memory_size = 4096

    def create_engine_inspector(self):
        return Inspector()


class Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, plan):
        return CudaEngine()
