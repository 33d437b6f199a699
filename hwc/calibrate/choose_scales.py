"""One scale for every tensor that is to become integers.

Tensors that must share a scale (all inputs of one Concat) are judged as one: their histograms are added. A tensor is
uint8 where the engine takes it and every tensor of its share is proved never negative; else int8.

`auto` measures the expected squared error of all methods on the tensor's own histogram and takes the least; of ranges
within 1 % of it, the longest, since data not yet seen may reach further. As `mse` minimises that same error, what
`auto` adds is this preference and the record of who won.

The scale is amax / levels rounded to float32, which is what every engine and file format holds. A tensor that is all
zero, or so small that its scale would be denormal, gets 1 / levels and says so in its `method`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from hwc.artifacts import TensorScale
from hwc.calibrate import entropy, minmax, mse, percentile
from hwc.calibrate.base import INT8_LEVELS, UINT8_LEVELS, Calibrator, expected_error
from hwc.calibrate.tensor_statistics import TensorStatistics, merge_statistics
from hwc.errors import InternalError, UsageError

_log = logging.getLogger(__name__)
METHODS = ("auto", "minmax", "percentile", "entropy", "mse")
ALIASES = {"max": "minmax"}  # as other tools spell it
_NEAR = 1.01  # ratio of squared errors that are taken as equal
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


class Point(Protocol):
    """A tensor that is to become integers; what `hwc.precision` calls a QuantPoint is one."""

    @property
    def tensor(self) -> str: ...
    @property
    def share(self) -> str: ...
    @property
    def is_unsigned(self) -> bool: ...


def choose_scales(
    statistics: Mapping[str, TensorStatistics],
    points: Iterable[Point],
    *,
    method: str = "auto",
    unsigned_allowed: bool,
    percentile_at: float = percentile.DEFAULT_PERCENTILE,
) -> dict[str, TensorScale]:
    """Tensor name -> scale, one per point, equal for points of equal share.

    Args:
        statistics: of every point's tensor.
        method: "auto", "minmax" ("max"), "percentile", "entropy" or "mse".
        unsigned_allowed: whether the engine takes uint8.
        percentile_at: for "percentile" and as a candidate of "auto", in percent.

    Raises:
        UsageError: no such method, or a tensor without elements.
        InternalError: a point without statistics, or one proved never negative that was seen negative.
    """
    calibrators = _calibrators(method, percentile_at)
    shares: dict[str, list[Point]] = {}
    for point in points:
        if point.tensor not in statistics:
            raise InternalError("a quantized tensor was not calibrated", where=point.tensor)
        shares.setdefault(point.share, []).append(point)
    scales: dict[str, TensorScale] = {}
    for members in shares.values():
        names = list(dict.fromkeys(point.tensor for point in members))
        unsigned = unsigned_allowed and all(point.is_unsigned for point in members)
        for name in names if unsigned else ():
            if statistics[name].min < 0:
                raise InternalError(
                    f"tensor '{name}' was proved never negative and is negative", got=f"min {statistics[name].min:.6g}"
                )
        merged = functools.reduce(merge_statistics, [statistics[name] for name in names])
        scale = _scale_of(merged, calibrators, unsigned, is_auto=method == "auto", name=names[0])
        scales.update(dict.fromkeys(names, scale))
    return scales


def choose_best(
    statistics: TensorStatistics, calibrators: Mapping[str, Calibrator], *, levels: int, unsigned: bool
) -> tuple[str, float]:
    """(name, amax) of the calibrator with the least expected squared error, the longest range of those within 1 %."""
    ranges = {name: choose(statistics, levels=levels, unsigned=unsigned) for name, choose in calibrators.items()}
    if not statistics.amax:
        return next(iter(ranges)), 0.0
    errors = dict(zip(ranges, expected_error(statistics, np.array(list(ranges.values())), levels).tolist()))
    limit = min(errors.values()) * _NEAR
    near = [name for name in ranges if errors[name] <= limit]
    best = max(near, key=ranges.__getitem__)
    return best, ranges[best]


def _calibrators(method: str, percentile_at: float) -> dict[str, Calibrator]:
    known: dict[str, Calibrator] = {
        "minmax": minmax.choose,
        "percentile": functools.partial(percentile.choose, percentile=percentile_at),
        "entropy": entropy.choose,
        "mse": mse.choose,
    }
    name = ALIASES.get(method, method)
    if name not in METHODS:
        raise UsageError(f"no calibration method is called '{method}'", expected=", ".join(METHODS), got=method)
    return known if name == "auto" else {name: known[name]}


def _scale_of(
    statistics: TensorStatistics, calibrators: Mapping[str, Calibrator], unsigned: bool, *, is_auto: bool, name: str
) -> TensorScale:
    levels = UINT8_LEVELS if unsigned else INT8_LEVELS
    dtype = "uint8" if unsigned else "int8"
    if is_auto:
        method, amax = choose_best(statistics, calibrators, levels=levels, unsigned=unsigned)
        method = f"auto: {method}"
    else:
        ((method, choose),) = calibrators.items()
        amax = choose(statistics, levels=levels, unsigned=unsigned)
    scale = float(np.float32(amax / levels))
    if scale < _SMALLEST_SCALE:
        reason = "all zero" if not statistics.amax else f"nothing above {statistics.amax:.3g}"
        _log.warning("tensor '%s' holds %s in the calibration data; its scale is 1/%d", name, reason, levels)
        return TensorScale((float(np.float32(1.0 / levels)),), None, dtype, f"{method} ({reason})")
    return TensorScale((scale,), None, dtype, method)
