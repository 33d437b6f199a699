"""The step cache: what a stage made once is reused when everything it was made from is the same.

An entry is a folder named by the sha256 of its key. The key holds every input of the step: digests of models, the whole
target, options, versions of the packages involved and the source text of `hwc` itself, so an upgrade or an edit of a
pass never meets an old result. Only successes are stored: a failure is tried again the next time. An entry whose files
are not as they were written is dropped and said, never used.

The front end's inputs are files that a user's Python code opens on its own. `watch_reads` records them through
Python's audit events; `Fingerprint` is their content. Code that reads files in another way (a Rust or C++ reader)
is not seen, so a process that has loaded one of the known ones caches no front end at all (`is_complete`). What a
callable takes from the network, the clock or the environment is not seen either: use `--no-cache` for such a model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from hwc.bundle import full_disk_named, sha256_file
from hwc.errors import EngineError, UsageError
from hwc.sealed_folder import find_damage, seal_folder

_log = logging.getLogger(__name__)
_UNSEEN_READERS = ("safetensors", "h5py", "pyarrow")


def key_of(*parts: object) -> str:
    """sha256 over the canonical JSON of the parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Store:
    """A folder of entries. A store that remembers nothing (`--no-cache`) is one in a temporary folder."""

    root: Path

    def get(self, step: str, key: str) -> Path | None:
        """The entry's folder if it is there and intact."""
        folder = self.root / step / key
        if not folder.is_dir():
            return None
        problem = find_damage(folder)
        if problem:
            _log.warning("the cached step '%s' is damaged (%s); dropped, to be made again: %s", step, problem, folder)
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return folder

    def require(self, step: str, key: str) -> Path:
        """The entry that was just put.

        Raises:
            EngineError: it is not there or not intact: the disk is full or failing.
        """
        folder = self.get(step, key)
        if folder is None:
            raise EngineError(
                f"the step '{step}' was finished but its files are gone",
                where=str(self.root / step / key),
                do="check the disk, or choose another --cache-dir",
            )
        return folder

    def drop(self, step: str, key: str) -> None:
        """Forgets the entry, if there is one."""
        shutil.rmtree(self.root / step / key, ignore_errors=True)

    def partial(self, step: str, key: str) -> Path:
        """A folder for unfinished work of that step; it outlives an interrupted process and goes when the step is put.

        Raises:
            UsageError: the cache cannot be written.
        """
        folder = self.root / "partial" / step / key
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot write the cache {self.root}", got=str(error), do="choose another --cache-dir, or --no-cache"
            ) from None
        return folder

    @contextlib.contextmanager
    def put(self, step: str, key: str) -> Iterator[Path]:
        """A fresh folder to fill; it becomes the entry when the block ends without an error.

        Raises:
            UsageError: the cache cannot be written.
            EngineError: the disk is full.
        """
        parent = self.root / step
        try:
            parent.mkdir(parents=True, exist_ok=True)
            stage = Path(tempfile.mkdtemp(prefix=f".{key[:12]}.", dir=parent))
        except OSError as error:
            raise UsageError(
                f"cannot write the cache {self.root}", got=str(error), do="choose another --cache-dir, or --no-cache"
            ) from None
        try:
            with full_disk_named(parent):
                yield stage
                seal_folder(stage)
                # Two compiles may finish the same step at once; both results are right, the first one in stays.
                with contextlib.suppress(OSError):
                    os.replace(stage, parent / key)
                shutil.rmtree(self.root / "partial" / step / key, ignore_errors=True)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


@dataclass(frozen=True)
class Fingerprint:
    """Files that a step read, with the sha256 of each; `is_complete` is False if it may have read others unseen."""

    files: tuple[tuple[str, str], ...]
    is_complete: bool

    def still_holds(self) -> bool:
        """Whether every file still has the same content."""
        try:
            return self.is_complete and all(sha256_file(Path(path)) == digest for path, digest in self.files)
        except OSError:
            return False


_watching: list[set[str]] = []
_hook_installed = False


def _on_audit(event: str, args: tuple[object, ...]) -> None:
    if event != "open" or not _watching or not isinstance(args[0], (str, bytes, os.PathLike)):
        return
    mode, flags = args[1], args[2]
    # `os.open` gives no mode; a file that it opens for writing only, or makes, is a result and not an input.
    made = os.O_WRONLY | os.O_TRUNC | os.O_EXCL
    if "r" in str(mode) if mode else not (isinstance(flags, int) and flags & made):
        path = os.fsdecode(args[0])
        with contextlib.suppress(OSError):  # the working directory may be gone; the open itself must not fail for that
            path = os.path.abspath(path)  # now, because the working directory may change
        for seen in _watching:
            seen.add(path)


@contextlib.contextmanager
def watch_reads() -> Iterator[list[Fingerprint]]:
    """Yields a list that holds one `Fingerprint` after the block: all files opened for reading inside it."""
    global _hook_installed
    if not _hook_installed:
        # An audit hook cannot be removed, so one is installed for the life of the process and does nothing when idle.
        sys.addaudithook(_on_audit)
        _hook_installed = True
    seen: set[str] = set()
    result: list[Fingerprint] = []
    _watching.append(seen)
    try:
        yield result
    finally:
        # By identity: two nested blocks that saw the same files hold equal sets.
        _watching[:] = [other for other in _watching if other is not seen]
    # All modules, not only new ones: what an earlier block imported is code of this one too, but is not opened again.
    for module in list(sys.modules.values()):
        origin = getattr(module, "__file__", None)
        if isinstance(origin, str):
            seen.add(os.path.abspath(origin))
    unseen = any(name in sys.modules for name in _UNSEEN_READERS)
    kept = [(path, sha256_file(Path(path))) for path in sorted(seen) if _is_input(path)]
    result.append(Fingerprint(tuple(kept), not unseen))


def _is_input(path: str) -> bool:
    """Whether a file that was read decides the result: not a device, not code that a package version covers."""
    if path.startswith(("/proc/", "/sys/", "/dev/")) or not os.path.isfile(path):
        return False
    if path.endswith((".pyc", ".so")) or "/__pycache__/" in path:
        return False
    paths = sysconfig.get_paths()
    installed = (
        *(paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], sys.base_prefix + "/lib"),
        *(*site.getsitepackages(), site.getusersitepackages()),
    )
    is_code = path.endswith((".py", ".pyi", ".json", ".txt", ".toml", ".cfg", "METADATA", "RECORD", ".pth"))
    # Installed code is covered by `installed_versions`; a package's data files (weights) are hashed like any other.
    return not (is_code and path.startswith(installed)) and not path.startswith("/etc/")


@cache
def installed_versions() -> tuple[tuple[str, str], ...]:
    """Normalized name (lower case, '-') and version of every installed distribution, sorted."""
    found = {}
    for dist in metadata.distributions():
        name = dist.metadata["Name"]
        if name:
            found[re.sub(r"[-_.]+", "-", name).lower()] = dist.version
    return tuple(sorted(found.items()))


@cache
def own_source_digest() -> str:
    """sha256 over the source text of `hwc`: results of an edited compiler are never mixed with old ones."""
    root = Path(__file__).parent
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".toml"):
            sha.update(path.relative_to(root).as_posix().encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()
