"""ONNX operators in torch, differentiable: arithmetic, activations, comparisons, reductions and changes of shape.

Each function takes the attributes of a node and its inputs (None for one left out) and returns its first output, or a
tuple of outputs. Semantics are those of the ONNX operator specification at opset 13 to 21
(https://onnx.ai/onnx/operators); operators with windows and normalisations are in `torch_layers.py`.

Operands that are shapes, axes or bounds are int64 tensors and are read as numbers: no gradient flows through them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]


def _integers(value: Any) -> list[int]:
    return [int(item) for item in value.reshape(-1).tolist()]


def _axes(attributes: Attributes, operand: Any, rank: int) -> list[int]:
    """The axes of an operand or of the older attribute, never negative; empty where neither is given."""
    axes = _integers(operand) if operand is not None else list(attributes.get("axes", ()))
    return [axis % rank for axis in axes]


def _clip(attributes: Attributes, x: Any, low: Any = None, high: Any = None) -> Any:
    low = attributes.get("min") if low is None else low.item()
    high = attributes.get("max") if high is None else high.item()
    return x if low is None and high is None else x.clamp(low, high)


def _prelu(_: Attributes, x: Any, slope: Any) -> Any:
    return x.clamp(min=0) + slope * x.clamp(max=0)


def _hard_sigmoid(attributes: Attributes, x: Any) -> Any:
    return (x * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5)).clamp(0, 1)


def _gelu(attributes: Attributes, x: Any) -> Any:
    import torch

    return torch.nn.functional.gelu(x, approximate=attributes.get("approximate", "none"))


def _softmax(attributes: Attributes, x: Any) -> Any:
    return x.softmax(attributes.get("axis", -1))


def _reduction(name: str) -> Operator:
    def reduce(attributes: Attributes, x: Any, axes: Any = None) -> Any:
        dims = _axes(attributes, axes, x.dim())
        if not dims and attributes.get("noop_with_empty_axes", 0):
            return x
        dims = dims or list(range(x.dim()))
        keep = bool(attributes.get("keepdims", 1))
        if name == "l2":
            return (x * x).sum(dims, keepdim=keep).sqrt()
        return getattr(x, name)(dims, keepdim=keep)

    return reduce


def _reshape(attributes: Attributes, x: Any, shape: Any) -> Any:
    sizes = _integers(shape)
    if not attributes.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(attributes: Attributes, x: Any) -> Any:
    axis = attributes.get("axis", 1) % (x.dim() + 1)
    rows = 1
    for size in x.shape[:axis]:
        rows *= size
    return x.reshape(rows, -1)


def _transpose(attributes: Attributes, x: Any) -> Any:
    return x.permute(list(attributes.get("perm", reversed(range(x.dim())))))


def _squeeze(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    dims = _axes(attributes, axes, x.dim()) or [i for i, size in enumerate(x.shape) if size == 1]
    return x.reshape([size for i, size in enumerate(x.shape) if i not in dims])


def _unsqueeze(attributes: Attributes, x: Any, axes: Any = None) -> Any:
    count = len(_integers(axes) if axes is not None else attributes["axes"])
    for axis in sorted(_axes(attributes, axes, x.dim() + count)):
        x = x.unsqueeze(axis)
    return x


def _concat(attributes: Attributes, *parts: Any) -> Any:
    import torch

    return torch.cat(parts, attributes["axis"])


def _split(attributes: Attributes, x: Any, sizes: Any = None) -> Any:
    axis = attributes.get("axis", 0)
    if sizes is not None or "split" in attributes:
        return x.split(_integers(sizes) if sizes is not None else list(attributes["split"]), axis)
    count = attributes["num_outputs"]
    return x.split(-(-x.shape[axis] // count), axis)


def _slice(attributes: Attributes, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    import torch

    first, last = _integers(starts), _integers(ends)
    dims = _integers(axes) if axes is not None else list(range(len(first)))
    strides = _integers(steps) if steps is not None else [1] * len(first)
    for dim, begin, end, step in zip(dims, first, last, strides):
        # Python's own rules for a range of a sequence are ONNX's, so they do the clamping; torch has no negative step.
        kept = range(x.shape[dim])[begin if begin >= -x.shape[dim] else None : _bound(end, x.shape[dim]) : step]
        x = x.index_select(dim, torch.tensor(list(kept), dtype=torch.int64))
    return x


def _bound(end: int, size: int) -> int | None:
    """None for 'past the first element', which a negative step needs and a negative number cannot say."""
    return None if end < -size else end


def _gather(attributes: Attributes, x: Any, indices: Any) -> Any:
    axis = attributes.get("axis", 0) % x.dim()
    wrapped = indices.long() + (indices < 0) * x.shape[axis]
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, wrapped.reshape(-1)).reshape(shape)


def _gather_elements(attributes: Attributes, x: Any, indices: Any) -> Any:
    axis = attributes.get("axis", 0) % x.dim()
    return x.gather(axis, indices.long() + (indices < 0) * x.shape[axis])


def _expand(_: Attributes, x: Any, shape: Any) -> Any:
    import torch

    return x.expand(torch.broadcast_shapes(tuple(x.shape), tuple(_integers(shape))))


def _cast(attributes: Attributes, x: Any) -> Any:
    import onnx_ir as ir
    import torch

    return x.to(getattr(torch, str(ir.DataType(attributes["to"]).numpy())))


def _shape(attributes: Attributes, x: Any) -> Any:
    import torch

    return torch.tensor(list(x.shape)[slice(attributes.get("start", 0), attributes.get("end"))], dtype=torch.int64)


def _divide(_: Attributes, a: Any, b: Any) -> Any:
    import torch

    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _sum(_: Attributes, *terms: Any) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _extreme(name: str) -> Operator:
    def pick(_: Attributes, *terms: Any) -> Any:
        import torch

        best = terms[0]
        for term in terms[1:]:
            best = getattr(torch, name)(best, term)
        return best

    return pick


def _method(name: str) -> Operator:
    """A method of the tensor that takes no attribute."""
    return lambda _, x, *rest: getattr(x, name)(*rest)


OPERATORS: dict[str, Operator] = {
    "Identity": lambda _, x: x, "Dropout": lambda _, x, *rest: x, "Cast": _cast, "Shape": _shape,
    "Add": lambda _, a, b: a + b, "Sub": lambda _, a, b: a - b, "Mul": lambda _, a, b: a * b, "Div": _divide,
    "Pow": lambda _, a, b: a**b, "Sum": _sum, "Max": _extreme("maximum"), "Min": _extreme("minimum"),
    "MatMul": lambda _, a, b: a @ b,
    "Neg": lambda _, x: -x, "Abs": _method("abs"), "Sqrt": _method("sqrt"), "Exp": _method("exp"),
    "Log": _method("log"),
    "Erf": _method("erf"), "Sin": _method("sin"), "Cos": _method("cos"), "Reciprocal": _method("reciprocal"),
    "Floor": _method("floor"), "Ceil": _method("ceil"), "Round": _method("round"), "Sign": _method("sign"),
    "Relu": _method("relu"), "Sigmoid": _method("sigmoid"), "Tanh": _method("tanh"), "Clip": _clip, "PRelu": _prelu,
    "LeakyRelu": lambda a, x: x.clamp(min=0) + a.get("alpha", 0.01) * x.clamp(max=0),
    "HardSigmoid": _hard_sigmoid, "HardSwish": lambda _, x: x * (x / 6 + 0.5).clamp(0, 1), "Gelu": _gelu,
    "Softplus": lambda _, x: x.exp().log1p(), "Swish": lambda a, x: x * (a.get("alpha", 1.0) * x).sigmoid(),
    "Elu": lambda a, x: x.clamp(min=0) + a.get("alpha", 1.0) * (x.clamp(max=0).exp() - 1),
    "Softmax": _softmax, "LogSoftmax": lambda a, x: x.log_softmax(a.get("axis", -1)),
    "Greater": _method("__gt__"), "Less": _method("__lt__"), "Equal": _method("__eq__"),
    "GreaterOrEqual": _method("__ge__"),
    "LessOrEqual": _method("__le__"), "And": _method("logical_and"), "Or": _method("logical_or"),
    "Not": _method("logical_not"), "IsNaN": _method("isnan"),
    "Where": lambda _, condition, a, b: a.where(condition, b),
    "ReduceMean": _reduction("mean"), "ReduceSum": _reduction("sum"), "ReduceMax": _reduction("amax"),
    "ReduceMin": _reduction("amin"), "ReduceL2": _reduction("l2"),
    "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Concat": _concat, "Split": _split, "Slice": _slice, "Gather": _gather, "GatherElements": _gather_elements,
    "Expand": _expand,
}  # fmt: skip
