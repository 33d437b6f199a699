"""How long a TensorRT build will take and how much memory of the host it will need: an estimate, before it starts.

    seconds = layers * rate * step(level)        peak bytes = base + 4 * bytes of the ONNX file and its weights

`rate` is the median of seconds per layer of earlier builds of this runtime and target on this machine, where a history
of at least three is kept; the interval is their smallest and largest rate. Without one it is 0.02 s per layer, from
builds of TensorRT for RTX 1.7.1 on two x86 cores (light ResNet-50, Inception-v1 and DenseNet-121: 0.010 to 0.026 s),
and the interval reaches from a fifth to twenty times of it, because a builder that measures kernels on a slow GPU does
other work. `step(level)` is 1 at the builder's default optimization level 3 and doubles or halves with each level: a
guess. A history does not tell levels or timing caches apart, so it holds only fresh builds at the default level.

Limit: device memory is not forecast beyond the workspace limit that was asked.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import List, Optional, Tuple

_DEFAULT_RATE_S = 0.02
_DEFAULT_FACTORS = (0.2, 20.0)
_BASE_BYTES = 600 << 20
_WEIGHT_FACTOR = 4
_DEFAULT_LEVEL = 3
_LEAST_RECORDS, _MOST_RECORDS = 3, 50


@dataclass(frozen=True)
class Record:
    """One build as it was: layers of the parsed network, seconds, peak resident bytes of the building process."""

    layers: int
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
            f"estimate: about {self.seconds:.0f} s ({self.low:.0f} to {self.high:.0f}) and "
            f"{self.peak_bytes / 1e9:.1f} GB of host memory, from {self.how}"
        )


def forecast(layers: int, model_bytes: int, level: int = -1, history: Tuple[Record, ...] = ()) -> Forecast:
    """The estimate for a network of so many layers whose file and weights have so many bytes.

    Args:
        level: the builder optimization level, below 0 for the default.
        history: earlier builds of this runtime and target here.
    """
    step = 2.0 ** ((_DEFAULT_LEVEL if level < 0 else level) - _DEFAULT_LEVEL)
    peak = _BASE_BYTES + _WEIGHT_FACTOR * model_bytes
    if len(history) >= _LEAST_RECORDS:
        rates = [record.seconds / max(record.layers, 1) for record in history]
        rate, low, high = statistics.median(rates), min(rates), max(rates)
        how = f"{layers} layers and {len(history)} builds seen here"
        peak = max(peak, int(statistics.median(record.peak_bytes for record in history)))
    else:
        rate, (low, high) = _DEFAULT_RATE_S, (_DEFAULT_RATE_S * factor for factor in _DEFAULT_FACTORS)
        how = f"{layers} layers alone, no build of this kind was seen here yet"
    return Forecast(layers * rate * step, layers * low * step, layers * high * step, peak, how)


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
