"""Reads an ONNX file into the one form that every pass expects, or says in one message why it cannot.

    read bytes -> check the message (check_proto) -> onnx_ir -> canonicalize -> verify -> infer types and shapes

`canonicalize`, shared with the torch front end: nodes sorted, functions inlined, initializers taken out of the inputs,
Constant nodes and subgraphs' weights lifted to initializers of the main graph, everything named uniquely over all
scopes, and the opset raised to the working one. Weights are never copied: external data stay memory-mapped, so a model
may be larger than memory, and its file beside them at most protobuf's 2 GiB.

Limit: sparse tensors and model functions with graph parameters are refused. What onnx's C++ inference does with a
hostile file is bounded by check_proto before it runs; tests/frontend/test_fuzz.py has tried to break this.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from hwc.errors import HwcError, InternalError, UsageError
from hwc.frontend.check_proto import check_proto, forget_open_dims
from hwc.frontend.convert_opset import convert_opset
from hwc.graph.model import name_everything, opset
from hwc.graph.shapes import forget_shapes, infer_shapes
from hwc.graph.verify import verify_model

WORKING_OPSET = 18  # LayerNormalization is one operator, Reduce axes are operands; torch exports it by default
OLDEST_WORKING_OPSET = 17  # what TensorRT 8.5 parses; files at 17 or above WORKING_OPSET are left as they are
MAX_FILE_BYTES = 2**31 - 1  # protobuf's limit for one message


@dataclass(frozen=True)
class Imported:
    """A canonical graph and what was done to make it one. `notes` are for the report, in the order they happened."""

    model: ir.Model
    notes: tuple[str, ...] = ()


def load_onnx(path: Path, *, working_opset: int = WORKING_OPSET) -> Imported:
    """The file's graph: verified, typed, at `working_opset` if it was older than opset 17.

    Raises:
        UsageError: the file is missing, truncated, hostile, or no legal model.
    """
    path = Path(path)
    with _file_at_fault(f"{path.name} cannot be read as an ONNX model", str(path)):
        proto = _parse(path)
        notes = check_proto(proto, path.absolute().parent)
        if forget_open_dims(proto.graph):
            notes += ("input dimensions of -1 are open",)
        model = ir.from_proto(proto)
        ir.external_data.set_base_dir(model.graph, path.absolute().parent)
        return _finish(model, notes, working_opset)


def import_model(
    model: ir.Model, *, working_opset: int = WORKING_OPSET, source: str = "the exported graph"
) -> Imported:
    """The same for a graph in memory, changed in place; its tensors are taken over as they are.

    Raises:
        UsageError: it is no legal model.
    """
    with _file_at_fault(f"{source} is not a legal ONNX model", source):
        return _finish(model, (), working_opset)


def _finish(model: ir.Model, notes: tuple[str, ...], working_opset: int) -> Imported:
    found = list(notes)
    found += canonicalize(model)
    if opset(model) < OLDEST_WORKING_OPSET:
        # Adapters ask for ranks and types; before them only what is declared can be had.
        found += _infer(model)
        found += convert_opset(model, working_opset)
        name_everything(model)
    verify_model(model, "in the file")
    found += _infer(model)
    return Imported(model, tuple(found))


def _parse(path: Path) -> Any:
    import onnx

    if not path.exists():
        raise UsageError(f"there is no file '{path}'")
    if not path.is_file():
        raise UsageError(f"'{path}' is not a file", do="give the .onnx file itself")
    size = path.stat().st_size
    if size == 0:
        raise UsageError(f"{path.name} is empty", where=str(path), do="export or copy it again")
    if size > MAX_FILE_BYTES:
        raise UsageError(
            f"{path.name} is larger than protobuf can read", expected=f"at most {MAX_FILE_BYTES} bytes",
            got=f"{size} bytes", do="save it with external data (onnx.save(..., save_as_external_data=True))",
        )  # fmt: skip
    content = path.read_bytes()
    try:
        return onnx.ModelProto.FromString(content)
    except Exception:  # protobuf's DecodeError lives in a package that may be any of three implementations
        kind = next((name for magic, name in _MAGIC if content.startswith(magic)), "")
        if content.startswith(b"version https://git-lfs"):
            raise UsageError(
                f"{path.name} is a pointer of git LFS, not the model", where=str(path), do="run `git lfs pull`"
            ) from None
        raise UsageError(
            f"{path.name} is not an ONNX file, or a truncated one", where=str(path),
            expected="a serialized onnx.ModelProto", got=kind or f"{size} bytes that do not parse",
            do="export or copy it again",
        ) from None  # fmt: skip


_MAGIC = (
    (b"PK\x03\x04", "a zip archive (a torch checkpoint is one)"),
    (b"\x80", "a pickle"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"<", "a web page or XML"),
    (b"{", "JSON"),
    (b"\x89HDF", "HDF5 (Keras)"),
)


@contextmanager
def _file_at_fault(what: str, where: str) -> Iterator[None]:
    """Every failure inside becomes one UsageError: whatever a broken file trips over, the file is at fault."""
    log = logging.getLogger("onnx_ir")
    level = log.level
    log.setLevel(logging.ERROR)  # It warns about what is checked and reported here.
    try:
        yield
    except HwcError as error:
        # The verifier blames a pass by default; here it was the file. A hostile name may be pages long.
        ours = isinstance(error, InternalError)
        place = f"{where}: {error.where}" if error.where and error.where != where else where
        raise UsageError(
            _short(error.what), where=_short(place), expected=_short(error.expected), got=_short(error.got),
            do="the file breaks ONNX's own rules: export it again" if ours else error.do,
        ) from None  # fmt: skip
    except MemoryError:
        raise UsageError(what, where=where, got="it asks for more memory than there is") from None
    except Exception as error:  # see the docstring
        lines = _cause(error).strip().splitlines() or [""]
        raise UsageError(
            what, where=where, got=f"{type(error).__name__}: {lines[0][:300]}", do="export or copy it again"
        ) from None
    finally:
        log.setLevel(level)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 600 else f"{line[:600]} ..."


def _cause(error: BaseException) -> str:
    """onnx_ir wraps errors of its passes and readers; the innermost one says what is wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def canonicalize(model: ir.Model) -> tuple[str, ...]:
    """Steps that change the form of the graph and not its meaning, in place; see the module's docstring.

    Returns:
        Notes on what there was to do.
    """
    import onnx_ir.passes.common as common

    notes = []
    # Value names may be missing or repeated in sibling scopes until here; the passes below go by name.
    _name_uniquely(model)
    if model.functions:
        calls = sum(node.op_identifier() in model.functions for node in model.graph.all_nodes())
        common.InlinePass()(model)
        model.functions.clear()
        _name_uniquely(model)
        notes.append(f"{calls} function calls inlined")
    _sort(model, notes)
    overridable = [v for v in model.graph.inputs if v.is_initializer()]
    common.RemoveInitializersFromInputsPass()(model)
    if overridable and model.ir_version > 3:
        notes.append(f"{len(overridable)} inputs with default values became constants")
    model.ir_version = max(model.ir_version, 4)  # before 4 every initializer had to be an input
    _check_constants(model)
    # Sizes of 0 and 1 too: a Constant node is an operator to engines, an initializer is not.
    before = model.graph.num_nodes()
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if before > model.graph.num_nodes():
        notes.append(f"{before - model.graph.num_nodes()} Constant nodes became initializers")
    common.LiftSubgraphInitializersToMainGraphPass()(model)
    _name_uniquely(model)
    _forget_stale_types(model)
    return tuple(notes)


def _sort(model: ir.Model, notes: list[str]) -> None:
    before = [list(graph) for graph in model.graphs()]
    model.graph.sort()  # subgraphs included
    if before != [list(graph) for graph in model.graphs()]:
        notes.append("nodes were not in order: sorted")


def _name_uniquely(model: ir.Model) -> None:
    """Unique names for nodes and values over all scopes: a subgraph may legally reuse a sibling's names."""
    taken: set[str | None] = {None, ""}

    def claim(value: ir.Value, fallback: str) -> None:
        base = value.name or fallback
        name, count = base, 1
        while name in taken:
            name, count = f"{base}_{count}", count + 1
        if value.name != name:
            value.name = name
        taken.add(name)

    for graph in model.graphs():  # the main graph comes first, so its borders keep their names
        seen: set[int] = set()
        for value in [*graph.inputs, *graph.initializers.values()]:
            if id(value) not in seen:
                claim(value, "input")
                seen.add(id(value))
        for node in graph:
            for value in node.outputs:
                # An output without a name is one that nobody wants.
                if value.name or value.uses() or value.is_graph_output():
                    claim(value, f"{node.name or node.op_type}_out")
    name_everything(model)


def _check_constants(model: ir.Model) -> None:
    kinds = {"value", "value_int", "value_ints", "value_float", "value_floats", "value_string", "value_strings"}
    for node in model.graph.all_nodes():
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and not (
            len(node.attributes) == 1 and set(node.attributes) <= kinds and len(node.outputs) == 1
        ):  # fmt: skip
            raise UsageError(
                "a Constant node has no readable value", where=f"node '{node.name}'", expected="one dense value",
                got=", ".join(node.attributes) or "no attribute",
            )  # fmt: skip


def _forget_stale_types(model: ir.Model) -> None:
    """An initializer is what its tensor says, whatever type the file declares for it."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None:
                value.shape = ir.Shape(list(tensor.shape.numpy()))
                value.type = ir.TensorType(tensor.dtype)


def _infer(model: ir.Model) -> list[str]:
    """Types and shapes; where the file's own declarations contradict its operators, the operators are right."""
    try:
        infer_shapes(model, "in the file")
        return []
    except InternalError:
        forget_shapes(model)
        infer_shapes(model, "in the file")
        return ["shapes declared in the file contradict its operators: recomputed"]


