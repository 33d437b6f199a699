"""The FP32 outputs of every sample, computed once and kept for all candidates that are judged against them.

Entries are found by the content of the feeds (blake2b over names, dtypes, shapes and bytes), so neither a renamed file
nor another order of samples meets a wrong entry. Outputs stay in memory up to a bound and go to a folder beyond it;
with a folder of the caller's own they also survive the process, under a key that must name the baseline's model.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from hwc.errors import UsageError

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
_log = logging.getLogger(__name__)


class Baseline:
    """A model's `run` with a memory: call it like `run`. `runs` counts how often the model itself had to run."""

    def __init__(self, run: Run, *, folder: Path | None = None, key: str = "", memory_bytes: int = 1 << 28) -> None:
        """Remembers `run`.

        Args:
            folder: where outputs are kept from one process to the next; None keeps them for this one only.
            key: digest of all that decides the outputs, the model's first of all; needed with a folder.
            memory_bytes: outputs beyond this many bytes are kept on disk.

        Raises:
            UsageError: a folder without a key.
        """
        if folder is not None and not key:
            raise UsageError("outputs kept in a folder need the digest of their model", where=str(folder))
        self.runs = 0
        self._run, self._key, self._left = run, key, memory_bytes
        self._memory: dict[str, dict[str, np.ndarray]] = {}
        self._is_lasting = folder is not None
        # Kept as an attribute: the temporary folder goes with this object.
        self._temporary = None if folder is not None else tempfile.TemporaryDirectory(prefix="hwc-baseline-")
        self._folder = folder if folder is not None else Path(str(self._temporary and self._temporary.name))

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Output name -> array, as `run` gave it the first time; bfloat16 comes back as float32."""
        name = _digest(feeds, self._key)
        if name in self._memory:
            return dict(self._memory[name])
        path = self._folder / f"{name}.npz"
        outputs = _load(path) if path.exists() else None
        is_new = outputs is None
        if outputs is None:
            self.runs += 1
            outputs = {key: _storable(array) for key, array in self._run(feeds).items()}
        size = sum(array.nbytes for array in outputs.values())
        if size <= self._left:
            self._left -= size
            self._memory[name] = outputs
        if is_new and (self._is_lasting or name not in self._memory):
            _save(path, outputs)
        return dict(outputs)


def _storable(array: np.ndarray) -> np.ndarray:
    # A copy: engines may hand out the same buffer for every run. numpy files do not know ml_dtypes' kinds.
    return np.array(array, dtype=np.float32 if np.asarray(array).dtype.kind == "V" else None)


def _digest(feeds: Mapping[str, np.ndarray], key: str) -> str:
    sha = hashlib.blake2b(key.encode(), digest_size=16)
    for name in sorted(feeds):
        array = np.ascontiguousarray(feeds[name])
        sha.update(f"{name} {array.dtype} {feeds[name].shape};".encode())
        sha.update(array.view(np.uint8).data if array.size and array.ndim else array.tobytes())
    return sha.hexdigest()


def _save(path: Path, outputs: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp.npz")
    # Names go in as data: an output's name may hold what a file's name may not.
    arrays = {f"a{index}": array for index, array in enumerate(outputs.values())}
    np.savez(partial, names=np.array(list(outputs)), **arrays)  # type: ignore[arg-type]
    os.replace(partial, path)


def _load(path: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as data:
            return {str(name): data[f"a{i}"] for i, name in enumerate(data["names"])}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("kept outputs are damaged and are computed again: %s (%s)", path, error)
        return None
