"""Samples out of .npz and .npy files, mapped and not read whole, so that memory does not grow with their number.

    .npz   one array per input, by the input's name; the first axis counts samples; `labels` (integers) is optional
    .npy   the array of the only input

Members of an .npz that are stored as they are (np.savez) are memory-mapped in place; compressed ones
(np.savez_compressed) are unpacked once into a temporary file and mapped there. An .npz with the single array "arr_0",
as np.savez(path, x) writes it, serves a model with one input.

Nothing is unpickled: arrays of objects are refused. Format: numpy.lib.format, versions 1.0 to 3.0.
Limit: the checksum of a stored member is not verified, because that would read it whole; `Dataset.digest` tells one
content from another.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hwc.artifacts import TensorSpec
from hwc.errors import UsageError

LABELS = "labels"


class ArrayFile:
    """The rows of an .npz or .npy file.

    Raises:
        UsageError: not such a file, arrays of objects, an input without array, an array without input, or arrays of
            different lengths.
    """

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        self.path = path
        try:
            arrays = _map_npz(path) if path.suffix.lower() == ".npz" else {"": _map_npy(path)}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error,
                NotImplementedError, RuntimeError) as error:  # fmt: skip
            raise UsageError(
                f"cannot read {path.name}", where=str(path), got=str(error).splitlines()[0] if str(error) else "",
                expected="numbers written by np.save, np.savez or np.savez_compressed", do="write the file again",
            ) from None  # fmt: skip
        names = [spec.name for spec in inputs]
        self.labels = None if LABELS in names else arrays.pop(LABELS, None)
        if len(names) == 1 and list(arrays) in ([""], ["arr_0"]):
            arrays = {names[0]: next(iter(arrays.values()))}
        self._check_names(arrays, names)
        self.arrays = {name: arrays[name] for name in names}
        self._check_lengths()

    def _check_names(self, arrays: dict[str, np.ndarray], names: list[str]) -> None:
        if set(arrays) == set(names):
            return
        missing = [name for name in names if name not in arrays]
        what = f"no array for input '{missing[0]}'" if missing else "an array belongs to no input"
        if list(arrays) == [""]:
            what = f"an .npy file feeds one input, and the model has {len(names)}"
        raise UsageError(
            what, where=str(self.path), expected=", ".join([*names, f"{LABELS} (optional)"]),
            got=", ".join(name or "one array" for name in arrays) or "no array",
            do="write it with np.savez(path, **{input name: array})",
        )  # fmt: skip

    def _check_lengths(self) -> None:
        every = {**self.arrays, **({} if self.labels is None else {LABELS: self.labels})}
        lengths = {name: len(array) if array.ndim else -1 for name, array in every.items()}
        if len(set(lengths.values())) != 1 or min(lengths.values()) < 1:
            raise UsageError(
                "the arrays hold different numbers of samples, or none", where=str(self.path),
                expected="one first axis, which counts samples",
                got=", ".join(f"{name} {array.shape}" for name, array in every.items()),
            )  # fmt: skip
        if self.labels is not None and (self.labels.ndim != 1 or self.labels.dtype.kind not in "iu"):
            raise UsageError(
                "labels are one class index per sample", where=str(self.path), expected="integers, one axis",
                got=f"{self.labels.dtype} {self.labels.shape}",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def name(self, index: int) -> str:
        return f"{self.path.name}[{index}]"

    def label(self, index: int) -> int | None:
        return None if self.labels is None else int(self.labels[index])

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Row `index` of each input, copied out of the file."""
        return {name: np.array(array[index]) for name, array in self.arrays.items()}

    def digest(self, index: int) -> str:
        return digest_arrays(self.read(index))


def digest_arrays(arrays: dict[str, np.ndarray]) -> str:
    """sha256 of names, dtypes and values. Shapes are left out, so that a batch axis of 1 makes no difference."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}\0{arrays[name].dtype.str}\0".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _map_npy(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        return _map_at(file, 0)


def _map_npz(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as raw:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.compress_type == zipfile.ZIP_STORED:
                # A local header is 30 bytes, the name and an extra field; the central directory's may differ in length.
                raw.seek(member.header_offset + 26)
                lengths = np.frombuffer(raw.read(4), "<u2")
                arrays[name] = _map_at(raw, member.header_offset + 30 + int(lengths.sum()))
            else:
                with tempfile.TemporaryFile() as unpacked:
                    with archive.open(member) as packed:
                        shutil.copyfileobj(packed, unpacked)
                    unpacked.flush()
                    arrays[name] = _map_at(unpacked, 0)  # the mapping outlives the name and the handle
    return arrays


def _map_at(file: BinaryIO, offset: int) -> np.ndarray:
    file.seek(offset)
    try:
        # 3.0 differs from 2.0 only in the encoding of field names, which plain numbers have not.
        is_first = np.lib.format.read_magic(file) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (SyntaxError, tokenize.TokenError, TypeError, IndexError, OverflowError, UnicodeDecodeError) as error:
        # A header is a Python literal, and numpy lets its parser's errors through.
        raise ValueError(f"the header of an array makes no sense: {error}") from None
    if dtype.hasobject or dtype.kind not in "fiub":
        raise ValueError(f"an array of {dtype}, which is no array of numbers")
    if 0 in shape:
        return np.zeros(shape, dtype)  # nothing to map
    order = "F" if fortran else "C"
    return np.memmap(file, dtype=dtype, mode="r", offset=file.tell(), shape=shape, order=order)  # type: ignore[call-overload]
