"""A strict stand-in for TensorRT's Python module, 8.2 to 11.1: its API as far as hwc uses it, and ways to die.

HWC_FAKE_TENSORRT_VERSION picks the version (8.5.2.2 if unset). Every class below is written with all that any version
has; at the end `cut` takes away what tests/engines/tensorrt_api.toml does not give to this one, so `hasattr` tells the
truth and anything else is an AttributeError. Wrong types are TypeErrors, as pybind11 gives them.

HWC_FAKE_TENSORRT = crash (signal 6 after a log line), sleep (for ever), none (the build fails and logs why).
HWC_FAKE_DLA_CORES = number of DLA cores, HWC_FAKE_DLA_REFUSES = names of layers that they do not take.
HWC_FAKE_TACTICS = a file with one time in ms per line; each build takes the first away and logs it as its fastest
tactic. The "plan" is a JSON text that records what was set.
"""

import enum
import json
import os
import sys
import time

from fake_network import ILayer, INetworkDefinition, ITensor, OnnxParser, ParserError
from fake_runtime import (
    EngineInspector,
    ICudaEngine,
    IExecutionContext,
    IOutputAllocator,
    IProfiler,
    Runtime,
    nptype,
)
from fake_strict import Strict, cut, is_in, make_enum, read_table, require, typed, version_tuple

__version__ = os.environ.get("HWC_FAKE_TENSORRT_VERSION", "8.5.2.2")
MODE = os.environ.get("HWC_FAKE_TENSORRT", "")
FAKE = {"dla_cores": int(os.environ.get("HWC_FAKE_DLA_CORES", "0")), "checks_host_code": True, "loaded": []}
_TABLE = read_table()
for _name in (
    "NetworkDefinitionCreationFlag", "BuilderFlag", "LayerType", "DataType", "ProfilingVerbosity", "MemoryPoolType",
    "DeviceType", "LayerInformationFormat", "TacticSource", "HardwareCompatibilityLevel", "TensorIOMode",
    "TensorLocation", "ExecutionContextAllocationStrategy",
):  # fmt: skip
    _made = make_enum(_name, __version__, _TABLE)
    if _made is not None:
        globals()[_name] = _made
_PRECISION_FLAGS = ("FP16", "BF16", "INT8", "FP8", "INT4", "FP4")
_WORDS = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8", "BF16": "BFloat16", "INT64": "Int64", "INT32": "Int32"}


_Severity = enum.IntEnum("_Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")


class ILogger(Strict):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = tuple(_Severity)

    def __init__(self):
        self._made = True


class IInt8EntropyCalibrator2(Strict):
    def __init__(self):
        self._made = True


class IProgressMonitor(Strict):
    def __init__(self):
        self._made = True


class ITimingCache(Strict):
    def __init__(self, data):
        self._data = data

    def serialize(self):
        return self._data or f"FAKE-TIMING {__version__}".encode()


class IOptimizationProfile(Strict):
    def __init__(self):
        self._shapes = {}

    def set_shape(self, name, low, best, high):
        for shape in (low, best, high):
            require(shape, tuple, "set_shape")
        self._shapes[name] = [list(low), list(best), list(high)]


class IBuilderConfig(Strict):
    builder_optimization_level = typed("builder_optimization_level", int, 3)
    max_aux_streams = typed("max_aux_streams", int, -1)
    avg_timing_iterations = typed("avg_timing_iterations", int, 1)
    max_workspace_size = typed("max_workspace_size", int, 0)
    profiling_verbosity = typed("profiling_verbosity", object)
    default_device_type = typed("default_device_type", object)
    DLA_core = typed("DLA_core", int, -1)
    int8_calibrator = typed("int8_calibrator", IInt8EntropyCalibrator2)
    progress_monitor = typed("progress_monitor", IProgressMonitor)
    hardware_compatibility_level = typed("hardware_compatibility_level", object)
    plugins_to_serialize = typed("plugins_to_serialize", list)

    def __init__(self):
        self._flags = {BuilderFlag.TF32}  # noqa: F821
        self._pools, self._profiles, self._cache, self._sources, self._devices = {}, [], None, 0, {}
        for source in TacticSource:  # noqa: F821
            self._sources |= 1 << int(source)

    def set_flag(self, flag):
        self._flags.add(require(flag, BuilderFlag, "set_flag"))  # noqa: F821

    def clear_flag(self, flag):
        self._flags.discard(require(flag, BuilderFlag, "clear_flag"))  # noqa: F821

    def get_flag(self, flag):
        return require(flag, BuilderFlag, "get_flag") in self._flags  # noqa: F821

    def can_run_on_DLA(self, layer):
        require(layer, ILayer, "can_run_on_DLA")
        has_type = any(flag.name in ("FP16", "INT8") for flag in self._flags)
        is_listed = layer.name in os.environ.get("HWC_FAKE_DLA_REFUSES", "").split(",")
        return FAKE["dla_cores"] > self.DLA_core >= 0 and has_type and not is_listed

    def set_device_type(self, layer, device):
        device = require(device, DeviceType, "set_device_type")  # noqa: F821
        self._devices[require(layer, ILayer, "set_device_type").name] = device.name

    def set_memory_pool_limit(self, pool, size):
        require(pool, MemoryPoolType, "set_memory_pool_limit")  # noqa: F821
        self._pools[pool.name] = require(size, int, "set_memory_pool_limit")

    def get_memory_pool_limit(self, pool):
        return self._pools.get(require(pool, MemoryPoolType, "get_memory_pool_limit").name, 0)  # noqa: F821

    def get_tactic_sources(self):
        return self._sources

    def set_tactic_sources(self, mask):
        self._sources = require(mask, int, "set_tactic_sources")
        return True

    def add_optimization_profile(self, profile):
        self._profiles.append(require(profile, IOptimizationProfile, "add_optimization_profile")._shapes)
        return len(self._profiles) - 1

    def create_timing_cache(self, data):
        return ITimingCache(require(data, bytes, "create_timing_cache"))

    def set_timing_cache(self, cache, ignore_mismatch):
        require(ignore_mismatch, bool, "set_timing_cache")
        if cache._data and cache._data != f"FAKE-TIMING {__version__}".encode():
            return False
        self._cache = cache
        return True


class IPluginRegistry(Strict):
    def load_library(self, path):
        FAKE["loaded"].append(require(path, str, "load_library"))
        return object() if os.path.isfile(path) else None


def get_plugin_registry():
    return IPluginRegistry()


def init_libnvinfer_plugins(logger, namespace):
    require(logger, ILogger, "init_libnvinfer_plugins")
    return True


class Builder(Strict):
    num_DLA_cores = property(lambda self: FAKE["dla_cores"])

    def __init__(self, logger):
        self._logger = require(logger, ILogger, "Builder")

    def create_network(self, flags=0):
        require(flags, int, "create_network")
        strong = NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")  # noqa: F821
        always = version_tuple(__version__) >= (11,)
        return INetworkDefinition(flags, always or (strong is not None and bool(flags & (1 << int(strong)))))

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        require(network, INetworkDefinition, "build_serialized_network")
        require(config, IBuilderConfig, "build_serialized_network")
        self._logger.log(ILogger.VERBOSE, "the last words")
        if MODE == "crash":
            os.abort()
        while MODE == "sleep":
            time.sleep(0.05)
        fault = "no implementation for node stem/conv" if MODE == "none" else self._fault(network, config)
        if fault:
            self._logger.log(ILogger.ERROR, fault)
            return None
        monitor = config._progress_monitor if hasattr(config, "_progress_monitor") else None
        if monitor is not None:
            monitor.phase_start("Building Engine", None, 2)
            monitor.step_complete("Building Engine", 0)
            monitor.phase_finish("Building Engine")
        self._log_tactics(network)
        self._log_devices(network, config)
        return json.dumps(self._record(network, config)).encode()

    def _fault(self, network, config):
        """Why the real builder would refuse; empty if it would not."""
        flags = {flag.name for flag in config._flags}
        if not network._weights_are_alive():
            return "the parser, which owns the weights, is gone"
        if network._is_strong and flags & set(_PRECISION_FLAGS):
            return "precision flags with a strongly typed network"
        if network._is_strong and (getattr(config, "_int8_calibrator", None) or _ranges(network)):
            return "INT8 scales with a strongly typed network"
        open_inputs = [t.name for t in network._inputs if -1 in t.shape]
        if open_inputs and not config._profiles:
            return "a dynamic input has no optimization profile"
        device = getattr(config, "_default_device_type", None)
        if device is not None and device.name == "DLA":
            has_type = network._is_strong or flags & {"FP16", "INT8"}
            if not FAKE["dla_cores"] or not has_type:
                return "the DLA has no core, or no precision of its own"
        for layer in network._layers:
            where = config._devices.get(layer.name, device.name if device is not None else "GPU")
            can_fall_back = "GPU_FALLBACK" in flags or network._is_strong
            if where == "DLA" and not can_fall_back and not config.can_run_on_DLA(layer):
                return f"{layer.name} cannot run on the DLA and GPU fallback is off"
        calibrator = getattr(config, "_int8_calibrator", None)
        if calibrator is not None:
            header = bytes(calibrator.read_calibration_cache() or b"").split(b"\n")[0].decode()
            major, minor, patch = version_tuple(__version__)
            number = major * (10000 if major >= 10 else 1000) + minor * 100 + patch
            if header != f"TRT-{number}-EntropyCalibration2" and calibrator.get_batch(["x"]) is None:
                return "Calibration failure occurred with no scaling factors detected"
        return ""

    def _record(self, network, config):
        flags = sorted(flag.name for flag in config._flags)
        level = getattr(config, "_hardware_compatibility_level", None)
        device = getattr(config, "_default_device_type", None)
        return {
            "version": __version__, "flags": flags, "network": network._flags, "strong": network._is_strong,
            "pools": {**config._pools, **({"old": config._max_workspace_size} if hasattr(config, "_max_workspace_size")
                                          else {})},
            "profiles": config._profiles, "sources": config._sources,
            "numbers": {name: getattr(config, "_" + name) for name in (
                "builder_optimization_level", "max_aux_streams", "avg_timing_iterations", "DLA_core",
            ) if hasattr(config, "_" + name)},
            "device": device.name if device is not None else "GPU", "devices": config._devices,
            "level": level.name if level is not None else "",
            "calibrated": getattr(config, "_int8_calibrator", None) is not None, "ranges": _ranges(network),
            "plugins": [os.path.basename(path) for path in getattr(config, "_plugins_to_serialize", [])],
            "loaded": [os.path.basename(path) for path in FAKE["loaded"]],
            "timing": config._cache is not None and config._cache._data.decode(),
            "io": [_border(t, "INPUT", network) for t in network._inputs] +
                  [_border(t, "OUTPUT", network) for t in network._outputs],
            "layers": _layers(network, flags), "model": network._model,
        }  # fmt: skip

    def _log_devices(self, network, config):
        """One loadable for each run of layers on the DLA, in the words of the real builder's log."""
        default, runs, before = getattr(config, "_default_device_type", None), [], "GPU"
        for layer in network._layers:
            device = config._devices.get(layer.name, default.name if default is not None else "GPU")
            if device == "DLA":
                runs = [*runs, [layer.name]] if before != "DLA" else [*runs[:-1], [*runs[-1], layer.name]]
            before = device
        for run in runs:
            name = run[0] if len(run) == 1 else f"{run[0]}...{run[-1]}"
            self._logger.log(ILogger.INFO, f"[DlaLayer] {{ForeignNode[{name}]}}")

    def _log_tactics(self, network):
        path = os.environ.get("HWC_FAKE_TACTICS", "")
        if path:
            with open(path) as file:
                first, *rest = file.read().split()
            with open(path, "w") as file:
                file.write("\n".join(rest))
            for layer in _layers(network, []):
                self._logger.log(ILogger.VERBOSE, f"--------------- Timing Runner: {layer['Name']} (CaskConvolution)")
                self._logger.log(ILogger.VERBOSE, f"Fastest Tactic: 0x3f24 Time: {first}")


def _ranges(network):
    tensors = network._inputs + [output for layer in network._layers for output in layer._outputs]
    return {t.name: list(t._dynamic_range) for t in tensors if getattr(t, "_dynamic_range", None)}


def _border(tensor, mode, network):
    dims = network._open_names[tensor.name]
    return {"name": tensor.name, "mode": mode, "dtype": tensor.dtype.name, "shape": list(tensor.shape), "dims": dims}


def _layers(network, flags):
    """The engine's layers: Conv and Relu in one, in the type that a flag or the graph gives them."""
    made, fused = [], set()
    for layer in network._layers:
        if layer.name in fused or layer._operator in ("QuantizeLinear", "DequantizeLinear"):
            continue
        name = layer.name
        after = [n for n in network._layers if n._inputs[0].name == layer._outputs[0].name and n._operator == "Relu"]
        if layer._operator == "Conv" and after:
            name, fused = f"{name} + {after[0].name}", fused | {after[0].name}
        kind = layer._outputs[0].dtype.name
        quantized = any(n._operator == "DequantizeLinear" and n._outputs[0].name == layer._inputs[0].name
                        for n in network._layers)
        scaled = bool(_ranges(network)) or "INT8" in flags
        if layer._operator == "Conv" and not network._is_strong and kind == "FLOAT":
            kind = "INT8" if scaled else "HALF" if "FP16" in flags else kind
        word = "Int8" if quantized and layer._operator == "Conv" else _WORDS.get(kind, kind)
        tensors = [{"Name": "x", "Location": "Device", "Format/Datatype": f"Row major {word.upper()} format"}]
        if version_tuple(__version__) >= (11,):
            tensors = [{"Name": "x", "Location": "Device", "Format": "Row major", "Datatype": word}]
        else:
            tensors[0]["Format/Datatype"] = {"Half": "Channel major FP16 format"}.get(word, f"Row major {word} format")
        made.append({
            "Name": name, "LayerType": "CaskConvolution" if layer._operator == "Conv" else layer._operator,
            "Inputs": tensors, "Outputs": tensors, "TacticName": "sm72_xmma_fprop",
        })  # fmt: skip
    return made


OnnxParser._module = Runtime._module = sys.modules[__name__]
_RUNTIME = (EngineInspector, ICudaEngine, IExecutionContext, IOutputAllocator, IProfiler)
_NETWORK = (ILayer, ITensor, ParserError, nptype)
cut(globals(), __version__, _TABLE)
for _name in ("get_plugin_registry", "init_libnvinfer_plugins", "nptype"):
    if not is_in(_name, __version__, _TABLE):
        del globals()[_name]
