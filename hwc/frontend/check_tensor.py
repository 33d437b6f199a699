"""What the tensors and declared types of an ONNX file must fulfil, checked on the protobuf messages.

1. sizes: a known dtype, no negative dimension, at most MAX_ELEMENTS elements;
2. data: in the field that the format prescribes for the dtype, and exactly as much as dtype and dimensions imply;
3. external data: a plain file inside the model's folder (no '..', no absolute path, no link out of it), with the
   tensor's range inside the file. A model must not be able to name /etc/passwd as a weight.

Sources: https://onnx.ai/onnx/repo-docs/IR.html, onnx.proto (fields of TensorProto),
https://onnx.ai/onnx/repo-docs/ExternalData.html.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from hwc.errors import UsageError

MAX_ELEMENTS = 2**48  # of one tensor: beyond any memory, and products of few such sizes still fit 64 bits


def check_type(type_proto: Any, name: str, depth: int = 0) -> None:
    """Dimensions of a declared type; 0 and below mean nothing for an input."""
    if depth > 4:
        raise UsageError(f"the type of '{name}' is nested too deep")
    kind = type_proto.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        check_type(getattr(type_proto, kind).elem_type, name, depth + 1)
    elif kind == "map_type":
        check_type(type_proto.map_type.value_type, name, depth + 1)
    elif kind == "sparse_tensor_type":
        raise UsageError(f"'{name}' is a sparse tensor", do="export with dense tensors")
    elif kind == "tensor_type" and type_proto.tensor_type.HasField("shape"):
        dims = [dim.dim_value for dim in type_proto.tensor_type.shape.dim if dim.HasField("dim_value")]
        # paddle2onnx writes -1 for a dimension that is open; `forget_open_dims` reads it so.
        _check_dims([dim for dim in dims if dim != -1], f"'{name}'")


def _check_dims(dims: list[int], where: str) -> int:
    if any(dim < 0 for dim in dims) or math.prod(dims) > MAX_ELEMENTS:
        raise UsageError(
            f"{where} has impossible dimensions", expected=f"none negative, at most 2^{MAX_ELEMENTS.bit_length() - 1} "
            "elements", got="x".join(map(str, dims))[:200],
        )  # fmt: skip
    return math.prod(dims)


def check_tensor(tensor: Any, where: str, folder: Path | None) -> None:
    """Checks one TensorProto.

    Args:
        where: what the message calls it.
        folder: the model's; None refuses external data.

    Raises:
        UsageError: see the module's docstring.
    """
    import onnx
    import onnx_ir as ir

    if tensor.HasField("segment"):
        raise UsageError(f"{where} is stored in segments, which nothing writes any more")
    count = _check_dims(list(tensor.dims), where)
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        raise UsageError(f"{where} has an unknown data type", got=str(tensor.data_type)) from None
    if dtype == ir.DataType.UNDEFINED:
        raise UsageError(f"{where} has no data type")
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if dtype == ir.DataType.STRING:
        if external or tensor.HasField("raw_data") or len(tensor.string_data) != count:
            raise UsageError(f"{where} has the wrong number of strings", expected=str(count))
        return
    size = (count * dtype.bitwidth + 7) // 8
    if external:
        _check_external(tensor, where, folder, size)
        return
    lists = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    filled = [name for name in lists if len(getattr(tensor, name))]
    if tensor.HasField("raw_data"):
        if filled or len(tensor.raw_data) != size:
            raise UsageError(
                f"{where} has the wrong amount of data", expected=f"{size} bytes for {dtype.name} "
                f"{'x'.join(map(str, tensor.dims)) or 'scalar'}", got=f"{len(tensor.raw_data)} bytes",
            )  # fmt: skip
        return
    field = _field_of(dtype)
    if any(name != field for name in filled):
        raise UsageError(f"{where} keeps its data in the wrong field", expected=field, got=", ".join(filled))
    # 2- and 4-bit numbers are packed, a byte to an entry; complex numbers take two entries each.
    per = 2 if dtype.name.startswith("COMPLEX") else 1
    entries = size if dtype.bitwidth in (2, 4) else count * per
    got = len(getattr(tensor, field))
    if got != entries:
        raise UsageError(f"{where} has the wrong amount of data", expected=f"{entries} entries", got=str(got))


def _field_of(dtype: Any) -> str:
    return {
        "FLOAT": "float_data", "COMPLEX64": "float_data", "DOUBLE": "double_data", "COMPLEX128": "double_data",
        "INT64": "int64_data", "UINT32": "uint64_data", "UINT64": "uint64_data",
    }.get(dtype.name, "int32_data")  # fmt: skip


def _check_external(tensor: Any, where: str, folder: Path | None, size: int) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise UsageError(f"{where} lies in another file", got=location, do="load the model from its path")
    parts = location.replace("\\", "/").split("/")
    if not location or "\0" in location or ".." in parts or Path(location).is_absolute() or ":" in parts[0]:
        raise UsageError(f"{where} lies outside the model's folder", expected="a path below it", got=repr(location))
    path = folder / location
    root = os.path.realpath(folder)
    if not os.path.realpath(path).startswith(root.rstrip("/") + "/"):
        raise UsageError(
            f"{where} lies outside the model's folder, behind a link", got=str(path),
            do="copy the model and its data into one folder (cp -L)",
        )  # fmt: skip
    if not path.is_file():
        raise UsageError(f"{where} lies in a file that is not there", got=str(path), do="copy it beside the model")
    stat = path.stat()
    if stat.st_nlink > 1:
        raise UsageError(f"{path.name} is a hard link to a file elsewhere", where=where, do="copy it (cp) instead")
    numbers = {}
    for key in ("offset", "length"):
        text = entries.get(key, "0" if key == "offset" else str(size))
        if not (text.isascii() and text.isdecimal()) or len(text) > 19:
            raise UsageError(f"{where}: the {key} of its external data is no number", got=text[:40])
        numbers[key] = int(text)
    if numbers["length"] != size or numbers["offset"] + size > stat.st_size:
        raise UsageError(
            f"{where} does not fit its external data", expected=f"{size} bytes at offset {numbers['offset']}",
            got=f"length {numbers['length']}; {path.name} has {stat.st_size} bytes",
            do="the data file may be truncated, or belong to another model",
        )  # fmt: skip
