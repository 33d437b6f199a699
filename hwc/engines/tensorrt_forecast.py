"""How long a TensorRT build will take and how much memory of the host it will need: an estimate, before it starts.

    seconds = factor * step(level) * (0.5 + 0.0055 * layers + 0.025 * megabytes of the ONNX file and its weights)
    peak    = 0.25 GB + 70 kB * layers + 4 * bytes of the ONNX file and its weights

The constants are a fit, by eye, to eight builds with TensorRT for RTX 1.7.1 on two x86 cores: six light networks of 183
to 6288 layers, and matrix products with 67 and 268 MB of weights; it gave each within a factor of two. `factor` is the
median of measured over fitted seconds in the history of this runtime, target and machine, once that holds three, and
the interval is its smallest and largest. Without a history it is 1 (0.5 to 2) for TensorRT for RTX, which measures
no kernels, and for TensorRT a guess, 10 (1 to 100): no such build was measured yet. `step` is 1 at the builder's
default optimization level 3 and doubles or halves with each level, a guess too. The history holds only builds at the
default level that read no timing cache, because it cannot tell the others apart.

Limit: device memory is not forecast beyond the workspace limit that was asked.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import List, Optional, Tuple

_BASE_S, _LAYER_S, _MEGABYTE_S = 0.5, 0.0055, 0.025
_FACTORS = {"tensorrt_rtx": (1.0, 0.5, 2.0)}  # median, low, high
_GUESSED_FACTORS = (10.0, 1.0, 100.0)
_BASE_BYTES, _LAYER_BYTES, _COPIES = 250_000_000, 70_000, 4
_DEFAULT_LEVEL = 3
_LEAST_RECORDS, _MOST_RECORDS = 3, 50


@dataclass(frozen=True)
class Record:
    """One build as it was: layers of the parsed network, bytes of the ONNX file and its weights, seconds, and the
    largest resident memory of the building process."""

    layers: int
    model_bytes: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Forecast:
    """An estimate. `how` says from what; times in seconds."""

    seconds: float
    low: float
    high: float
    peak_bytes: int
    how: str

    def __str__(self) -> str:
        return (
            f"estimate: about {self.seconds:.2g} s ({self.low:.2g} to {self.high:.2g}) and "
            f"{self.peak_bytes / 1e9:.1f} GB of host memory, from {self.how}"
        )


def forecast(
    module: str, layers: int, model_bytes: int, level: int = -1, history: Tuple[Record, ...] = ()
) -> Forecast:
    """The estimate for a network of so many layers whose file and weights have so many bytes.

    Args:
        module: "tensorrt_rtx" or "tensorrt".
        level: the builder optimization level, below 0 for the default.
        history: earlier builds of this runtime and target here.
    """
    step = 2.0 ** ((_DEFAULT_LEVEL if level < 0 else level) - _DEFAULT_LEVEL)
    peak = _BASE_BYTES + _LAYER_BYTES * layers + _COPIES * model_bytes
    size = f"{layers} layers and {model_bytes / 1e6:.1f} MB"
    if len(history) >= _LEAST_RECORDS:
        ratios = [record.seconds / _fitted_s(record.layers, record.model_bytes) for record in history]
        factors = (statistics.median(ratios), min(ratios), max(ratios))
        how = f"{size}, scaled by {len(history)} builds seen here"
    else:
        factors = _FACTORS.get(module, _GUESSED_FACTORS)
        how = f"{size}; " + ("a fit to builds elsewhere" if module in _FACTORS else "a guess, none was measured yet")
    middle, low, high = (factor * step * _fitted_s(layers, model_bytes) for factor in factors)
    return Forecast(middle, low, high, peak, how)


def _fitted_s(layers: int, model_bytes: int) -> float:
    return _BASE_S + _LAYER_S * layers + _MEGABYTE_S * model_bytes / 1e6


def read_history(path: Optional[Path]) -> Tuple[Record, ...]:
    """The newest records of that file; none where there is no file. Lines that cannot be read are passed over."""
    if path is None or not path.is_file():
        return ()
    records: List[Record] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[-_MOST_RECORDS:]:
        try:
            records.append(Record(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # a line cut off by a killed build; an estimate can do without it
    return tuple(records)


def add_record(path: Path, record: Record) -> None:
    """Adds one line. A folder that cannot be written loses the record and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record), sort_keys=True) + "\n")
    except OSError:
        return
