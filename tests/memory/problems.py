"""Random planning problems, the optimum of small ones by trying every order, and minimalloc's files."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import strategies as st

from hwc.artifacts_memory import Buffer

MINIMALLOC = Path(__file__).resolve().parents[2] / "benchmarks" / "minimalloc"


def instance(name: str) -> tuple[Path, int]:
    """The file of an instance and its capacity in bytes."""
    (path,) = MINIMALLOC.glob(f"{name}.*.csv")
    return path, int(path.stem.rsplit(".", 1)[1])


@st.composite
def problems(draw, most=7, alignments=(1,), lanes=("",)):
    """Up to `most` small buffers on a short clock, so that many clash and many sizes are equal."""
    buffers = []
    for index in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, 7))
        end = draw(st.integers(start + 1, 8))
        buffers.append(
            Buffer(f"b{index}", draw(st.integers(0, 9)), start, end, draw(st.sampled_from(lanes)),
                   draw(st.sampled_from(alignments)))
        )  # fmt: skip
    return tuple(buffers)


def optimum(buffers: tuple[Buffer, ...]) -> int:
    """The least height: some order of placing each buffer on top of what it clashes with gives it."""
    best = 1 << 60
    for order in itertools.permutations(range(len(buffers))):
        tops: dict[int, int] = {}
        for i in order:
            own = buffers[i]
            below = [tops[j] for j in tops if buffers[j].start < own.end and own.start < buffers[j].end]
            base = max(below, default=0)
            tops[i] = -(-base // own.alignment) * own.alignment + own.size_bytes
            if tops[i] >= best:
                break
        else:
            best = max(tops.values())
    return best


def clash_by_bytes(buffers: tuple[Buffer, ...], offsets: tuple[int, ...]) -> bool:
    """Whether some byte has two owners at some tick, found by marking every one."""
    owners: dict[tuple[int, int], int] = {}
    for i, (buffer, offset) in enumerate(zip(buffers, offsets)):
        for tick in range(buffer.start, buffer.end):
            for byte in range(offset, offset + buffer.size_bytes):
                if owners.setdefault((tick, byte), i) != i:
                    return True
    return False
