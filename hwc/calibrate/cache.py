"""TensorRT's calibration cache: INT8 scales as text, for the implicit path and the DLA of TensorRT up to 10.

    TRT-8502-EntropyCalibration2        header: TRT-<version>-<algorithm>
    images: 3c010204                    tensor name, colon, space, 8 hex digits: float32 scale, big-endian bits

The scale is amax / 127. <version> is NV_TENSORRT_VERSION_INT of the TensorRT that will read it: major * 1000 +
minor * 100 + patch up to 9 (8.5.2 -> 8502), major * 10000 + minor * 100 + patch from 10 (10.3.0 -> 100300). A builder
whose own version or algorithm differs ignores the whole cache and calibrates anew, so the header is made from the
target's recorded version. TensorRT 11 has no calibrator and reads none.

A name may hold spaces and colons. ': ' inside one is refused when writing, because readers split there (NVIDIA's
ModelOpt takes the first ': '); when reading, the last ': ' counts, so such a line of another tool is still read right.
Exactly 8 digits: NVIDIA's qdq-translator drops leading zeros and its own reader then fails on odd lengths.

Limit: a cache describes symmetric int8 per tensor; weights are not in it, TensorRT takes their ranges itself.
Sources: TensorRT sampleINT8 and developer guide 8.4; NvInferVersion.h of 10.16; ModelOpt's and qdq-translator's code.
"""

from __future__ import annotations

import math
import re
import struct

import numpy as np

from hwc.artifacts import QuantTable, Target, TensorScale
from hwc.calibrate.base import INT8_LEVELS, UINT8_LEVELS
from hwc.errors import TargetError, UsageError

ALGORITHMS = ("EntropyCalibration2", "MinMaxCalibration")
_HEADER = re.compile(r"TRT-([1-9]\d*)-(\w+)")
_DIGITS = re.compile(r"[0-9a-fA-F]{8}")
_LAST_MAJOR = 10


def write_cache(
    table: QuantTable, target: Target, *, algorithm: str = ALGORITHMS[0], convert_unsigned: bool = False
) -> str:
    """The cache of all activation scales in the table, in its order.

    Args:
        algorithm: of the calibrator class that the builder will be given; the DLA takes EntropyCalibration2 only.
        convert_unsigned: write a uint8 scale as the int8 scale of the same range (scale * 255 / 127), half as fine.

    Raises:
        TargetError: the target's TensorRT is not recorded to the patch, or reads no calibration cache.
        UsageError: an algorithm, a scale or a name that a cache cannot hold.
    """
    if algorithm not in ALGORITHMS:
        raise UsageError("no such calibration algorithm", expected=" or ".join(ALGORITHMS), got=algorithm)
    lines = [f"TRT-{version_int(target)}-{algorithm}"]
    for name, scale in table.tensors.items():
        _check_name(name)
        lines.append(f"{name}: {struct.pack('!f', _int8_scale(name, scale, convert_unsigned)).hex()}")
    return "\n".join(lines) + "\n"


def read_cache(text: str) -> tuple[str, dict[str, float]]:
    """(header, tensor name -> scale), the scales with the very bits of the file.

    Raises:
        UsageError: the header or a line is not as described, a name comes twice, or a scale is not positive and finite.
    """
    header, *lines = text.split("\n")
    header = header.rstrip("\r")
    match = _HEADER.fullmatch(header)
    if match is None or match[2] not in ALGORITHMS:
        raise UsageError(
            "this is no TensorRT calibration cache", where="line 1",
            expected=f"TRT-<version>-{' or '.join(ALGORITHMS)}", got=repr(header[:80]),
        )  # fmt: skip
    if lines and not lines[-1]:
        lines.pop()  # the file ends with a newline
    scales: dict[str, float] = {}
    for number, line in enumerate(lines, 2):
        name, colon, digits = line.rstrip("\r").rpartition(": ")
        if not name or not colon or not _DIGITS.fullmatch(digits):
            raise _bad_line(number, "'<tensor name>: <8 hex digits>'", repr(line[-80:]))
        if name in scales:
            raise _bad_line(number, "every tensor once", f"'{name}' again")
        (scale,) = struct.unpack("!f", bytes.fromhex(digits))
        if not 0.0 < scale < math.inf:  # False for NaN too
            raise _bad_line(number, "a positive, finite scale", f"{digits} = {scale}")
        scales[name] = scale
    return header, scales


def version_int(target: Target) -> int:
    """NV_TENSORRT_VERSION_INT of the target's TensorRT.

    Raises:
        TargetError: it is not recorded as major.minor.patch, or is too new to read a calibration cache.
    """
    fact = target.fact("software.tensorrt")
    match = re.fullmatch(r"(\d+)\.(\d{1,2})\.(\d{1,2})(\.\d+)?", str(fact.value))
    if match is None:
        raise TargetError(
            f"{target.name}: the version of TensorRT is not known to the patch, so a calibration cache has no header",
            expected="major.minor.patch", got=str(fact.value), source=fact.source,
            do="record it, or ship the graph with Q/DQ nodes",
        )  # fmt: skip
    major, minor, patch = (int(part) for part in match.groups()[:3])
    if major > _LAST_MAJOR:
        raise TargetError(
            f"{target.name}: TensorRT {major} reads no calibration cache",
            expected=f"TensorRT {_LAST_MAJOR} or older", got=str(fact.value), source=fact.source,
            do="ship the graph with Q/DQ nodes",
        )  # fmt: skip
    return major * (10000 if major >= 10 else 1000) + minor * 100 + patch


def why_no_cache(target: Target) -> str:
    """The reason why `write_cache` refuses this target, for a note; empty if it takes it."""
    try:
        version_int(target)
    except TargetError as error:
        return error.what
    return ""


def _int8_scale(name: str, scale: TensorScale, convert_unsigned: bool) -> float:
    """The float32 value to write."""
    if scale.axis is not None or len(scale.scale) != 1:
        raise UsageError("a calibration cache holds one scale per tensor", where=name, got=f"axis {scale.axis}")
    value = scale.scale[0]
    if scale.dtype != "int8":
        if not convert_unsigned:
            raise UsageError(
                "a calibration cache describes symmetric int8", where=name, got=scale.dtype,
                do="choose scales for an engine without uint8, or ask for the conversion",
            )  # fmt: skip
        value = value * UINT8_LEVELS / INT8_LEVELS
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value))
    if not 0.0 < rounded < math.inf:
        raise UsageError("a scale does not fit float32", where=name, got=repr(value), do="calibrate again")
    return rounded


def _check_name(name: str) -> None:
    if not name or name != name.strip() or ": " in name or re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", name):
        raise UsageError(
            "a calibration cache cannot hold this tensor's name", where=repr(name),
            expected="no ': ', no control characters, no space at either end", do="rename the tensor in the model",
        )  # fmt: skip


def _bad_line(number: int, expected: str, got: str) -> UsageError:
    return UsageError(
        "a calibration cache is damaged", where=f"line {number}", expected=expected, got=got, do="calibrate again"
    )
