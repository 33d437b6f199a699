"""The timing cache: what TensorRT measured for its kernels, kept so that a second build need not measure again.

One file per BuildKey, in a folder per machine kind:

    <cache>/<digest of backend, runtime, target, power mode>/<digest of the BuildKey>.timing

A build reads its own file; without one it starts from the newest of the same folder (other models share convolutions),
and says so. What it measured is written back whole. TensorRT itself refuses a cache of another GPU, CUDA or version;
then a fresh one is used, which is said too. `--builds` above 1 reads none: all builds would come out alike.

Limit: TensorRT for RTX accepts the calls and keeps nothing (no-ops since its 1.2).
Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/BuilderConfig.html.

This file is part of the device half: Python 3.8, standard library only; the module is an argument.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Tuple

from hwc.artifacts import BuildKey
from hwc.errors import EngineError, TargetError

KEPT = "timing.cache"  # the child's name for what it measured, beside the plan


@dataclass(frozen=True)
class TimingFiles:
    """Where a build reads its timing cache and where it is kept after; None for not at all."""

    read: Optional[Path]
    write: Optional[Path]
    note: str


def timing_files(cache: Optional[Path], given: str, key: BuildKey, builds: int) -> TimingFiles:
    """The files for one build.

    Args:
        cache: folder of all timing caches; None if none are kept.
        given: a file of the user's own that is read and written instead; "none" for no cache.
        builds: how many times the engine is built to keep the best.
    """
    if given == "none" or (cache is None and not given):
        return TimingFiles(None, None, "timing cache: none kept")
    if given:
        own = Path(given)
        known = own if own.is_file() else None
        return _with_builds(TimingFiles(known, own, f"timing cache: {own.name}, {'read' if known else 'new'}"), builds)
    assert cache is not None
    folder = machine_folder(cache, key)
    own = folder / (_digest(repr(key)) + ".timing")
    if own.is_file():
        return _with_builds(TimingFiles(own, own, f"timing cache: that of this build key, {own.stem}"), builds)
    others = sorted(folder.glob("*.timing"), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
    if others:
        text = f"timing cache: new for this build key ({own.stem}), starts from {others[-1].stem} of the same machine"
        return _with_builds(TimingFiles(others[-1], own, text), builds)
    return TimingFiles(None, own, f"timing cache: new, {own.stem}")


def machine_folder(cache: Path, key: BuildKey) -> Path:
    """The folder of all that was measured with this runtime, for this target, in this power mode."""
    return cache / _digest(repr((key.runtime, key.target, key.power_mode)))


def _with_builds(files: TimingFiles, builds: int) -> TimingFiles:
    if builds == 1 or files.read is None:
        return files
    return TimingFiles(None, files.write, f"timing cache: not read, so that {builds} builds may differ")


def load_timing(trt: Any, config: Any, path: Optional[Path]) -> Tuple[Any, str]:
    """Gives `config` the cache of that file, or an empty one; the cache and what was done, for the notes.

    Raises:
        TargetError: this TensorRT has no timing cache.
    """
    if not hasattr(config, "create_timing_cache"):
        raise TargetError("this TensorRT has no timing cache", got=f"{trt.__name__} {trt.__version__}")
    data = b""
    if path is not None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EngineError("cannot read the timing cache", where=str(path), got=str(error.strerror)) from error
    cache = config.create_timing_cache(data)
    if cache is not None and config.set_timing_cache(cache, False):
        return cache, f"{len(data)} bytes of timing cache read" if data else "the timing cache starts empty"
    fresh = config.create_timing_cache(b"")
    if fresh is None or not config.set_timing_cache(fresh, False):
        raise EngineError("TensorRT makes no timing cache", got=f"{trt.__name__} {trt.__version__}")
    return fresh, "TensorRT refused the kept cache (another GPU, CUDA or version), so all kernels are measured anew"


def keep_timing(measured: Path, place: Path) -> None:
    """Moves what was measured to its place, whole or not at all.

    Raises:
        EngineError: the folder is not writable.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        half = place.with_name(f"{place.name}.{os.getpid()}.half")
        half.write_bytes(measured.read_bytes())
        half.replace(place)
        measured.unlink()
    except OSError as error:
        raise EngineError(
            "cannot keep the timing cache", where=str(place), got=str(error.strerror), do="choose another cache folder"
        ) from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
