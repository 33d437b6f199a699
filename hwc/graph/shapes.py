"""Types and shapes of every value, by onnx's own strict inference; and the user's shapes bound to the inputs.

Weights above 1 KiB are left out of what is handed to the C++ inference (they become typed inputs of a throw-away
clone), so a model over protobuf's 2 GiB limit is no special case.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from hwc.artifacts import DynamicDim, TensorSpec
from hwc.errors import InternalError, UsageError

_SMALL_BYTES = 1024  # shape inference needs the values of Reshape, Slice, ... operands, never those of weights


def infer_shapes(model: ir.Model, stage: str = "") -> None:
    """Fills dtype and shape of every value of the main graph, in place; refuses a contradiction.

    Raises:
        InternalError: strict inference failed; `stage` says after what.
    """
    import onnx.shape_inference

    shadow = model.clone()
    for name, value in list(shadow.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _SMALL_BYTES or value.is_graph_input():
            continue
        value.shape = ir.Shape(list(tensor.shape.numpy()))
        value.type = ir.TensorType(tensor.dtype)
        del shadow.graph.initializers[name]
        value.const_value = None
        shadow.graph.inputs.append(value)
    try:
        inferred = onnx.shape_inference.infer_shapes(
            ir.to_proto(shadow), check_type=True, strict_mode=True, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise InternalError(
            f"types or shapes do not fit {stage or 'in this graph'}", got=str(error).strip().replace("\n", " ")[:600]
        ) from None
    # Constant nodes keep large tensors as attributes; `to_proto` carries them, which is fine below 2 GiB.
    known = {info.name: info for info in [*inferred.graph.value_info, *inferred.graph.output]}
    for node in model.graph:
        for value in node.outputs:
            info = known.get(value.name or "")
            if info is not None:
                _take(value, info)


def _take(value: ir.Value, info: object) -> None:
    deduced = ir.serde.deserialize_value_info_proto(info, None)
    if deduced.type is not None:
        value.type = deduced.type
    if deduced.shape is not None:
        value.shape = deduced.shape


def forget_shapes(model: ir.Model) -> None:
    """Drops the shapes of all computed values, so that new input shapes can flow through."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None


def read_specs(values: object) -> tuple[TensorSpec, ...]:
    """The specs of graph inputs or outputs. A symbolic dimension becomes 1..1 .. 1: bind shapes first for a real range.

    Raises:
        UsageError: a value has no known type or rank.
    """
    return tuple(spec_of(value) for value in values)  # type: ignore[attr-defined]


def spec_of(value: ir.Value) -> TensorSpec:
    """The spec of one value; symbolic dimensions that carry no range become `DynamicDim(1, 1, 1)`."""
    if value.dtype is None or value.shape is None:
        raise UsageError(
            f"the type of '{value.name}' is not known", do="give it with --input-shapes, or export with shapes"
        )
    dims = tuple(int(dim) if isinstance(dim, int) else DynamicDim(1, 1, 1) for dim in value.shape)
    return TensorSpec(str(value.name), dtype_name(value.dtype), dims)


def dtype_name(dtype: ir.DataType) -> str:
    """The numpy name of an ONNX element type ("float32"; "object" for strings)."""
    return "object" if dtype == ir.DataType.STRING else str(dtype.numpy().name)


def bind_shapes(model: ir.Model, shapes: Mapping[str, tuple[int | DynamicDim, ...]]) -> tuple[TensorSpec, ...]:
    """Fixes the graph's input shapes in place, re-infers everything, and returns the input specs.

    A dimension that stays dynamic keeps (or gets) a symbolic name in the graph and its range in the spec. Dimensions
    that carry one symbolic name in the file get one size: a batch axis shared by two inputs must agree.

    Args:
        shapes: input name -> dimensions; inputs that are not named keep the shape of the file.

    Raises:
        UsageError: unknown input, wrong rank, a size that contradicts a fixed one, a dimension left open, or shapes
            that some operator of the model cannot take.
    """
    inputs = {str(v.name): v for v in model.graph.inputs if not v.is_initializer()}
    for name in shapes:
        if name not in inputs:
            raise UsageError(f"no input is called '{name}'", expected=", ".join(inputs), got=name)
    symbols: dict[str, int | DynamicDim] = {}
    bound: dict[str, TensorSpec] = {}
    own_dims: dict[str, list[object]] = {}
    # Named inputs first: a symbol that they settle is then known to inputs that share it, whatever their order.
    for name, value in sorted(inputs.items(), key=lambda item: item[0] not in shapes):
        if value.shape is None or value.dtype is None:
            if name not in shapes:
                raise UsageError(f"input '{name}' has no shape in the file", do=f"--input-shapes {name}:1x3x224x224")
            own: list[object] = [None] * len(shapes[name])
        else:
            # Paddle's exporter names every open dimension '?'; that is no symbol that two of them share.
            own = [dim if isinstance(dim, int) else None if dim.value == "?" else dim.value for dim in value.shape]
        asked = shapes.get(name, tuple(own))
        if len(asked) != len(own):
            raise UsageError(
                f"input '{name}' has another rank", expected=f"{len(own)} dimensions", got=f"{len(asked)}: {asked}"
            )
        dims = tuple(_bind(name, i, have, want, symbols) for i, (have, want) in enumerate(zip(own, asked)))
        bound[name] = TensorSpec(name, dtype_name(value.dtype or ir.DataType.FLOAT), dims)
        own_dims[name] = own
    for name, value in inputs.items():
        symbol = [have if isinstance(have, str) else f"{name}_dim{i}" for i, have in enumerate(own_dims[name])]
        value.shape = ir.Shape([d if isinstance(d, int) else symbol[i] for i, d in enumerate(bound[name].shape)])
        if value.type is None:
            value.type = ir.TensorType(ir.DataType.FLOAT)
    declared = {value: value.shape for value in model.graph.outputs}
    forget_shapes(model)
    try:
        infer_shapes(model, "with these input shapes")
    except InternalError as error:
        given = ", ".join(f"{name}:{shape}" for name, shape in shapes.items()) or "the shapes of the file"
        raise UsageError(
            error.what, expected="input shapes that fit the model", got=f"{given}: {error.got}",
            do="give other --input-shapes",
        ) from None
    for value, shape in declared.items():
        if value.shape is None:  # behind an If, inference knows the type alone; the file said more
            value.shape = shape
    return tuple(bound[name] for name in inputs)


def _bind(name: str, index: int, have: object, want: object, symbols: dict[str, int | DynamicDim]) -> int | DynamicDim:
    if isinstance(have, int) and have > 0:
        if isinstance(want, int) and want == have:
            return have
        raise UsageError(
            f"input '{name}' is fixed to {have} in dimension {index}", expected=str(have), got=str(want),
            do="export the model with that dimension dynamic, or with the size you want",
        )
    if isinstance(want, DynamicDim) or (isinstance(want, int) and want > 0):
        if isinstance(have, str) and symbols.setdefault(have, want) != want:
            raise UsageError(f"dimension '{have}' has two sizes", where=f"input '{name}'", expected=str(symbols[have]),
                             got=str(want))
        return want
    if isinstance(have, str) and have in symbols:
        return symbols[have]
    raise UsageError(
        f"input '{name}' leaves dimension {index} open ({have or '?'})",
        do=f"give its size: --input-shapes {name}:... (or --minShapes/--optShapes/--maxShapes)",
    )
