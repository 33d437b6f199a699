"""Planning problems and their solutions as CSV, in the format of google/minimalloc.

    id,lower,upper,size            one buffer a line; alive in [lower, upper); size in bytes
    alignment,lane                 optional columns: bytes, and the name of a lane
    offset                         in a solution: the first byte

The columns may stand in any order. A column that is not known is refused, since it may forbid what a plan would do
(minimalloc's `gaps` and `hint` are not supported).

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from hwc.artifacts_memory import Buffer, MemoryPlan
from hwc.errors import UsageError

_NEEDED = ("id", "lower", "upper", "size")
_KNOWN = (*_NEEDED, "alignment", "lane", "offset")


def read_problem(path: Path) -> Tuple[Buffer, ...]:
    """The buffers of a problem; offsets, if there are any, are not read.

    Raises:
        UsageError: the file cannot be read, or a line is no buffer; names the line.
    """
    return tuple(buffer for buffer, _ in _read(path))


def read_solution(path: Path) -> Tuple[Tuple[Buffer, ...], Tuple[int, ...]]:
    """The buffers and their offsets in bytes.

    Raises:
        UsageError: as `read_problem`, or a buffer has no offset.
    """
    rows = _read(path)
    offsets: List[int] = []
    for buffer, offset in rows:
        if offset is None:
            raise UsageError(f"buffer '{buffer.name}' has no offset", where=str(path), expected="a column 'offset'")
        offsets.append(offset)
    return tuple(buffer for buffer, _ in rows), tuple(offsets)


def _read(path: Path) -> List[Tuple[Buffer, Optional[int]]]:
    try:
        with open(str(path), encoding="utf-8", newline="") as stream:
            lines = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path}", got=str(error)) from None
    header = [name.strip() for name in lines[0]] if lines else []
    unknown = [name for name in header if name not in _KNOWN]
    if unknown or len(set(header)) < len(header) or any(name not in header for name in _NEEDED):
        raise UsageError(
            "the first line does not name the columns", where=str(path), got=",".join(header),
            expected="id,lower,upper,size and perhaps alignment, lane, offset, each once",
        )
    rows: List[Tuple[Buffer, Optional[int]]] = []
    seen: Dict[str, int] = {}
    for number, cells in enumerate(lines[1:], 2):
        where = f"{path}, line {number}"
        if len(cells) != len(header):
            raise UsageError("a line has another number of cells", where=where, expected=str(len(header)),
                             got=str(len(cells)))  # fmt: skip
        row = dict(zip(header, (cell.strip() for cell in cells)))
        if row["id"] in seen:
            raise UsageError(f"the id '{row['id']}' was used before", where=where, got=f"line {seen[row['id']]}")
        seen[row["id"]] = number
        try:
            numbers = {name: int(row[name]) for name in header if name not in ("id", "lane") and row[name] != ""}
            if any(name not in numbers for name in _NEEDED[1:]):
                raise ValueError("an empty cell")
        except ValueError as error:
            raise UsageError("a line is no buffer", where=where, expected="whole numbers", got=str(error)) from None
        try:
            buffer = Buffer(row["id"], numbers["size"], numbers["lower"], numbers["upper"], row.get("lane", ""),
                            numbers.get("alignment", 1))  # fmt: skip
        except UsageError as error:
            raise UsageError(error.what, where=where, got=error.got) from None
        rows.append((buffer, numbers.get("offset")))
    return rows


def write_solution(path: Path, plan: MemoryPlan) -> None:
    """Writes the plan's buffers with their offsets, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    has_alignment = any(buffer.alignment != 1 for buffer in plan.buffers)
    has_lanes = any(buffer.lane for buffer in plan.buffers)
    header = [*_NEEDED, *(["alignment"] if has_alignment else []), *(["lane"] if has_lanes else []), "offset"]
    rows: List[Sequence[object]] = [header]
    for buffer, offset in zip(plan.buffers, plan.offsets):
        row = {"id": buffer.name, "lower": buffer.start, "upper": buffer.end, "size": buffer.size_bytes,
               "alignment": buffer.alignment, "lane": buffer.lane, "offset": offset}  # fmt: skip
        rows.append([row[name] for name in header])
    partial = Path(f"{path}.{os.getpid()}.partial")
    try:
        with open(str(partial), "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)
        os.replace(str(partial), str(path))
    except OSError as error:
        if partial.exists():
            partial.unlink()
        raise UsageError(f"cannot write {path}", got=str(error), do="choose another -o") from None
