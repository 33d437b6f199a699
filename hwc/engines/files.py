"""The files of an engine: which ones an ONNX model consists of, and how they come to lie in a bundle.

An ONNX file may keep its weights in other files beside it. Their names are found by walking the protobuf wire format
(https://protobuf.dev/programming-guides/encoding/): every field is a varint key `number << 3 | wire type`, then a
varint, 8 bytes, a length and that many bytes, or 4 bytes. Only the fields that can lead to a tensor are entered, so
weights are skipped, not read, and a board needs no `onnx` for it. Limit: what the nodes mean is not checked here.

Everything is written into a hidden folder beside its final place and renamed at the end, so that a killed build leaves
the files of the build before it.

This file is part of the device half: Python 3.8, standard library only.
"""

# ruff: noqa: UP006, UP007, UP035 - newer spellings are not Python 3.8.

from __future__ import annotations

import contextlib
import mmap
import shutil
import tempfile
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, Sequence, Set, Tuple, Union

from hwc.errors import EngineError, UsageError

# Field numbers of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto): message -> field -> message.
_PATHS: Dict[str, Dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
Buffer = Union[bytes, mmap.mmap]


def external_files(model: Path) -> Tuple[str, ...]:
    """Names of the files beside `model` that hold its weights, relative to its folder, sorted.

    Raises:
        UsageError: the file cannot be read, is not an ONNX file, or names a file outside its own folder.
    """
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            names = sorted(set(_locations(data, 0, len(data), "model")))
    except (OSError, ValueError, IndexError) as error:
        raise _unreadable(model, error) from None
    for name in names:
        # A hostile model must not make us copy, or later read, files from elsewhere on this machine.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UsageError(
                f"{model.name} keeps weights outside its own folder",
                where=str(model),
                got=name,
                do="save the model with its external data beside it",
            )
    return tuple(names)


def scan_model(model: Path) -> Tuple[FrozenSet[int], FrozenSet[str]]:
    """(types of the tensors that the file holds, as onnx.TensorProto.DataType numbers; names of its operators).

    Raises:
        UsageError: the file cannot be read or is not an ONNX file.
    """
    types: Set[int] = set()
    operators: Set[str] = set()
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _scan(data, 0, len(data), "model", types, operators)
    except (OSError, ValueError, IndexError) as error:
        raise _unreadable(model, error) from None
    return frozenset(types), frozenset(operators)


def _scan(data: Buffer, start: int, end: int, message: str, types: Set[int], operators: Set[str]) -> None:
    for number, wire, low, high in _fields(data, start, end):
        if message == "tensor" and number == 2 and wire == 0:
            types.add(_varint(data, low)[0])
        elif message == "node" and number == 4 and wire == 2:
            operators.add(data[low:high].decode())
        inner = _PATHS.get(message, {}).get(number)
        if inner is not None and wire == 2:
            _scan(data, low, high, inner, types, operators)


def _unreadable(model: Path, error: Exception) -> UsageError:
    return UsageError(
        f"cannot read the ONNX file {model.name}",
        where=str(model),
        got=f"{type(error).__name__}: {error}",
        do="export the model again; the file may be truncated",
    )


def _locations(data: Buffer, start: int, end: int, message: str) -> Iterator[str]:
    """The `location` entries of every tensor inside data[start:end], which is one `message`."""
    key = value = b""
    for number, wire, low, high in _fields(data, start, end):
        if message == "entry":
            if wire == 2 and number == 1:
                key = data[low:high]
            elif wire == 2 and number == 2:
                value = data[low:high]
            continue
        inner = _PATHS[message].get(number)
        if inner is not None and wire == 2:
            yield from _locations(data, low, high, inner)
    if message == "entry" and key == b"location":
        yield value.decode()


def _fields(data: Buffer, start: int, end: int) -> Iterator[Tuple[int, int, int, int]]:
    """(field number, wire type, first byte, end) of each field in data[start:end]."""
    at = start
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            _, after = _varint(data, at)
        elif wire == 1:
            after = at + 8
        elif wire == 2:
            size, at = _varint(data, at)
            after = at + size
        elif wire == 5:
            after = at + 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if after > end:
            raise ValueError(f"a field at byte {at} reaches past its message")
        yield key >> 3, wire, at, after
        at = after


def _varint(data: Buffer, at: int) -> Tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(f"a varint of more than 10 bytes at byte {at}")


def copy_model(model: Path, folder: Path) -> Tuple[str, ...]:
    """Copies the ONNX file and its external data into `folder`; names of the copies, the ONNX file first."""
    names = (model.name,) + external_files(model)
    for name in names:
        source, copy = model.parent / name, folder / name
        if not source.is_file():
            raise UsageError(
                f"{model.name} keeps weights in '{name}', which is missing",
                where=str(source),
                do="keep the ONNX file and its external data in one folder",
            )
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(source), str(copy))
    return names


@contextlib.contextmanager
def staging(out_dir: Path) -> Iterator[Path]:
    """A hidden folder inside `out_dir` whose files are moved into `out_dir` at the end, or removed on any error.

    Raises:
        EngineError: the disk is full or not writable.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".building-", dir=str(out_dir)))
    except OSError as error:
        raise _cannot_write(out_dir, error) from None
    try:
        yield folder
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                final = out_dir / path.relative_to(folder)
                final.parent.mkdir(parents=True, exist_ok=True)
                path.replace(final)
    except OSError as error:
        raise _cannot_write(out_dir, error) from error
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)


def _cannot_write(folder: Path, error: OSError) -> EngineError:
    return EngineError(
        "cannot write the engine's files",
        where=str(error.filename or folder),
        got=str(error.strerror or error),
        do="free some disk space or choose another output folder",
    )


def total_bytes(folder: Path, names: Sequence[str]) -> int:
    """Size of those files of `folder` together."""
    return sum((folder / name).stat().st_size for name in names)


def require_files(folder: Path, names: Sequence[str]) -> None:
    """Refuses to load an engine whose files are not all there.

    Raises:
        EngineError: a file is missing.
    """
    for name in names:
        if not (folder / name).is_file():
            raise EngineError(
                f"the engine's file '{name}' is missing",
                where=str(folder),
                do="compile again, or copy the whole bundle folder",
            )
