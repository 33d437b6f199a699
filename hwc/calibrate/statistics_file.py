"""Statistics of many tensors in one .npz file, without pickle, written whole or not at all.

The file holds a header (JSON: key, tensor names, channel axes) and stacked arrays; sums are float64, so what is read is
what was written, bit for bit. Zip's own CRC guards each array. A file that is cut, altered or made for another key is
never used: `read_checkpoint` logs the reason and answers with nothing, `read_statistics` raises.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwc.calibrate.histogram import BINS, Histogram
from hwc.calibrate.tensor_statistics import TensorStatistics
from hwc.errors import EngineError, UsageError

_log = logging.getLogger(__name__)
_NUMBERS = ("samples", "count", "negative", "zeros", "exponent", "channel_count")
_FIGURES = ("min", "max", "sum", "sum_squares", "amax")


def write_statistics(path: Path, statistics: Mapping[str, TensorStatistics], key: str = "") -> None:
    """Writes to a sibling and renames it.

    Raises:
        EngineError: the disk is full or the folder cannot be written.
    """
    items = list(statistics.values())
    axes = [item.channel_axis for item in items]
    header = json.dumps({"key": key, "tensors": list(statistics), "axes": axes})
    arrays: dict[str, np.ndarray] = {
        "header": np.frombuffer(header.encode(), np.uint8),
        "numbers": np.array([_numbers(item) for item in items], np.int64).reshape(len(items), len(_NUMBERS)),
        "figures": np.array([_figures(item) for item in items], np.float64).reshape(len(items), len(_FIGURES)),
        "counts": np.array([item.histogram.counts for item in items], np.int64).reshape(len(items), BINS),
    }
    for index, item in enumerate(items):
        if item.channel_sum is not None and item.channel_amax is not None:
            arrays[f"channel_{index}"] = np.stack([item.channel_sum, item.channel_amax])
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise EngineError(
            "cannot write calibration statistics", where=str(path), got=str(error), do="free the disk or choose another"
        ) from None


def read_statistics(path: Path, key: str | None = None) -> dict[str, TensorStatistics]:
    """Reads what `write_statistics` wrote.

    Raises:
        UsageError: there is no such file, it is damaged, or it was made for another `key`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]).decode())
            if key is not None and header["key"] != key:
                raise UsageError("statistics of another graph, tensors or data", where=str(path))
            return _unpack(header, {name: file[name] for name in file.files})
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(
            "calibration statistics cannot be read",
            where=str(path),
            got=f"{type(error).__name__}: {str(error)[:200]}",
            do="collect them again",
        ) from None


def read_checkpoint(path: Path, key: str) -> dict[str, TensorStatistics]:
    """The statistics of an interrupted pass; none, with the reason in the log, if the file cannot be used."""
    if not path.exists():
        return {}
    try:
        return read_statistics(path, key)
    except UsageError as error:
        _log.warning("the checkpoint %s is not used: %s%s", path, error.what, f" ({error.got})" if error.got else "")
        return {}


def _numbers(item: TensorStatistics) -> tuple[int, ...]:
    histogram = item.histogram
    return item.samples, item.count, item.negative, histogram.zeros, histogram.exponent, item.channel_count


def _figures(item: TensorStatistics) -> tuple[float, ...]:
    return item.min, item.max, item.sum, item.sum_squares, item.histogram.amax


def _unpack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, TensorStatistics]:
    names, axes = header["tensors"], header["axes"]
    shapes = {"numbers": (len(names), len(_NUMBERS)), "figures": (len(names), len(_FIGURES)),
              "counts": (len(names), BINS)}  # fmt: skip
    wrong = [name for name, shape in shapes.items() if arrays[name].shape != shape]
    if wrong or len(axes) != len(names):
        raise ValueError(f"'{(wrong or ['axes'])[0]}' has another shape than the header says")
    found = {}
    for index, name in enumerate(names):
        samples, count, negative, zeros, exponent, channel_count = map(int, arrays["numbers"][index])
        low, high, total, squares, amax = map(float, arrays["figures"][index])
        histogram = Histogram(arrays["counts"][index].copy(), exponent, zeros, amax)
        if int(histogram.counts.min()) < 0 or histogram.nonzeros + zeros != count:
            raise ValueError(f"the counts of '{name}' do not add up to its {count} elements")
        channel = arrays[f"channel_{index}"] if axes[index] is not None else np.empty((2, 0))
        found[name] = TensorStatistics(
            samples, count, low, high, total, squares, negative, histogram, axes[index], channel_count,
            channel[0].copy() if axes[index] is not None else None,
            channel[1].copy() if axes[index] is not None else None,
        )  # fmt: skip
    return found
