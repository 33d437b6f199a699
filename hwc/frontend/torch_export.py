"""Turns a torch module into a canonical graph: torch.export, torch's own ONNX exporter, then `import_model`.

Two steps, because their errors mean different things: `torch.export.export` (strict=False) fails where the module's
Python cannot be traced; the translation fails where ONNX has no operator. Nothing passes through a file, so protobuf's
2 GiB do not matter. The module is put into eval mode and run once first: a failure there is no export's fault.

A dimension that varies becomes `Dim.DYNAMIC(min, max)`: torch finds out by itself which dimensions must be equal, and
fails if the module pins one to a constant. It is traced with its `opt` size, or `max` where that is 1, because
torch treats sizes 0 and 1 as constants.

Limits: tensors only at the border (dicts, lists and tuples of them are flattened); a TorchScript module is traced as
a black box and needs static shapes; quantized and custom operators are torch's to refuse.
Source: https://docs.pytorch.org/docs/2.13/onnx_export.html.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from hwc.artifacts import Dim, DynamicDim
from hwc.errors import UsageError
from hwc.frontend.convert_opset import convert_opset
from hwc.frontend.input_shapes import InputShapes
from hwc.frontend.onnx_file import OLDEST_WORKING_OPSET, WORKING_OPSET, import_model
from hwc.graph.shapes import forget_shapes, infer_shapes

EXPORT_OPSET = 18  # the oldest that torch's exporter writes


@dataclass(frozen=True)
class Example:
    """Inputs for a module: positional and keyword arguments, tensors or containers of tensors.

    `names` are the parameters of `forward` that they go to, in order.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]
    generated: bool = False

    def tensors(self) -> list[Any]:
        """All tensors in the order of the graph's inputs."""
        import torch.utils._pytree as pytree

        return [leaf for leaf in pytree.tree_leaves((self.args, dict(self.kwargs))) if hasattr(leaf, "numpy")]

    def replace(self, tensors: list[Any]) -> Example:
        """The same structure around other tensors."""
        import torch.utils._pytree as pytree

        leaves, spec = pytree.tree_flatten((self.args, dict(self.kwargs)))
        fresh = iter(tensors)
        args, kwargs = pytree.tree_unflatten([next(fresh) if hasattr(x, "numpy") else x for x in leaves], spec)
        return Example(tuple(args), kwargs, self.names, self.generated)


@dataclass(frozen=True)
class Exported:
    """The graph, the example that it was traced with, and notes for the report."""

    model: ir.Model
    example: Example
    notes: tuple[str, ...] = ()


def export_torch(
    module: Any,
    shapes: InputShapes | None = None,
    *,
    example_inputs: Any = None,
    opset: int = WORKING_OPSET,
    seed: int = 0,
) -> Exported:
    """Exports `module`, an nn.Module, a TorchScript module or a torch.export.ExportedProgram.

    Args:
        shapes: of the inputs; needed where there are no example inputs, and wherever a dimension varies.
        example_inputs: what the user's file gave: a tensor, a tuple or list of arguments, or a dict by name.
        seed: of generated inputs: normal floats, integers 0 and 1.

    Raises:
        UsageError: the module fails on its inputs, cannot be traced, or has an operator that ONNX lacks.
    """
    import torch

    shapes = shapes or InputShapes()
    notes: list[str] = []
    if isinstance(module, torch.export.ExportedProgram):
        program = module
        args, kwargs = program.example_inputs or ((), {})
        if shapes.shapes:
            raise UsageError("an exported program has its shapes fixed in it", do="leave --input-shapes away")
        example = Example(tuple(args), kwargs, tuple(program.graph_signature.user_inputs))
        names: list[str] = []
    else:
        if _set_eval(module):
            notes.append("the module was in training mode: exported in eval mode")
        example = make_example(module, shapes, example_inputs, seed)
        names = _output_names(run_module(module, example))
        program = _trace(module, example, shapes)
    model = _translate(program, names, max(opset, EXPORT_OPSET))
    _name_inputs(model, example)
    if isinstance(module, torch.jit.ScriptModule):
        _fix_shapes(model, example)
    imported = import_model(model, source="what torch exported")
    notes += imported.notes
    if opset < EXPORT_OPSET:
        if opset < OLDEST_WORKING_OPSET:
            raise UsageError("no pass works below opset 17", got=str(opset), expected=f"{OLDEST_WORKING_OPSET} or more")
        notes += convert_opset(imported.model, opset)
        infer_shapes(imported.model, f"in opset {opset}")
    return Exported(imported.model, example, tuple(notes))


def _set_eval(module: Any) -> bool:
    training = any(getattr(part, "training", False) for part in module.modules())
    module.eval()
    return training


def run_module(module: Any, example: Example) -> Any:
    """One eager run, without gradients, on copies of the inputs.

    Raises:
        UsageError: the module raised.
    """
    import torch

    copy = example.replace([tensor.clone() for tensor in example.tensors()])
    try:
        with torch.no_grad(), _quiet():
            return module(*copy.args, **copy.kwargs)
    except Exception as error:  # a module may raise anything
        given = ", ".join(f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for t in example.tensors())
        do = "the inputs were made up: give --input-shapes with dtypes, or example_inputs beside the callable"
        raise UsageError(
            f"{type(module).__name__} fails on its inputs before any export",
            where=f"inputs {given}",
            got=first_lines(error),
            do=do if example.generated else "run the module by itself to see the whole error",
        ) from None


def make_example(module: Any, shapes: InputShapes, given: Any, seed: int) -> Example:
    """The user's inputs, or random ones of the given shapes, by the parameter names of `forward`.

    Raises:
        UsageError: a required parameter has neither, or a name does not exist.
    """
    import torch

    names, required = _parameters(module)
    if given is not None:
        if isinstance(given, Mapping):
            unknown = [str(name) for name in given if str(name) not in names]
            if unknown:
                raise UsageError(f"forward has no parameter '{unknown[0]}'", expected=", ".join(names))
            return Example((), {str(name): _tensor(value) for name, value in given.items()}, tuple(map(str, given)))
        args = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        if len(args) > len(names):
            raise UsageError("example_inputs has more inputs than forward takes", expected=", ".join(names))
        return Example(tuple(_tensor(arg) for arg in args), {}, tuple(names[: len(args)]))
    shapes = shapes.for_inputs(required or names[:1]) if "" in shapes.shapes else shapes.for_inputs(names)
    missing = [name for name in required if name not in shapes.shapes]
    if missing:
        raise UsageError(
            f"input '{missing[0]}' has no shape", expected="one for each of: " + ", ".join(required),
            do=f"--input-shapes {missing[0]}:1x3x224x224, or define example_inputs beside the callable",
        )  # fmt: skip
    wanted = [name for name in names if name in shapes.shapes]
    generator = torch.Generator().manual_seed(seed)
    made = [
        _random([_traced_size(dim) for dim in shapes.shapes[name]], shapes.dtypes.get(name, "float32"), generator)
        for name in wanted
    ]
    # Parameters between the given ones may have defaults, so all go by name after the first gap.
    gap = next((i for i, name in enumerate(wanted) if names[i] != name), len(wanted))
    return Example(tuple(made[:gap]), dict(zip(wanted[gap:], made[gap:])), tuple(wanted), generated=True)


def _parameters(module: Any) -> tuple[list[str], list[str]]:
    """Names of forward's parameters, and of those without a default."""
    import inspect

    import torch

    if isinstance(module, torch.jit.ScriptModule):
        arguments = module.forward.schema.arguments[1:]
        return [a.name for a in arguments], [a.name for a in arguments if not a.has_default_value()]
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_ONLY)
    found = [p for p in inspect.signature(module.forward).parameters.values() if p.kind in plain]
    return [p.name for p in found], [p.name for p in found if p.default is inspect.Parameter.empty]


def _tensor(value: Any) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value


def _traced_size(dim: Dim) -> int:
    if isinstance(dim, int):
        return dim
    return dim.opt if dim.opt > 1 else dim.max


def _random(shape: list[int], dtype: str, generator: Any) -> Any:
    import torch

    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return torch.randn(shape, generator=generator).to(kind)
    # 0 and 1 are legal token ids, masks and class numbers alike.
    return torch.randint(0, 2, shape, generator=generator).to(kind)


def _output_names(outputs: Any) -> list[str]:
    """Keys of a flat dict of tensors (or fields of a named tuple); empty if the outputs carry no names."""
    if hasattr(outputs, "_asdict"):
        outputs = outputs._asdict()
    if isinstance(outputs, Mapping) and all(hasattr(value, "numpy") for value in outputs.values()):
        return [str(name) for name in outputs]
    return []


def _trace(module: Any, example: Example, shapes: InputShapes) -> Any:
    import torch

    bound = shapes.for_inputs(list(example.names))
    dynamic = {
        name: {
            axis: torch.export.Dim.DYNAMIC(min=dim.min, max=dim.max)
            for axis, dim in enumerate(bound.shapes.get(name, ()))
            if isinstance(dim, DynamicDim)
        }
        or None
        for name in example.names
    }
    for name, tensor in zip(example.names, [*example.args, *example.kwargs.values()]):
        _check_example(name, tensor, bound.shapes.get(name))
    varies = any(dynamic.values())
    if isinstance(module, torch.jit.ScriptModule):
        return _trace_script(module, example, varies)
    with _failures("torch.export cannot trace the module", "change that code, or give an ONNX file"), _quiet():
        return torch.export.export(
            module, example.args, dict(example.kwargs), dynamic_shapes=dynamic if varies else None, strict=False
        )
    raise AssertionError("unreachable")


def _check_example(name: str, tensor: Any, dims: tuple[Dim, ...] | None) -> None:
    if dims is None or not hasattr(tensor, "shape"):
        return
    fits = len(dims) == tensor.dim() and all(
        size == dim if isinstance(dim, int) else dim.min <= size <= dim.max for size, dim in zip(tensor.shape, dims)
    )
    if not fits:
        raise UsageError(
            f"example_inputs does not fit the shape of '{name}'", expected=str(dims), got=str(tuple(tensor.shape))
        )


def _trace_script(module: Any, example: Example, varies: bool) -> Any:
    """TorchScript has no Python to trace; torch converts its graph instead, for fixed shapes."""
    if varies or example.kwargs:
        raise UsageError(
            "a TorchScript module is exported with fixed shapes, given in order",
            do="give fixed --input-shapes, or the network itself as file.py:callable",
        )
    with _failures("the TorchScript module cannot be exported", "give the network as file.py:callable"), _quiet():
        from torch._export.converter import TS2EPConverter

        return TS2EPConverter(module, example.args, {}).convert()
    raise AssertionError("unreachable")


def _translate(program: Any, output_names: list[str], opset: int) -> ir.Model:
    import torch

    with _failures("torch's exporter has no ONNX for the module", "replace that operator, or give an ONNX file"):
        with _quiet():
            made = torch.onnx.export(
                program, dynamo=True, opset_version=opset, verbose=False, output_names=output_names or None
            )
        assert made is not None
        model: ir.Model = made.model
        return model
    raise AssertionError("unreachable")


def _name_inputs(model: ir.Model, example: Example) -> None:
    """The parameters' own names: torch renames some ("input" becomes "input_1")."""
    if len(model.graph.inputs) == len(example.names) == len(example.tensors()):
        taken = {value.name for node in model.graph for value in node.outputs} | set(model.graph.initializers)
        for value, name in zip(model.graph.inputs, example.names):
            if name not in taken and not value.is_initializer():
                value.name = name


def _fix_shapes(model: ir.Model, example: Example) -> None:
    """The TorchScript converter leaves sizes open that it treated as fixed."""
    for value, tensor in zip(model.graph.inputs, example.tensors()):
        value.shape = ir.Shape(list(tensor.shape))
    forget_shapes(model)
    for value in model.graph.outputs:
        value.shape = None


@contextlib.contextmanager
def _failures(what: str, do: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # torch's exporter wraps anything that the module or torch itself raised
        raise UsageError(what, got=first_lines(error), do=do) from None


def first_lines(error: BaseException, limit: int = 4) -> str:
    """Type and first lines of the innermost cause: torch wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' | '.join(lines[:limit])[:600]}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, logs or prints of torch's; what matters of them is in the exception."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        sink = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
