"""The nouns of memory planning: what must be stored when, and where it is put.

Time runs in ticks. A buffer is alive in [start, end): it may share bytes with one that ends at its start. A lane is a
queue whose work keeps the buffer alive ("" where there is one queue, else as "copy", "compute", "host"). Ticks of one
lane are ordered; two lanes run side by side and only the caller knows where they meet, so buffers of two lanes never
share a byte.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from hwc.errors import UsageError


@dataclass(frozen=True)
class Buffer:
    """Bytes that must stay put from tick `start` up to, not including, tick `end`. `alignment` is in bytes."""

    name: str
    size_bytes: int
    start: int
    end: int
    lane: str = ""
    alignment: int = 1

    def __post_init__(self) -> None:
        if self.size_bytes < 0 or self.start >= self.end or self.alignment < 1:
            raise UsageError(
                "a buffer needs a size of at least 0 bytes, start < end, and an alignment of at least 1 byte",
                where=f"buffer '{self.name}'",
                got=f"{self.size_bytes} bytes, [{self.start}, {self.end}), alignment {self.alignment}",
            )


@dataclass(frozen=True)
class Lane:
    """The part [base_bytes, base_bytes + height_bytes) of the pool that one lane owns, and its proved lower bound."""

    name: str
    base_bytes: int
    height_bytes: int
    bound_bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """Where each buffer is put: offsets[i] is the first byte of buffers[i] in the pool.

    `height_bytes` is the size of the pool; `bound_bytes` is proved: no plan of these buffers is smaller. `method` names
    what found it ("greedy by size", "search, compiled"). `nodes` counts the search's states, 0 where none was needed.
    """

    buffers: Tuple[Buffer, ...]
    offsets: Tuple[int, ...]
    height_bytes: int
    bound_bytes: int
    lanes: Tuple[Lane, ...]
    capacity_bytes: Optional[int] = None
    method: str = ""
    nodes: int = 0
    seconds: float = 0.0

    @property
    def is_optimal(self) -> bool:
        return self.height_bytes == self.bound_bytes

    @property
    def fits(self) -> bool:
        """Whether the plan keeps to the capacity; True where none was given."""
        return self.capacity_bytes is None or self.height_bytes <= self.capacity_bytes

    @property
    def is_impossible(self) -> bool:
        """Whether it is proved that no plan keeps to the capacity."""
        return self.capacity_bytes is not None and self.bound_bytes > self.capacity_bytes

    @property
    def ratio(self) -> float:
        """Height over proved lower bound, 1.0 at best."""
        return self.height_bytes / self.bound_bytes if self.bound_bytes else 1.0
