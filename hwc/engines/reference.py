"""The judge: runs an ONNX graph with ONNX's own evaluator, one numpy operator after the other.

It optimizes nothing and shares no code with the other engines, so a difference between it and them is a difference
from what the graph means. It is slow: convolutions are numpy loops, and a ResNet-50 image takes minutes of CPU.

ONNX 1.23's evaluator has no DequantizeLinear below opset 19, and no QuantizeLinear with an axis; TensorRT 8.5 needs
such opsets, so both are written out here, after the operators' own text.

Limits: types are those of the graph, so a precision is not chosen but checked; an operator that the evaluator lacks is
an error, never skipped. Source: https://onnx.ai/onnx/api/reference.html.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwc.artifacts import Engine, Kernel, TensorSpec
from hwc.engines.base import BuildRequest, Session, check_feeds
from hwc.engines.files import copy_model, require_files, staging, total_bytes
from hwc.engines.inspect import check_precision, count_precisions, require_precision
from hwc.errors import EngineError, UsageError

NAME = "reference"
_PRECISIONS = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "DOUBLE": "fp64"}


def build(request: BuildRequest) -> Engine:
    """Copies the ONNX file into `request.out_dir` and checks that every operator of it can be evaluated.

    Raises:
        UsageError: the model is broken, or its inputs and outputs are not those of the request.
        EngineError: the evaluator lacks an operator.
        TargetError: the graph's types are not the precision that was asked.
    """
    require_precision(request.precision)
    if request.options:
        raise UsageError(f"the {NAME} engine has no options", got=", ".join(sorted(request.options)))
    started = time.monotonic()
    with staging(request.out_dir) as folder:
        names = copy_model(request.model, folder)
        request.progress("loading the evaluator", 0.5)
        proto = load_proto(folder / names[0])
        check_borders(proto, request)
        _evaluator(proto)
        kernels = read_nodes(proto)
        notes = check_precision(request.precision, kernels, NAME)
        weights = _weight_bytes(proto)
    request.progress("loading the evaluator", 1.0)
    return Engine(
        backend=NAME,
        state="built",
        key=request.key,
        files=names,
        inputs=request.inputs,
        outputs=request.outputs,
        kernels=kernels,
        size_bytes=total_bytes(request.out_dir, names),
        activation_bytes=None,
        weight_bytes=weights,
        build_seconds=time.monotonic() - started,
        command=(),
        precision_built=count_precisions(kernels),
        notes=("one kernel per node; the evaluator keeps every tensor, so it has no activation figure", *notes),
    )


def open_session(engine: Engine, folder: Path) -> ReferenceSession:
    """The evaluator over the engine's ONNX file.

    Raises:
        EngineError: a file is missing, or the evaluator lacks an operator.
    """
    require_files(folder, engine.files)
    return ReferenceSession(_evaluator(load_proto(folder / engine.files[0])), engine.inputs, engine.outputs)


class ReferenceSession(Session):
    """See `Session`. It cannot time layers."""

    def __init__(self, evaluator: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        self._evaluator = evaluator
        self.inputs = inputs
        self.outputs = outputs

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._evaluator is None:
            raise EngineError("this session is closed", do="open a new session")
        check_feeds(self.inputs, feeds)
        names = [spec.name for spec in self.outputs]
        try:
            values = self._evaluator.run(names, dict(feeds))
        except Exception as error:  # numpy and the evaluator raise whatever the operator's arithmetic raises
            raise EngineError("the reference evaluator failed", got=f"{type(error).__name__}: {error}") from error
        # An output may be the very array that came in (Identity): the caller must own what it gets.
        return {name: np.array(value, copy=True) for name, value in zip(names, values)}

    def close(self) -> None:
        self._evaluator = None


def load_proto(path: Path) -> Any:
    """The ModelProto of an ONNX file with its external data.

    Raises:
        UsageError: not a readable ONNX file.
    """
    import onnx

    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's decode errors share no public base class
        raise UsageError(
            f"cannot read the ONNX file {path.name}",
            where=str(path),
            got=f"{type(error).__name__}: {error}",
            do="export the model again; the file may be truncated",
        ) from None


def check_borders(proto: Any, request: BuildRequest) -> None:
    """Compares the graph's inputs and outputs with those of the request, by name and dtype.

    Raises:
        UsageError: they differ.
    """
    import onnx

    constants = {tensor.name for tensor in proto.graph.initializer}
    pairs = (
        ("input", [value for value in proto.graph.input if value.name not in constants], request.inputs),
        ("output", list(proto.graph.output), request.outputs),
    )
    for word, values, specs in pairs:
        found = {
            value.name: str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)) for value in values
        }
        asked = {spec.name: str(np.dtype(spec.dtype)) for spec in specs}
        # Fewer outputs than the graph has may be asked for; inputs must all be given.
        if any(found.get(name) != dtype for name, dtype in asked.items()) or (word == "input" and found != asked):
            raise UsageError(
                f"the model's {word}s are not those of the request",
                where=request.model.name,
                expected=", ".join(f"{name}: {dtype}" for name, dtype in asked.items()),
                got=", ".join(f"{name}: {dtype}" for name, dtype in found.items()),
            )


def read_nodes(proto: Any) -> tuple[Kernel, ...]:
    """One kernel per node, in graph order; the precision is the type of the node's first floating-point operand."""
    import onnx

    types: dict[str, int] = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    try:
        graph = onnx.shape_inference.infer_shapes(proto).graph
    except Exception as error:  # a graph that cannot be typed cannot be evaluated either
        raise UsageError("the model's types cannot be inferred", got=f"{type(error).__name__}: {error}") from None
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    kernels = []
    for node in proto.graph.node:
        names = [onnx.TensorProto.DataType.Name(types.get(name, 0)) for name in (*node.input, *node.output) if name]
        floats = [_PRECISIONS[name] for name in names if name in _PRECISIONS]
        precision = floats[0] if floats else (names or ["UNDEFINED"])[0].lower()
        name = node.name or (node.output[0] if node.output else node.op_type)
        kernels.append(Kernel(name=name, kind=node.op_type, precision=precision, sources=(name,)))
    return tuple(kernels)


def _evaluator(proto: Any) -> Any:
    # Importing the evaluator costs a second: it loads several hundred operators.
    from onnx.reference import ReferenceEvaluator

    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    try:
        return ReferenceEvaluator(proto, new_ops=_quantization_operators() if 10 <= opset < 19 else None)
    except Exception as error:  # NotImplementedError, RuntimeRefusedError and others by operator and version
        raise EngineError(
            "the reference evaluator cannot run this graph",
            got=f"{type(error).__name__}: {error}",
            do="judge this model with the onnxruntime engine instead",
        ) from error


def _quantization_operators() -> list[type]:
    """QuantizeLinear and DequantizeLinear as opsets 10 to 18 define them.

    y = saturate(round_half_to_even(x / scale) + zero_point), x = (y - zero_point) * scale, with scale and zero point
    either scalars or one per slice along `axis` (https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html).
    """
    from onnx.reference.op_run import OpRun

    # `later` is what opsets 19 to 25 added: the evaluator passes their defaults, which change nothing here.
    def along(axis: int | None, x: np.ndarray, values: np.ndarray) -> np.ndarray:
        if values.ndim == 0 or values.size == 1:
            return values.reshape(())
        sizes = [1] * x.ndim
        sizes[1 if axis is None else axis] = values.size
        return values.reshape(sizes)

    class QuantizeLinear(OpRun):
        op_domain = ""

        def _run(
            self, x: np.ndarray, scale: np.ndarray, zero: Any = None, axis: int | None = None, **later: Any
        ) -> tuple[np.ndarray]:
            zero = np.zeros((), np.uint8) if zero is None else zero
            limits = np.iinfo(zero.dtype)
            steps = np.rint(x / along(axis, x, scale)) + along(axis, x, zero.astype(np.int32))
            return (np.clip(steps, limits.min, limits.max).astype(zero.dtype),)

    class DequantizeLinear(OpRun):
        op_domain = ""

        def _run(
            self, x: np.ndarray, scale: np.ndarray, zero: Any = None, axis: int | None = None, **later: Any
        ) -> tuple[np.ndarray]:
            zero = np.zeros((), x.dtype) if zero is None else zero
            steps = x.astype(np.int32) - along(axis, x, zero.astype(np.int32))
            return ((steps * along(axis, x, scale)).astype(scale.dtype),)

    return [QuantizeLinear, DequantizeLinear]


def _weight_bytes(proto: Any) -> int:
    import onnx

    total = 0
    for tensor in proto.graph.initializer:
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        total += size * int(np.prod(tensor.dims, dtype=np.int64))
    return total
