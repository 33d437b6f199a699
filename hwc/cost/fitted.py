"""The constants that were fitted to published figures, read from `fitted.json`, which `benchmarks.run_estimate` writes.

An interval is a pair of factors around an estimate, between which four in five of the published figures lay when they
were left out of the fit. Three of them, by what the fit knew of the board:

    board         figures of the same board, but of no such network
    architecture  no figure of the board, but of its compute capability
    none          no figure of the compute capability either
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hwc.cost.price_kernels import ARCHITECTURES
from hwc.errors import InternalError

FILE = Path(__file__).parent / "fitted.json"
Factors = tuple[float, float]


@dataclass(frozen=True)
class Fitted:
    """What the file holds; see `fitted.json` for the numbers of rows and the errors behind it.

    Args:
        latency: constants of `price_kernels`.
        dla: constants of `price_dla`, with `low` and `high`, the factors of its interval.
        power: scope -> constants of `price_power`.
        boards: targets with published latencies.
        intervals: "board", "architecture" or "none" -> factors.
    """

    latency: Mapping[str, float]
    dla: Mapping[str, float]
    power: Mapping[str, Mapping[str, Any]]
    boards: tuple[str, ...]
    intervals: Mapping[str, Factors]

    def interval_of(self, target: str, compute_capability: str) -> tuple[str, Factors]:
        """Which of the three intervals holds for a board, and its factors."""
        basis = "board" if target in self.boards else "architecture" if compute_capability in ARCHITECTURES else "none"
        return basis, self.intervals[basis]


@lru_cache(maxsize=1)
def load_fitted() -> Fitted:
    """The shipped constants.

    Raises:
        InternalError: the file is missing or lacks a part.
    """
    try:
        data = json.loads(FILE.read_text(encoding="utf-8"))
        return Fitted(
            latency=data["latency"]["constants"], dla=data["dla"]["constants"], power=data["power"],
            boards=tuple(data["latency"]["boards"]),
            intervals={name: (low, high) for name, (low, high) in data["latency"]["intervals"].items()},
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise InternalError("the fitted constants cannot be read", where=FILE.name, got=str(error),
                            do="`python -m benchmarks.run_estimate` writes them") from None  # fmt: skip
