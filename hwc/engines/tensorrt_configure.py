"""Every option of a build set on TensorRT's builder configuration, or refused by name.

What the installed module has is asked of it (`hasattr`), never its version; what was asked and is missing is an error
that names module and version. Numbers are read back after they were set, because TensorRT answers some wrong values
with a line in its log only.

Limits: options that act at run time (weight streaming, a second stream per layer) are not set here.
Sources: NvInfer.h and the Python bindings of the releases' tags 8.2.1 to 11.1 (https://github.com/NVIDIA/TensorRT).

This file is part of the device half: Python 3.8, standard library only; the module is an argument.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Dict, List, Tuple

from hwc.engines.tensorrt_options import FLAGS, POOLS, Options
from hwc.errors import EngineError, TargetError, UsageError

_NO_DLA = "drop dla_core; TensorRT 10.8 to 11.3 has no DLA even on boards that have one"
_PLAIN_NUMBERS = ("builder_optimization_level", "max_aux_streams", "avg_timing_iterations")


def configure(
    trt: Any, builder: Any, config: Any, options: Options, *, precision: str, capability: str, is_strong: bool,
    has_int8: bool,
) -> Tuple[str, ...]:  # fmt: skip
    """Sets every option on `config`; notes about what was set.

    Args:
        precision: "fp32", "fp16" or "bf16"; a flag where the network is weakly typed.
        capability: a name of `trt.ComputeCapability` to build for, empty for the GPU that is here.
        has_int8: whether Q/DQ or scales beside the graph bring INT8.

    Raises:
        TargetError: something that this module, this machine or this version does not have.
    """
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    notes: List[str] = []
    if "dla_core" in dict(options.numbers):
        _use_dla(trt, builder, config, options, precision, has_int8)
    _set_pools(trt, builder, config, options, notes)
    for name in _PLAIN_NUMBERS:
        if name in dict(options.numbers):
            _set_number(trt, config, name, options.number(name), notes)
    # On by default, and a silent loss of 13 bits of fp32's mantissa.
    if hasattr(trt.BuilderFlag, "TF32") and not options.allow_tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    for name in options.flags:
        _set_flag(trt, config, FLAGS[name])
        notes.append(f"{name} on")
    if not is_strong:
        for name in {"fp16": ["FP16"], "bf16": ["BF16"], "fp32": []}[precision] + ["INT8"] * has_int8:
            _set_flag(trt, config, name)
    if options.hardware_compatibility:
        _set_hardware_compatibility(trt, config, options.hardware_compatibility, notes)
    _set_tactic_sources(trt, config, options, notes)
    if capability:
        _build_for(trt, config, capability)
    return tuple(notes)


def load_plugins(trt: Any, logger: Any, options: Options, folder: Path) -> Tuple[str, ...]:
    """Registers the operators of TensorRT's own plugin library and of the libraries asked for.

    Returns:
        notes about what was loaded.

    Raises:
        EngineError: a library cannot be loaded.
    """
    if hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(logger, "")
    names = options.named("static_plugins") + options.named("dynamic_plugins")
    registry: Any = trt.get_plugin_registry() if names else None
    for name in names:
        path = str((folder / name).resolve())
        try:
            if hasattr(registry, "load_library"):  # 8.6 and newer
                if registry.load_library(path) is None:
                    raise OSError("TensorRT does not load it")
            else:
                ctypes.CDLL(path, ctypes.RTLD_GLOBAL)  # its creators register themselves
        except OSError as error:
            raise EngineError(
                "a plugin library cannot be loaded", where=name, got=str(error),
                do="build it for this machine, CUDA and TensorRT",
            ) from None  # fmt: skip
    return (f"plugins: {', '.join(names)}",) if names else ()


def make_runtime(trt: Any, logger: Any, options: Options) -> Any:
    """A runtime that loads a plan built with these options.

    Raises:
        TargetError: this TensorRT cannot.
    """
    runtime = trt.Runtime(logger)
    if options.has_flag("version_compatible"):
        # Such a plan carries code for the host, which TensorRT runs only where that is allowed.
        require(trt, runtime, "engine_host_code_allowed")
        runtime.engine_host_code_allowed = True
    if options.number("dla_core") >= 0:
        runtime.DLA_core = options.number("dla_core")
    return runtime


def serialize_plugins(trt: Any, config: Any, options: Options, folder: Path) -> None:
    """Puts the dynamic plugin libraries into the plan.

    Raises:
        TargetError: this TensorRT cannot; such plugins exist from 8.6.
    """
    names = options.named("dynamic_plugins")
    if names:
        require(trt, config, "plugins_to_serialize")
        config.plugins_to_serialize = [str((folder / name).resolve()) for name in names]


def require(trt: Any, owner: Any, name: str, do: str = "do not ask for it") -> Any:
    """That attribute of `owner`.

    Raises:
        TargetError: it does not exist; names the module and its version.
    """
    if not hasattr(owner, name):
        raise TargetError(f"this TensorRT has no {name}", got=f"{trt.__name__} {trt.__version__}", do=do)
    return getattr(owner, name)


def _set_flag(trt: Any, config: Any, name: str) -> None:
    config.set_flag(require(trt, trt.BuilderFlag, name))


def _set_number(trt: Any, config: Any, name: str, value: int, notes: List[str]) -> None:
    require(trt, config, name)
    setattr(config, name, value)
    if getattr(config, name) != value:
        raise TargetError(
            f"TensorRT did not take {name}", expected=str(value), got=str(getattr(config, name)),
            where=f"{trt.__name__} {trt.__version__}",
        )  # fmt: skip
    notes.append(f"{name} {value}")


def _set_pools(trt: Any, builder: Any, config: Any, options: Options, notes: List[str]) -> None:
    cores = int(getattr(builder, "num_DLA_cores", 0))
    for name, size in options.pools:
        if name.startswith("dla_") and not cores:
            raise TargetError(f"there is no DLA here, so no pool {name}", got=f"{trt.__name__} {trt.__version__}")
        if hasattr(config, "set_memory_pool_limit"):
            pool = require(trt, trt.MemoryPoolType, POOLS[name][0])
            config.set_memory_pool_limit(pool, size)
            taken = int(config.get_memory_pool_limit(pool))
        elif name == "workspace":
            config.max_workspace_size = size  # up to 8.3
            taken = int(config.max_workspace_size)
        else:
            raise TargetError(f"this TensorRT has no memory pool {name}", got=f"{trt.__name__} {trt.__version__}")
        if taken != size:
            raise TargetError(
                f"TensorRT did not take the limit of pool {name}", expected=f"{size} bytes", got=f"{taken} bytes",
                where=f"{trt.__name__} {trt.__version__}", do="ask for no more than this machine has",
            )  # fmt: skip
        notes.append(f"pool {name} {size} bytes")


def _use_dla(trt: Any, builder: Any, config: Any, options: Options, precision: str, has_int8: bool) -> None:
    core, cores = options.number("dla_core"), int(getattr(builder, "num_DLA_cores", 0))
    if core >= cores:
        raise TargetError(
            f"there is no DLA core {core} here", got=f"{cores} DLA cores with {trt.__name__} {trt.__version__}",
            do=_NO_DLA,
        )  # fmt: skip
    if precision != "fp16" and not has_int8:
        raise UsageError("the DLA computes in FP16 or INT8 only", got=precision, do="compile with --fp16 or --int8")
    # With a plan and a fallback, only the plan's layers are moved (tensorrt_dla.py).
    is_planned = bool(options.named("dla_plan")) and options.has_flag("gpu_fallback")
    config.default_device_type = trt.DeviceType.GPU if is_planned else trt.DeviceType.DLA
    config.DLA_core = core


def _set_hardware_compatibility(trt: Any, config: Any, level: str, notes: List[str]) -> None:
    require(trt, config, "hardware_compatibility_level")
    levels = require(trt, trt, "HardwareCompatibilityLevel")
    config.hardware_compatibility_level = require(trt, levels, level.upper())
    notes.append(f"hardware compatibility {level}")


def _set_tactic_sources(trt: Any, config: Any, options: Options, notes: List[str]) -> None:
    if not options.tactic_sources:
        return
    known: Dict[str, Any] = dict(require(trt, trt, "TacticSource").__members__)
    mask = int(config.get_tactic_sources())
    for name, is_on in options.tactic_sources:
        if name not in known:
            raise TargetError(
                f"this TensorRT has no tactic source {name}", expected=", ".join(known),
                got=f"{trt.__name__} {trt.__version__}",
            )  # fmt: skip
        bit = 1 << int(known[name])
        mask = mask | bit if is_on else mask & ~bit
    if not config.set_tactic_sources(mask):
        raise TargetError("TensorRT refuses these tactic sources", got=f"{trt.__name__} {trt.__version__}")
    on = [name for name, value in known.items() if mask & (1 << int(value))]
    notes.append(f"tactic sources {', '.join(on) or 'none'}")


def _build_for(trt: Any, config: Any, name: str) -> None:
    known = require(trt, trt, "ComputeCapability").__members__
    if name not in known:
        raise TargetError(
            f"{trt.__name__} {trt.__version__} builds nothing for {name}",
            expected=", ".join(key for key in known if key.startswith("SM")),
            got=name,
            do="choose a target with one of these, or its own TensorRT",
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[name], 0)
