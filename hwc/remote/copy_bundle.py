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
from collections.abc import Callable, Iterator
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


class Copy:
    """One bundle on its way to one board; `begin`, then `finish`. A second run goes on where this one stopped.

    Args:
        source: the bundle's folder here.
        on_bytes: gets the bytes that are there, those of earlier runs included.

    Attributes:
        sent_bytes: bytes that were not there before.
    """

    def __init__(
        self, link: Connection, source: Path, files: Files, plan: Plan, on_bytes: OnBytes = lambda count: None
    ) -> None:
        self.sent_bytes = 0
        self._link, self._source, self._files, self._plan, self._on_bytes = link, source, files, plan, on_bytes
        self._there = {item["name"]: item["have"] for item in plan.send}

    def begin(self, timeout_s: float) -> dict[str, Any]:
        """Sends the program, if the board lacks it, and runs its doctor: {"rc", "stdout", "stderr"}.

        Raises:
            LinkCut: the connection went away.
            HwcError: what the board refused.
        """

        def send(items: list[Item]) -> dict[str, Any]:
            return self._stream("copy.begin", items, program=PROGRAM, timeout_s=timeout_s)

        first = [item for item in self._plan.send if item["name"] == PROGRAM]
        doctor = self._until_sound(first, send)["doctor"]
        assert isinstance(doctor, dict)
        return doctor

    def finish(self, *, use_rsync: bool) -> None:
        """Sends the rest; once every file is sound, the folder on the board is the bundle.

        Raises:
            LinkCut: the connection went away.
            EngineError: the board's disk is full, rsync failed, or the bytes arrived changed twice.
        """

        def send(items: list[Item]) -> dict[str, Any]:
            # A file of a few packets is not worth a process of its own.
            large = [item for item in items if use_rsync and item["size"] - item["have"] > SMALL_BYTES]
            for item in large:
                self._send_by_rsync(item)
            return self._stream("copy.finish", [item for item in items if item not in large], copied=large)

        if not self._plan.is_current:
            self._until_sound([item for item in self._plan.send if item["name"] != PROGRAM], send)

    def _until_sound(self, items: list[Item], send: Callable[[list[Item]], dict[str, Any]]) -> dict[str, Any]:
        """Sends the items, and those again whole whose bytes were found wrong, once."""
        for _ in range(2):
            said = send(items)
            self.sent_bytes += sum(item["size"] - item["have"] for item in items)
            items = [{**item, "have": 0} for item in items if item["name"] in said["damaged"]]
            if not items:
                return said
        raise EngineError(
            f"'{items[0]['name']}' arrives changed", where=f"{self._link.host.label}, {self._plan.folder}",
            expected=f"sha256 {items[0]['sha256']}", do="check the memory and the disks of both machines",
        )  # fmt: skip

    def _stream(self, function: str, items: list[Item], **arguments: Any) -> dict[str, Any]:
        """One call, with the bytes of all items."""

        def pieces() -> Iterator[bytes]:
            for item in items:
                with (self._source / item["name"]).open("rb") as stream:
                    stream.seek(item["have"])
                    while piece := stream.read(PIECE_BYTES):
                        yield piece

        def on_message(message: dict[str, Any]) -> None:
            if "at" in message:
                self._note(message["name"], message["at"])

        return self._link.call(
            function, data=pieces(), on_message=on_message, folder=self._plan.folder, files=self._files, items=items,
            **arguments,
        )  # fmt: skip

    def _send_by_rsync(self, item: Item) -> None:
        target = f"{self._link.host.rsync_address}:{self._plan.folder}.partial/.parts/{item['sha256']}"
        argv = [*RSYNC, "-e", self._link.shell_command(), "--", str(self._source / item["name"]), target]
        with self._link.local(argv) as (process, stderr):
            assert process.stdout is not None
            # Its progress line is written over itself: no newline comes before the end.
            while piece := process.stdout.read1(4096):  # type: ignore[attr-defined]
                for found in re.findall(rb"([\d,]+)\s+\d+%", piece):
                    self._note(item["name"], int(found.replace(b",", b"")))
            status = process.wait()
            said = stderr.read_text(errors="replace")
        if status != 0:
            if not self._link.is_alive:
                raise LinkCut
            _raise_rsync(said, status, self._link.host.label)

    def _note(self, name: str, count: int) -> None:
        self._there[name] = count
        self._on_bytes(self._plan.reused_bytes + sum(self._there.values()))


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
