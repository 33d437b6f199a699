"""Brings a bundle to a board: only what is missing there, from the byte where an earlier copy stopped.

    files of the manifest, and the manifest itself last  ->  plan on the board  ->  send each  ->  hashed there

A file is sent by rsync if both sides have it (only the changed blocks of a part travel), else as plain bytes from an
offset. Both end the same way: the board hashes the part and gives it its name. A part that an earlier run or a power
cut left with wrong bytes is found by its hash and sent again whole, once.
Source: rsync(1), --inplace and --partial; the progress line is that of --info=progress2 (rsync 3.1).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwc.artifacts import Bundle
from hwc.bundle import MANIFEST, sha256_file
from hwc.errors import EngineError, UsageError
from hwc.remote.ssh import Connection
from hwc.remote.ssh_errors import LinkCut, last_words

PROGRAM = "hwc.pyz"
PIECE_BYTES = 1 << 18
SMALL_BYTES = 1 << 20
RSYNC = ("rsync", "--inplace", "--partial", "--no-whole-file", "--protect-args", "--info=progress2",
         "--no-human-readable", "--outbuf=L")  # fmt: skip
RSYNC_MINIMUM = (3, 1)

Files = dict[str, list[Any]]  # name -> [sha256, size in bytes], in the order in which they are sent
Item = dict[str, Any]  # name, sha256, size, and how many bytes of it the board has
OnBytes = Callable[[int], None]


@dataclass(frozen=True)
class Plan:
    """What the board said about a set of files."""

    folder: str
    is_current: bool
    send: tuple[Item, ...]
    reused_bytes: int
    free_bytes: int

    @property
    def missing_bytes(self) -> int:
        return sum(max(0, item["size"] - item["have"]) for item in self.send)


def list_files(folder: Path, bundle: Bundle) -> Files:
    """Every file of a verified bundle. First the program, which judges the board, and the manifest at the end.

    Raises:
        UsageError: the bundle has no program for a board.
    """
    if PROGRAM not in bundle.files:
        raise UsageError(
            f"this bundle has no {PROGRAM}: it is not made for a board", where=str(folder),
            got=f"target {bundle.target.name}, engine {bundle.engine.backend}",
            do="compile for a TensorRT target, as `hwc compile MODEL -t agx-xavier`",
        )  # fmt: skip
    names = sorted(bundle.files, key=lambda name: (name != PROGRAM, name))
    files = {name: [bundle.files[name], (folder / name).stat().st_size] for name in names}
    files[MANIFEST] = [sha256_file(folder / MANIFEST), (folder / MANIFEST).stat().st_size]
    return files


def prepare_copy(link: Connection, folder: str, files: Files) -> Plan:
    """Makes DIR.partial on the board and links there what it has of the files; what it lacks is the plan.

    Raises:
        UsageError: the folder of the board is something else, or may not be written.
        EngineError: the disk of the board is too small for what is missing.
    """
    return read_plan(link.call("plan", folder=folder, files=files, write=True), link.host.label)


def read_plan(said: dict[str, Any], label: str) -> Plan:
    """The plan in a board's words, judged by its free space.

    Raises:
        EngineError: the disk of the board is too small for what is missing.
    """
    plan = Plan(said["dir"], said["is_current"], tuple(said["send"]), said["reused_bytes"], said["free_bytes"])
    if plan.missing_bytes > plan.free_bytes:
        raise EngineError(
            "the board's disk is too small for the bundle", where=f"{label}, {plan.folder}",
            expected=f"{show_bytes(plan.missing_bytes)} free", got=f"{show_bytes(plan.free_bytes)} free",
            do="free space there, or choose another disk with --remote-dir; nothing was sent",
        )  # fmt: skip
    return plan


def send_files(
    link: Connection, source: Path, folder: str, items: Sequence[Item], *, use_rsync: bool,
    on_bytes: OnBytes = lambda sent: None,
) -> int:  # fmt: skip
    """Sends those files and has each one hashed on the board.

    Args:
        folder: `Plan.folder`.
        items: of `Plan.send`.
        on_bytes: gets the bytes that are there, over all items, those of earlier runs included.

    Returns:
        Bytes that were not there before.

    Raises:
        LinkCut: a second run goes on from where this one stopped.
        EngineError: the board's disk is full, rsync failed, or the bytes arrived changed twice.
    """
    there = {item["name"]: item["have"] for item in items}
    sent, waiting = 0, list(items)

    def on_item(name: str, at: int) -> None:
        there[name] = at
        on_bytes(sum(there.values()))

    for _ in range(2):
        # A file of one packet is not worth a process of its own.
        large = [item for item in waiting if use_rsync and item["size"] - item["have"] > SMALL_BYTES]
        damaged = _send_stream(link, source, folder, [item for item in waiting if item not in large], on_item)
        damaged += [item["name"] for item in large if not _send_by_rsync(link, source, folder, item, on_item)]
        sent += sum(item["size"] - item["have"] for item in waiting)
        waiting = [{**item, "have": 0} for item in waiting if item["name"] in damaged]
        if not waiting:
            return sent
    raise EngineError(
        f"'{waiting[0]['name']}' arrives changed", where=f"{link.host.label}, {folder}",
        expected=f"sha256 {waiting[0]['sha256']}", do="check the memory and the disks of both machines",
    )  # fmt: skip


def has_rsync() -> bool:
    """Whether this machine has an rsync that reports its progress."""
    if not shutil.which("rsync"):
        return False
    said = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"rsync\s+version (\d+)\.(\d+)", said)
    return found is not None and (int(found[1]), int(found[2])) >= RSYNC_MINIMUM


def show_bytes(count: int) -> str:
    """A size for people: "12.3 MiB"."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _send_stream(
    link: Connection, source: Path, folder: str, items: Sequence[Item], on_item: Callable[[str, int], None]
) -> list[str]:
    """One call for all of them; the names of those that arrived changed."""
    if not items:
        return []

    def pieces() -> Iterator[bytes]:
        for item in items:
            with (source / item["name"]).open("rb") as stream:
                stream.seek(item["have"])
                while piece := stream.read(PIECE_BYTES):
                    yield piece

    def on_message(message: dict[str, Any]) -> None:
        if "at" in message:
            on_item(message["name"], message["at"])

    said = link.call("receive", data=pieces(), on_message=on_message, folder=folder, items=list(items))
    for item in items:
        on_item(item["name"], item["size"])
    return list(said["damaged"])


def _send_by_rsync(
    link: Connection, source: Path, folder: str, item: Item, on_item: Callable[[str, int], None]
) -> bool:
    """Whether it arrived as it was sent."""
    path = source / item["name"]
    target = f"{link.host.address}:{folder}.partial/.parts/{item['sha256']}"
    with link.local([*RSYNC, "-e", link.shell_command(), "--", str(path), target]) as (process, stderr):
        assert process.stdout is not None
        # Its progress line is written over itself: no newline comes before the end.
        while piece := process.stdout.read1(4096):  # type: ignore[attr-defined]
            for found in re.findall(rb"([\d,]+)\s+\d+%", piece):
                on_item(item["name"], int(found.replace(b",", b"")))
        status = process.wait()
        said = stderr.read_text(errors="replace")
    if status != 0:
        if not link.is_alive:
            raise LinkCut
        _raise_rsync(said, status, link.host.label)
    return bool(link.call("settle", folder=folder, item=item)["ok"])


def _raise_rsync(said: str, status: int, label: str) -> None:
    if "No space left on device" in said or "Disk quota exceeded" in said:
        raise EngineError(
            "the board's disk is full", where=label, got=last_words(said),
            do="free space there and run the same command again: it goes on where it stopped",
        )  # fmt: skip
    raise EngineError(
        "rsync failed", where=label, got=f"status {status}: {last_words(said)}",
        do="try again with --no-rsync, which needs nothing on the board but Python",
    )
