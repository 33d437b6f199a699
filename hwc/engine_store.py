"""The engines of a board: one folder for each fingerprint, sealed, found again when everything is equal.

    STORE/<key>/            engine.plan and the other files of the engine, engine.json, fingerprint.json, .files.json
    STORE/.<key>.<x>.tmp/   a build under way; renamed to STORE/<key> when it is whole
    STORE/.cache/           what builders keep between builds (timing caches); theirs, not sealed
    STORE/.<key>.lock       held while that engine is built, freed by the kernel when its process ends, however it ends

So a build that is killed leaves nothing that could be taken for an engine, its leavings go with the next build of the
same engine, and a second process that wants the same engine waits for the first and then finds it: a deployment whose
link was cut resumes by being run again. An entry whose files are not as they were sealed is dropped and said.

Limit: locks of `flock` work on one machine; on a network disk, which a store should not be on, two boards may both
build, and the last one in stays. This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

from hwc.artifacts import Engine
from hwc.bundle import full_disk_named
from hwc.errors import EngineError, UsageError
from hwc.fingerprint import Change, Fingerprint, find_changes
from hwc.sealed_folder import find_damage, seal_folder
from hwc.serialize import from_json, to_json

ENGINE, FINGERPRINT = "engine.json", "fingerprint.json"
CACHE = ".cache"
_POLL_S = 0.2


@dataclass(frozen=True)
class Stored:
    """An engine and the folder that holds its files."""

    folder: Path
    engine: Engine
    fingerprint: Fingerprint


@dataclass(frozen=True)
class EngineStore:
    """A folder of engines."""

    root: Path

    def find(self, wanted: Fingerprint, say: Callable[[str], None]) -> Optional[Stored]:
        """The engine of that fingerprint, intact; None where there is none.

        Args:
            say: told when an entry was there and damaged; that entry is gone then.
        """
        folder = self.root / wanted.key
        if not folder.is_dir():
            return None
        problem = find_damage(folder)
        stored = None if problem else _read(folder)
        if stored is None or stored.fingerprint != wanted:
            say(f"the stored engine {wanted.key[:12]} is damaged ({problem or 'its records cannot be read'}): dropped")
            self.drop(wanted)
            return None
        return stored

    def find_nearest(self, wanted: Fingerprint) -> Tuple[Optional[Stored], Tuple[Change, ...]]:
        """The stored engine of the same module that differs in the fewest fields, and where; of equals the newest."""
        best: Optional[Stored] = None
        changes: Tuple[Change, ...] = ()
        for folder in self._folders():
            stored = _read(folder)
            if stored is None or stored.fingerprint.module != wanted.module:
                continue
            found = find_changes(stored.fingerprint, wanted)
            if best is None or len(found) < len(changes):
                best, changes = stored, found
        return best, changes

    def drop(self, wanted: Fingerprint) -> None:
        """Forgets that engine, if it is there."""
        shutil.rmtree(str(self.root / wanted.key), ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, wanted: Fingerprint, waiting: Callable[[], None]) -> Iterator[None]:
        """Holds that engine for this process; `waiting` is called now and then while another one holds it.

        Raises:
            UsageError: the store cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            stream = open(str(self.root / f".{wanted.key}.lock"), "w")  # noqa: SIM115 - closed by the `with` below
        except OSError as error:
            raise self._unwritable(error) from None
        with stream:
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    waiting()
                    time.sleep(_POLL_S)
            # The lock file stays: removing it would let two processes hold two files of one name.
            yield

    @contextlib.contextmanager
    def put(self, wanted: Fingerprint) -> Iterator[Path]:
        """A fresh folder to fill, engine.json included; it becomes the entry when the block ends without an error.

        Call it under `lock`: what an earlier build of this engine left half made goes first.

        Raises:
            UsageError: the store cannot be written.
            EngineError: the disk is full, or the entry is not intact once it is there.
        """
        try:
            for left in self.root.glob(f".{wanted.key}.*.tmp"):
                shutil.rmtree(str(left), ignore_errors=True)
            stage = Path(tempfile.mkdtemp(prefix=f".{wanted.key}.", suffix=".tmp", dir=str(self.root)))
        except OSError as error:
            raise self._unwritable(error) from None
        final = self.root / wanted.key
        try:
            with full_disk_named(final):
                yield stage
                (stage / FINGERPRINT).write_text(to_json(wanted), encoding="utf-8")
                seal_folder(stage)
                os.chmod(str(stage), 0o755)  # mkdtemp's 0700 would hide the engine from the service that runs it
                shutil.rmtree(str(final), ignore_errors=True)
                os.replace(str(stage), str(final))
        finally:
            shutil.rmtree(str(stage), ignore_errors=True)
        problem = find_damage(final)
        if problem:
            raise EngineError(
                "the engine was built and its files are not what was written", where=str(final), got=problem,
                do="check the disk, or choose another --store",
            )  # fmt: skip

    def _folders(self) -> List[Path]:
        """The entries, newest first."""
        try:
            found = [path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")]
            return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
        except OSError:
            return []

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(f"cannot write the engine store {self.root}", got=str(error), do="choose another --store")


def _read(folder: Path) -> Optional[Stored]:
    try:
        engine = from_json(Engine, (folder / ENGINE).read_text(encoding="utf-8"))
        return Stored(folder, engine, from_json(Fingerprint, (folder / FINGERPRINT).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, UsageError):
        return None
