"""The contract of every power meter: what it measures, how fresh and how fine its values are, and one way to read it.

There are two kinds of value. A power meter gives watts at a moment; its energy is an integral and knows nothing of what
happened between two readings. An energy counter gives joules since some start; its energy is a difference, and only the
two ends of the window are uncertain. `Meter.read` gives one value per rail, in the order of `MeterInfo.rails`; a rail
that cannot be read is an error and never zero.

A meter is one file of this folder: read_ina3221, read_nvml, read_rapl, read_tegrastats. choose_meter picks one.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Optional, Tuple, Type

from hwc.errors import UsageError

QUANTITIES = ("power_w", "energy_j")


@dataclass(frozen=True)
class MeterInfo:
    """What a meter measures and how well. `quantum` and the values are in watts or joules, as `quantity` says.

    Args:
        device: what is measured, in words.
        rails: the parts whose sum is the result; none holds another.
        is_total: whether the sum is all that the device draws; otherwise `omits` says what is left out.
        period_s: seconds between two readings that are taken.
        delay_s: a power reading may be this old, or be the mean over this long a time before it.
        quantum: the step of one rail's values, None where it is not known.
        accuracy: what the maker says about the sensor's own error, which no figure here holds.
    """

    meter: str
    device: str
    quantity: str
    rails: Tuple[str, ...]
    is_total: bool
    omits: str
    period_s: float
    period_source: str
    delay_s: float
    quantum: Optional[float]
    accuracy: str = "not stated by a source"
    notes: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        is_legal = self.quantity in QUANTITIES and self.rails and self.period_s > 0 and self.delay_s >= 0
        if not is_legal or (self.quantum is not None and self.quantum < 0):
            raise UsageError("a meter needs rails, a period and a quantity", got=repr(self))

    @property
    def rail(self) -> str:
        """The rails as one name: "VDD_IN", or "GPU + CPU + SOC"."""
        return " + ".join(self.rails)


class Meter:
    """An open meter. `is_paced`: `read` itself waits for the next value, as a meter that prints lines does."""

    info: MeterInfo
    is_paced = False

    def read(self) -> Tuple[float, ...]:
        """One value per rail, now or, if paced, when the next is there.

        Raises:
            EngineError: a rail could not be read.
        """
        raise NotImplementedError(type(self).__name__)

    def close(self) -> None:
        """Free what was opened; may be called twice."""

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()
