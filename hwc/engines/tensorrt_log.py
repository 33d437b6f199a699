"""Reads the layers of a TensorRT engine back, from the verbose build log or from the engine inspector.

The log is the only witness where no GPU can load the engine: TensorRT for RTX, built ahead of time. With detailed
profiling verbosity the builder ends its log with a section

    VERBOSE Layers:
    Name: n0_myl0_1, LayerType: correlation, Inputs: [ { Name: .., Datatype: Float, .. }], Constants: [..],
      Outputs: [..], TacticName: .., StreamId: 0, Metadata: [ONNX Layer: n0][ONNX Layer: n1]      (one line per layer)
    <empty line>

and says "Total Activation Memory: 18126848 bytes" before it. `engine_inspector` JSON carries the same fields.

A builder that measures kernels (TensorRT, not TensorRT for RTX) names a layer and then the time of its fastest tactic:

    VERBOSE --------------- Timing Runner: stem/conv + stem/relu (CaskConvolution[0x80000009])
    VERBOSE Fastest Tactic: 0x3f243c490d502deb Time: 0.0123                                       (milliseconds)

from 10 on in one line "stem/conv (CaskConvolution[0x80000009]) profiling completed in 0.1 seconds. Fastest Tactic: ..".

Where it drives a DLA it lists each loadable of the engine as "[DlaLayer] {ForeignNode[first layer...last layer]}".

What counts as a kernel: every layer but the bookkeeping of `NO_KERNELS`. By this rule, plain exports of ONNX's
light ResNet-50, Inception-v1 and DenseNet-121 built for SM86 have 71, 98 and 199 kernels (TensorRT for RTX
1.7.1). Kernels that only fill a constant (no inputs, no constants) count, for they run; `count_fills` tells how many.

Limits: the log is not a documented format; a line that does not read is an error, not a missing kernel. A kernel's
precision is the type of the first floating-point or 8-bit tensor that it reads, else of the first that it writes.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from hwc.artifacts import Kernel
from hwc.errors import EngineError

# `signal` and `wait` order streams, `shape_call` computes sizes on the host, `NoOp` names a view.
NO_KERNELS = frozenset(("signal", "wait", "shape_call", "noop"))
_PRECISIONS = {
    "float": "fp32",
    "fp32": "fp32",
    "half": "fp16",
    "fp16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "int8": "int8",
    "fp8": "fp8",
    "int4": "int4",
    "fp4": "fp4",
}
_LINE = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?)"
    r"(?:, StreamId: .*?)?, Metadata: (?P<metadata>.*)$"
)
_DLA_LAYER = re.compile(r"\[DlaLayer\] \{ForeignNode\[(.+)\]\}")
_DATATYPE = re.compile(r"Datatype: (\w+)")
_RUNNERS = (
    re.compile(r"Timing Runner: (?P<name>\S.*?) \(\w+(?:\[0x[0-9a-f]+\])?\)\s*$"),
    re.compile(r"(?:^[A-Z]+ |\[TRT\] )(?P<name>\S.*?) \(\w+(?:\[0x[0-9a-f]+\])?\) profiling completed"),
)
_FASTEST = re.compile(r"Fastest Tactic: 0x[0-9a-fA-F]+ Time: ([0-9.eE+-]+)")


@dataclass(frozen=True)
class Layer:
    """One line of the section. Types are TensorRT's words ("Float", "Half"), in the order of the tensors."""

    name: str
    kind: str
    inputs: Tuple[str, ...]
    constants: Tuple[str, ...]
    outputs: Tuple[str, ...]
    tactic: str
    sources: Tuple[str, ...]


def layers_from_log(text: str) -> Tuple[Layer, ...]:
    """The layers of the last engine in the log.

    Raises:
        EngineError: the log has no such section, or a line of it cannot be read.
    """
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.endswith(" Layers:")]
    if not starts:
        raise EngineError(
            "the build log does not list the engine's layers",
            expected="a line 'Layers:' (profiling verbosity DETAILED and a verbose logger)",
            got=f"{len(lines)} lines without it",
            do="report this TensorRT version; its log has another form",
        )
    layers: List[Layer] = []
    for line in lines[starts[-1] + 1 :]:
        if not line.strip():
            break
        found = _LINE.match(line)
        if found is None:
            raise EngineError(
                "a layer of the build log cannot be read",
                got=line[:120],
                do="report this TensorRT version; its log has another form",
            )
        layers.append(
            Layer(
                name=found.group("name"),
                kind=found.group("kind"),
                inputs=tuple(_DATATYPE.findall(found.group("inputs"))),
                constants=tuple(_DATATYPE.findall(found.group("constants"))),
                outputs=tuple(_DATATYPE.findall(found.group("outputs"))),
                tactic=found.group("tactic"),
                sources=_sources(found.group("metadata")),
            )
        )
    return tuple(layers)


def layers_from_inspector(text: str) -> Tuple[Layer, ...]:
    """The layers of `IEngineInspector.get_engine_information(JSON)`.

    TensorRT 8.5 has no Metadata and joins fused names with " + "; 11 splits "Format/Datatype" in two fields.

    Raises:
        EngineError: not that JSON, or an engine that was built without detailed profiling verbosity.
    """
    try:
        entries = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError("the engine inspector's answer cannot be read", got=repr(error)) from None
    layers: List[Layer] = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise EngineError(
                "the engine inspector gave only names",
                got=str(entry)[:80],
                do="build with profiling verbosity DETAILED",
            )
        name = str(entry.get("Name", ""))
        layers.append(
            Layer(
                name=name,
                kind=str(entry.get("LayerType", "")),
                inputs=_json_types(entry.get("Inputs")),
                constants=_json_types(entry.get("Constants")),
                outputs=_json_types(entry.get("Outputs")),
                tactic=str(entry.get("TacticName", "")),
                sources=_sources(str(entry.get("Metadata", ""))) or _sources_from_name(name),
            )
        )
    return tuple(layers)


def kernels_from_layers(layers: Sequence[Layer]) -> Tuple[Kernel, ...]:
    """The layers that count as kernels, in the order they run."""
    return tuple(
        Kernel(name=layer.name, kind=layer.kind, precision=_precision(layer), sources=layer.sources)
        for layer in layers
        if layer.kind.lower() not in NO_KERNELS
    )


def count_fills(layers: Sequence[Layer]) -> int:
    """Kernels that read nothing: they write a constant at every inference, which folding would save."""
    return sum(not layer.inputs and not layer.constants for layer in layers if layer.kind.lower() not in NO_KERNELS)


def dla_loadables_from_log(text: str) -> Tuple[str, ...]:
    """The loadables that the builder put on the DLA, as it names them: "Conv_0...Relu_9"; empty where it names none."""
    return tuple(_DLA_LAYER.findall(text))


def memory_from_log(text: str) -> Dict[str, Optional[int]]:
    """{"activation_bytes", "weight_bytes"} as the builder reports them, None where it does not."""
    found: Dict[str, Optional[int]] = {}
    for key, word in (("activation_bytes", "Activation"), ("weight_bytes", "Weights")):
        values = re.findall(rf"Total {word} Memory: (\d+) bytes", text)
        found[key] = int(values[-1]) if values else None
    return found


def tactic_milliseconds(text: str, layers: Sequence[Layer]) -> Tuple[float, int]:
    """(the builder's own times of these layers added up, in ms; how many layers have one).

    A layer is timed once per input format, and for several runners; its smallest time counts.
    """
    times: Dict[str, float] = {}
    name = ""
    for line in text.splitlines():
        for pattern in _RUNNERS:
            runner = pattern.search(line)
            name = name if runner is None else runner.group("name")
        fastest = _FASTEST.search(line)
        if fastest is not None and name:
            took = float(fastest.group(1))
            times[name] = min(took, times.get(name, took))
    found = [times[layer.name] for layer in layers if layer.name in times]
    return sum(found), len(found)


def _sources(metadata: str) -> Tuple[str, ...]:
    """Node names of "[ONNX Layer: a][ONNX Layer: b]", each once. A name may itself contain brackets."""
    pieces = metadata.replace("\x1e", "").split("[ONNX Layer: ")[1:]
    names = [piece.strip()[:-1] if piece.strip().endswith("]") else piece.strip() for piece in pieces]
    return tuple(dict.fromkeys(names))


def _sources_from_name(name: str) -> Tuple[str, ...]:
    """Node names in "Conv_0 + Relu_1" or "PWN(Sigmoid_2, Mul_3)"; none in what TensorRT added itself."""
    if name.startswith("Reformatting CopyNode") or "{ForeignNode" in name:
        return ()
    pieces = re.split(r" \+ |, | \|\| ", re.sub(r"PWN\(|\)", "", name))
    return tuple(dict.fromkeys(piece.strip() for piece in pieces if piece.strip()))


def _json_types(tensors: Any) -> Tuple[str, ...]:
    types = []
    for tensor in tensors if isinstance(tensors, list) else ():
        text = str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "")
        # "Row major linear FP16 format (kLINEAR)": the type is one of the words.
        words = [word for word in re.split(r"\W+", text) if word.lower() in _PRECISIONS]
        types.append(words[0] if words else text)
    return tuple(types)


def _precision(layer: Layer) -> str:
    for types in (layer.inputs, layer.constants, layer.outputs):
        for word in types:
            if word.lower() in _PRECISIONS:
                return _PRECISIONS[word.lower()]
    every = (*layer.inputs, *layer.outputs)
    return every[0].lower() if every else "unknown"
