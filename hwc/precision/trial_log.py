"""Finished trials in a file of JSON lines, so that an interrupted search goes on where it stood.

Each line is {"key": ..., "id": ..., "result": {...}}. The key names the question (digest of model, data, limit, ...);
lines of other questions are left alone and not read. A line is written and flushed when its trial is finished, so the
most that a killed process loses is the trial it was in; half a line at the end is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwc.errors import UsageError


class TrialLog:
    """What was found under one key. Without a path it remembers for the life of the object only."""

    def __init__(self, path: Path | None = None, key: str = "") -> None:
        """Reads what is there.

        Raises:
            UsageError: a file that is no log of trials, or a path without a key.
        """
        if path is not None and not key:
            raise UsageError("a log of trials needs a key that names its question", where=str(path))
        self._path, self._key = path, key
        self._results: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            self._read(path)

    def __len__(self) -> int:
        return len(self._results)

    def get(self, trial: str) -> dict[str, Any] | None:
        """The result of that trial, if it is finished."""
        return self._results.get(trial)

    def once(self, trial: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The kept result, or the one that `measure` gives now, which is kept before it is returned."""
        kept = self._results.get(trial)
        if kept is None:
            kept = measure()
            self._write(trial, kept)
            self._results[trial] = kept
        return kept

    def _write(self, trial: str, result: dict[str, Any]) -> None:
        if self._path is None:
            return
        line = json.dumps({"key": self._key, "id": trial, "result": result}, ensure_ascii=True) + "\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _read(self, path: Path) -> None:
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            # Cut off, not skipped: the next line must not be glued to the torn one.
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.decode("utf-8", "replace").splitlines(), 1):
            try:
                entry = json.loads(line)
                key, trial, result = entry["key"], entry["id"], entry["result"]
            except (ValueError, KeyError, TypeError):
                raise UsageError(
                    "this file is no log of trials", where=f"{path}, line {number}", got=line[:80],
                    do="remove it to start the search again",
                ) from None
            if key == self._key:
                self._results[trial] = result
