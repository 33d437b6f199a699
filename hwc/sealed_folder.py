"""A folder that lists its own files with the sha256 of each, so that damage is seen before it is used.

The list is `.files.json` at the folder's top, written last. It guards against a failing disk, a cut copy and an edit by
mistake; whoever may write the folder may also write a new list.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import json
from pathlib import Path

from hwc.bundle import compare_files, hash_files
from hwc.errors import UsageError

SEAL = ".files.json"


def seal_folder(folder: Path) -> None:
    """Writes the list of the folder's files."""
    (folder / SEAL).write_text(json.dumps(hash_files(folder, without=SEAL), sort_keys=True), encoding="utf-8")


def find_damage(folder: Path) -> str:
    """What is not as it was sealed, or nothing."""
    try:
        sealed = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        if not isinstance(sealed, dict):
            return "its seal is not a table"
        return " ".join(reversed(compare_files(sealed, hash_files(folder, without=SEAL))))
    except (OSError, ValueError, UsageError) as error:
        return str(error)
