"""Judges whether two engines give the same outputs, with tolerances that are stated and have been seen to bite.

An output y passes against its reference r when, element by element,

    |y - r| <= rtol * max|r| + atol

The scale is the largest magnitude of the whole reference tensor: rounding errors of a convolution or a matrix
product are proportional to the sums that went in, so a ratio per element would fail on every small value and a
tolerance that lets those pass would hide real faults (both are known failures of published comparers). NaN must stand
where the reference has NaN, infinities likewise, integers and booleans must be equal.

| precision | rtol | atol | why                                                                              |
|-----------|------|------|----------------------------------------------------------------------------------|
| fp32      | 2e-4 | 1e-5 | sums in another order: eps 1.2e-7 times sqrt(length) times depth, margin about 10 |
| fp16      | 3e-2 | 1e-3 | eps 9.8e-4 per rounding, some 30 roundings deep                                  |
| bf16      | 1e-1 | 1e-2 | eps 7.8e-3 per rounding, some 12 roundings deep                                  |
| int8      | 1e-1 | 1e-2 | an engine against its own Q/DQ graph: sums that tie move integers by one         |

An INT8 engine also passes with a signal 10 dB above the noise: where integers move by one early in a deep network,
single elements end up anywhere (a voxel on the border of a segmentation), while wrong arithmetic drowns the whole
tensor (saturated sums left 1.4 dB on EfficientNet-Lite0).

Passing is about arithmetic, not about accuracy on a task: that is the accuracy guard's to say.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np

from hwc.errors import UsageError


@dataclass(frozen=True)
class Tolerance:
    """`rtol` is relative to the largest magnitude of the reference tensor; `atol` is in the tensor's own unit.

    `sqnr_db`, where given, lets a tensor pass whose noise is so far below the signal, whatever single elements do.
    """

    rtol: float
    atol: float
    sqnr_db: Optional[float] = None


TOLERANCES: Dict[str, Tolerance] = {
    "fp32": Tolerance(2e-4, 1e-5),
    "fp16": Tolerance(3e-2, 1e-3),
    "bf16": Tolerance(1e-1, 1e-2),
    "int8": Tolerance(1e-1, 1e-2, sqnr_db=10.0),
}


@dataclass(frozen=True)
class Difference:
    """How one output differs. `relative` is max_abs over the largest magnitude of the reference."""

    output: str
    max_abs: float
    relative: float
    sqnr_db: float
    passed: bool
    reason: str = ""


def tolerance_of(precision: str) -> Tolerance:
    """The stated tolerance of a precision.

    Raises:
        UsageError: none is stated for it.
    """
    try:
        return TOLERANCES[precision]
    except KeyError:
        raise UsageError(f"no tolerance is stated for '{precision}'", expected=", ".join(TOLERANCES)) from None


def compare_outputs(
    reference: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], tolerance: Tolerance
) -> Tuple[Difference, ...]:
    """One `Difference` per output of the reference, in its order; a missing output fails."""
    result: List[Difference] = []
    for name, expected in reference.items():
        if name not in got:
            result.append(Difference(name, float("inf"), float("inf"), float("-inf"), False, "missing"))
        else:
            result.append(compare_arrays(name, expected, got[name], tolerance))
    return tuple(result)


def compare_arrays(name: str, expected: np.ndarray, got: np.ndarray, tolerance: Tolerance) -> Difference:
    """One output against its reference."""
    worst = float("inf")
    if expected.shape != got.shape:
        return Difference(name, worst, worst, -worst, False, f"shape {got.shape} instead of {expected.shape}")
    if expected.dtype.kind == "c":
        # As pairs of reals: a cast to float64 would drop the imaginary part without a word.
        expected, got = (np.stack([x.real, x.imag], axis=-1) for x in (expected, got))
    # By name, not by kind: bfloat16 and the 8-bit floats of ml_dtypes are of numpy's kind 'V'.
    if "float" not in expected.dtype.name:
        same = bool(np.array_equal(expected, got))
        count = 0 if same else int(np.count_nonzero(expected != got))
        reason = "" if same else f"{count} of {expected.size} elements differ"
        return Difference(name, float(count), float(not same), worst if same else 0.0, same, reason)
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    # NaN compares equal to nothing, so non-finite elements are matched by kind before any arithmetic.
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        same = (finite & np.isfinite(b)) | (a == b) | (np.isnan(a) & np.isnan(b))
        bad = int(a.size - np.count_nonzero(same))
        return Difference(name, worst, worst, -worst, False, f"NaN or infinity in other places ({bad} elements)")
    if not finite.any():
        return Difference(name, 0.0, 0.0, worst, True)
    error = np.abs(a[finite] - b[finite])
    scale = float(np.abs(a[finite]).max())
    max_abs = float(error.max())
    noise, signal = float(np.mean(error**2)), float(np.mean(a[finite] ** 2))
    sqnr = worst if noise == 0 else (10 * float(np.log10(signal / noise)) if signal > 0 else -worst)
    limit = tolerance.rtol * scale + tolerance.atol
    is_quiet = tolerance.sqnr_db is not None and sqnr >= tolerance.sqnr_db
    passed = max_abs <= limit or is_quiet
    noise_part = f", {sqnr:.1f} dB" if tolerance.sqnr_db is not None else ""
    reason = "" if passed else f"max error {max_abs:.3g} over the limit {limit:.3g}{noise_part}"
    return Difference(name, max_abs, max_abs / scale if scale else max_abs, sqnr, passed, reason)
