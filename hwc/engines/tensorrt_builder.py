"""The steps from an ONNX file to a configured TensorRT builder.

One code for the modules `tensorrt_rtx` and `tensorrt` 8.5 to 11: it asks the installed module what it has (`hasattr`)
and never compares versions, since what exists where is not ordered (DLA vanished in 10.8 and came back in 11.4.1).
What is asked and missing is an error.

Precision: where the module has strongly typed networks, the graph's types are the engine's types and no flag is set;
TensorRT 8.5 and 8.6 know only flags, which permit a type and do not promise it. TF32 is off unless asked.
Sources: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/ and NvInfer.h of the releases' tags.

This file is part of the device half: Python 3.8, standard library only; the module is an argument.
"""

# ruff: noqa: UP006, UP007, UP035 - newer spellings are not Python 3.8.

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from hwc.errors import EngineError, TargetError, UsageError

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "UINT8": "uint8"}
_DTYPES.update(INT32="int32", INT64="int64", BOOL="bool")


def load_module(name: str) -> Any:
    """The TensorRT module.

    Raises:
        EngineError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = "tensorrt-rtx-cu12" if name == "tensorrt_rtx" else "tensorrt"
        raise EngineError(
            f"the Python module '{name}' is not installed",
            got=str(error),
            do=f"pip install {package}, or on a Jetson board install JetPack's python3-libnvinfer",
        ) from None


def typing_of(trt: Any, options: Dict[str, str]) -> Tuple[bool, int]:
    """(strongly typed, the flags of create_network). Strong wherever the module has it, unless asked otherwise.

    Raises:
        TargetError: the asked typing does not exist in this module.
    """
    names = trt.NetworkDefinitionCreationFlag
    has_strong, has_weak = hasattr(names, "STRONGLY_TYPED"), hasattr(trt.BuilderFlag, "FP16")
    asked = options.get("typing", "strong" if has_strong else "weak")
    if (asked == "strong" and not has_strong) or (asked == "weak" and not has_weak):
        raise TargetError(
            f"this TensorRT has no {asked}ly typed networks",
            got=f"{trt.__name__} {trt.__version__}",
            do="drop the option typing",
        )
    # EXPLICIT_BATCH is required up to 9, deprecated in 10 and gone in 11.
    flags = 1 << int(names.EXPLICIT_BATCH) if hasattr(names, "EXPLICIT_BATCH") else 0
    if asked == "strong":
        flags |= 1 << int(names.STRONGLY_TYPED)
    return asked == "strong", flags


def parse(trt: Any, network: Any, logger: Any, model: Path) -> None:
    """Fills `network` from the ONNX file.

    Raises:
        TargetError: an operator is not supported; names it, its node and the parser's words.
    """
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(str(model)):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        raise UsageError("TensorRT cannot read this ONNX file", where=model.name, do="check it with `hwc inspect`")
    first = errors[0]
    # 8.5's ParserError knows only the node's number.
    operator = first.node_operator() if hasattr(first, "node_operator") else "unknown"
    name = first.node_name() if hasattr(first, "node_name") else ""
    raise TargetError(
        f"{trt.__name__} {trt.__version__} does not support operator {operator}",
        where=f"node {first.node()}" + (f" '{name}'" if name else "") + f" of {model.name}",
        got=first.desc() + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""),
        do="rewrite the node with supported operators, or give a plugin for it",
    )


def check_borders(network: Any, request: Dict[str, Any]) -> None:
    """Compares the network's inputs and outputs with the request's.

    Raises:
        UsageError: a name, a type or a static size differs.
    """
    for word, count, get in (
        ("input", network.num_inputs, network.get_input),
        ("output", network.num_outputs, network.get_output),
    ):
        tensors = {tensor.name: tensor for tensor in (get(index) for index in range(count))}
        specs = {spec["name"]: spec for spec in request[word + "s"]}
        if set(tensors) != set(specs):
            raise UsageError(
                f"the model's {word}s are not those of the request",
                expected=", ".join(sorted(specs)),
                got=", ".join(sorted(tensors)),
            )
        for name, tensor in tensors.items():
            dtype = _DTYPES.get(tensor.dtype.name, tensor.dtype.name)
            if dtype != specs[name]["dtype"]:
                raise UsageError(
                    f"{word} '{name}' has another type in TensorRT",
                    expected=specs[name]["dtype"],
                    got=dtype,
                    do="cast it inside the graph; TensorRT before 10 has no int64",
                )
            sizes = zip(tuple(tensor.shape), specs[name]["shape"])
            fits = len(tensor.shape) == len(specs[name]["shape"]) and all(a in (-1, b) for a, b in sizes)
            # Output sizes follow from the inputs; only inputs are ours to set.
            if word == "input" and not fits:
                raise UsageError(
                    f"input '{name}' has other sizes in the ONNX file",
                    expected=str(specs[name]["shape"]),
                    got=str(tuple(tensor.shape)),
                    do="a size may vary only where the ONNX file leaves it open",
                )


def quantized_convolutions(trt: Any, network: Any) -> List[str]:
    """Names of convolutions whose data input comes from a DequantizeLinear."""
    kinds = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantize = getattr(trt.LayerType, "DEQUANTIZE", None)
    made = {layer.get_output(0).name for layer in layers if dequantize is not None and layer.type == dequantize}
    return [layer.name for layer in layers if layer.type in kinds and layer.get_input(0).name in made]


def is_quantized(trt: Any, network: Any) -> bool:
    """Whether Q/DQ layers carry INT8 through the network."""
    kind = getattr(trt.LayerType, "QUANTIZE", None)
    return kind is not None and any(network.get_layer(index).type == kind for index in range(network.num_layers))


def configure(trt: Any, builder: Any, config: Any, request: Dict[str, Any], is_strong: bool, has_int8: bool) -> None:
    """Sets every option of the request on `config`.

    Raises:
        TargetError: a flag, device or compute capability that this module or machine does not have.
    """
    options = request["options"]
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if "workspace_bytes" in options:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options["workspace_bytes"]))
    if "builder_optimization_level" in options:
        _require(trt, config, "builder_optimization_level")
        config.builder_optimization_level = int(options["builder_optimization_level"])
    # On by default, and a silent loss of 13 bits of fp32's mantissa.
    if hasattr(trt.BuilderFlag, "TF32") and options.get("allow_tf32") != "yes":
        config.clear_flag(trt.BuilderFlag.TF32)
    if not is_strong:
        wanted = {"fp16": ["FP16"], "bf16": ["BF16"], "fp32": []}[request["precision"]] + ["INT8"] * has_int8
        for name in wanted:
            _require(trt, trt.BuilderFlag, name)
            config.set_flag(getattr(trt.BuilderFlag, name))
    if "dla_core" in options:
        _use_dla(trt, builder, config, options)
    if request["compute_capability"]:
        _require(trt, trt, "ComputeCapability")
        name = request["compute_capability"]
        if name not in trt.ComputeCapability.__members__:
            known = [key for key in trt.ComputeCapability.__members__ if key.startswith("SM")]
            raise TargetError(
                f"{trt.__name__} {trt.__version__} builds nothing for {name}",
                expected=", ".join(known),
                got=name,
                do="choose a target with one of these, or its own TensorRT",
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.__members__[name], 0)


def _use_dla(trt: Any, builder: Any, config: Any, options: Dict[str, str]) -> None:
    core, cores = int(options["dla_core"]), int(getattr(builder, "num_DLA_cores", 0))
    if core >= cores:
        raise TargetError(
            f"there is no DLA core {core} here",
            got=f"{cores} DLA cores with {trt.__name__} {trt.__version__}",
            do="drop dla_core; TensorRT 10.8 to 11.3 has no DLA even on boards that have one",
        )
    config.default_device_type, config.DLA_core = trt.DeviceType.DLA, core
    if options.get("gpu_fallback") == "yes":
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _require(trt: Any, owner: Any, name: str) -> None:
    if not hasattr(owner, name):
        raise TargetError(
            f"this TensorRT has no {name}", got=f"{trt.__name__} {trt.__version__}", do="do not ask for it"
        )


def add_profile(builder: Any, config: Any, network: Any, inputs: Sequence[Dict[str, Any]]) -> None:
    """One optimization profile over all inputs that the network leaves open."""
    shapes = {spec["name"]: spec for spec in inputs}
    profile, is_open = builder.create_optimization_profile(), False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 in tuple(tensor.shape):
            spec, is_open = shapes[tensor.name], True
            profile.set_shape(tensor.name, tuple(spec["min"]), tuple(spec["opt"]), tuple(spec["max"]))
    if is_open and config.add_optimization_profile(profile) < 0:
        raise EngineError("TensorRT refuses the optimization profile", got=json.dumps(inputs), do="check the ranges")
