"""The steps from an ONNX file to a TensorRT network with its profiles.

One code for the modules `tensorrt_rtx` and `tensorrt` 8.5 to 11: it asks the installed module what it has (`hasattr`)
and never compares versions, since what exists where is not ordered (DLA vanished in 10.8 and came back in 11.4.1).
What is asked and missing is an error.

Typing: where the module has strongly typed networks, the graph's types are the engine's types and no flag is set (11
has nothing else); TensorRT 8 knows only flags, which permit a type and do not promise it. In between, a network is
weakly typed if it must be: an FP32 graph that shall become FP16, INT8 scales beside the graph, or the DLA, which takes
strongly typed networks from 11.4.1 only (https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/inference-library/
dla-strongly-typed-networks.html). So `--fp16` and `--int8` mean the same on every version.

Sources: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/ and NvInfer.h of the releases' tags.

This file is part of the device half: Python 3.8, standard library only; the module is an argument.
"""

# ruff: noqa: UP006, UP007, UP035 - newer spellings are not Python 3.8.

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from hwc.engines.tensorrt_options import Options, Profile
from hwc.errors import EngineError, TargetError, UsageError

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "UINT8": "uint8"}
_DTYPES.update(INT32="int32", INT64="int64", BOOL="bool")
_TYPE_NAMES = {"fp16": "HALF", "bf16": "BF16"}


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


def has_weak_typing(trt: Any) -> bool:
    """Whether types may be asked for by flags: up to TensorRT 10, never in TensorRT for RTX."""
    return hasattr(trt.BuilderFlag, "FP16")


@dataclass(frozen=True)
class Parsed:
    """A network and what made it. The parser owns the weights, so it must live until the build is done."""

    network: Any
    parser: Any
    is_strong: bool
    notes: Tuple[str, ...] = ()


def make_network(trt: Any, builder: Any, logger: Any, model: Path, options: Options, precision: str) -> Parsed:
    """The network of that file, strongly typed where the module can and the graph carries `precision`.

    Raises:
        TargetError: an operator, or a typing or a precision that this module cannot give this graph.
        UsageError: the file cannot be read.
    """
    needs_weak = options.has_calibration or "dla_core" in dict(options.numbers)
    default = "weak" if needs_weak and has_weak_typing(trt) else ""
    is_strong, flags = typing_of(trt, options.typing or default)
    network = builder.create_network(flags)
    parser = parse(trt, network, logger, model)
    lacks = is_strong and precision in _TYPE_NAMES and not carries_type(trt, network, precision)
    if not lacks or options.typing:
        return Parsed(network, parser, is_strong)
    if not has_weak_typing(trt):
        raise TargetError(
            f"the graph holds no {precision} tensor, and this TensorRT takes types from the graph alone",
            got=f"{trt.__name__} {trt.__version__}", expected=f"a graph that hwc converted to {precision}",
            do="compile the model for this target again: the bundle was made for an older TensorRT",
        )  # fmt: skip
    _, flags = typing_of(trt, "weak")
    network = builder.create_network(flags)
    parser = parse(trt, network, logger, model)
    note = f"the graph is FP32, so {precision} is asked for by a flag, in a weakly typed network"
    return Parsed(network, parser, False, (note,))


def carries_type(trt: Any, network: Any, precision: str) -> bool:
    """Whether any tensor of the network has that precision's type; True where no float is in it at all."""
    names = set()
    for index in range(network.num_inputs):
        names.add(network.get_input(index).dtype.name)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        names |= {layer.get_output(output).dtype.name for output in range(layer.num_outputs)}
    return _TYPE_NAMES[precision] in names or "FLOAT" not in names


def typing_of(trt: Any, asked: str = "") -> Tuple[bool, int]:
    """(strongly typed, the flags of create_network). Strong wherever the module has it, unless asked otherwise.

    Raises:
        TargetError: the asked typing does not exist in this module.
    """
    names = trt.NetworkDefinitionCreationFlag
    has_strong, has_weak = hasattr(names, "STRONGLY_TYPED"), has_weak_typing(trt)
    asked = asked or ("strong" if has_strong else "weak")
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


def parse(trt: Any, network: Any, logger: Any, model: Path) -> Any:
    """Fills `network` from the ONNX file; the parser.

    Raises:
        TargetError: an operator is not supported; names it, its node and the parser's words.
    """
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(str(model)):
        return parser
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


def add_profiles(
    builder: Any, config: Any, network: Any, inputs: Sequence[Dict[str, Any]], extra: Sequence[Profile] = ()
) -> int:
    """One optimization profile over all inputs that the network leaves open, then the extra ones; their number.

    Raises:
        UsageError: an extra profile names no open input, or leaves one out.
        EngineError: TensorRT refuses a profile.
    """
    ranges = {spec["name"]: (tuple(spec["min"]), tuple(spec["opt"]), tuple(spec["max"])) for spec in inputs}
    tensors = {tensor.name: tensor for tensor in (network.get_input(index) for index in range(network.num_inputs))}
    names = [name for name, tensor in tensors.items() if -1 in tuple(tensor.shape)]
    for asked in extra:
        ranks_fit = all(len(asked[name][0]) == len(ranges[name][0]) for name in asked if name in ranges)
        if set(asked) != set(names) or not ranks_fit:
            raise UsageError(
                "an extra optimization profile does not fit the network",
                expected=f"every open input once: {', '.join(names) or 'this network has none'}", got=repr(asked),
            )  # fmt: skip
    profiles = [{name: ranges[name] for name in names}, *extra] if names else []
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name, (low, best, high) in shapes.items():
            profile.set_shape(name, low, best, high)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError("TensorRT refuses the optimization profile", got=repr(shapes), do="check the ranges")
    return len(profiles)
