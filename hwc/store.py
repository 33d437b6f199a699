"""The step cache: what a stage made once is reused when everything it was made from is the same.

An entry is a folder named by the sha256 of its key. The key holds every input of the step: digests of models, the whole
target, options, versions of the packages involved and the source text of `hwc` itself, so an upgrade or an edit of a
pass never meets an old result. Only successes are stored: a failure is tried again the next time. An entry whose files
are not as they were written is dropped and said, never used.

The front end's inputs are files that a user's Python code opens on its own. `watch_reads` records them through
Python's audit events; `Fingerprint` is their content. Code that reads files in another way (a Rust or C++ reader)
is not seen, so a front end that used one of the known ones is not cached at all (`is_complete`). What a callable takes
from the network, the clock or the environment is not seen either: use `--no-cache` for such a model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from hwc.bundle import compare_files, hash_files, sha256_file

_SEAL = ".files.json"
_UNSEEN_READERS = ("safetensors", "h5py", "pyarrow")


def key_of(*parts: object) -> str:
    """sha256 over the canonical JSON of the parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Store:
    """A folder of entries. `root` None is a store that remembers nothing (`--no-cache`)."""

    root: Path | None

    def get(self, step: str, key: str) -> Path | None:
        """The entry's folder if it is there and intact."""
        if self.root is None:
            return None
        folder = self.root / step / key
        try:
            sealed = json.loads((folder / _SEAL).read_text())
        except (OSError, ValueError):
            return None
        found = hash_files(folder)
        found.pop(_SEAL, None)
        if compare_files(sealed, found):
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return folder

    @contextlib.contextmanager
    def put(self, step: str, key: str) -> Iterator[Path]:
        """A fresh folder to fill; it becomes the entry when the block ends without an error.

        With no root, the folder is temporary and goes when the block ends: callers copy what they need inside it.
        """
        if self.root is None:
            with tempfile.TemporaryDirectory(prefix="hwc-") as folder:
                yield Path(folder)
            return
        parent = self.root / step
        parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{key[:12]}.", dir=parent))
        try:
            yield stage
            (stage / _SEAL).write_text(json.dumps(hash_files(stage)))
            # Two compiles may finish the same step at once; both results are right, the first one in stays.
            with contextlib.suppress(OSError):
                os.replace(stage, parent / key)
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
    if event == "open" and _watching and isinstance(args[0], (str, bytes)):
        mode = args[1]
        if mode is None or "r" in str(mode):
            _watching[-1].add(os.fsdecode(args[0]))


@contextlib.contextmanager
def watch_reads() -> Iterator[list[Fingerprint]]:
    """Yields a list that holds one `Fingerprint` after the block: all files opened for reading inside it."""
    global _hook_installed
    if not _hook_installed:
        # An audit hook cannot be removed, so one is installed for the life of the process and does nothing when idle.
        sys.addaudithook(_on_audit)
        _hook_installed = True
    seen: set[str] = set()
    before = set(sys.modules)
    result: list[Fingerprint] = []
    _watching.append(seen)
    try:
        yield result
    finally:
        _watching.pop()
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin:
            seen.add(origin)
    unseen = any(name in sys.modules and name not in before for name in _UNSEEN_READERS)
    files = sorted({os.path.abspath(path) for path in seen})
    kept = [(path, sha256_file(Path(path))) for path in files if _is_input(path)]
    result.append(Fingerprint(tuple(kept), not unseen))


def _is_input(path: str) -> bool:
    """Whether a file that was read decides the result: not a device, not code that a package version covers."""
    if path.startswith(("/proc/", "/sys/", "/dev/")) or not os.path.isfile(path):
        return False
    if path.endswith((".pyc", ".so")) or "/__pycache__/" in path:
        return False
    paths = sysconfig.get_paths()
    installed = (paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], sys.base_prefix + "/lib")
    is_code = path.endswith((".py", ".pyi", ".json", ".txt", ".toml", ".cfg", "METADATA", "RECORD", ".pth"))
    # Installed code is covered by `installed_versions`; a package's data files (weights) are hashed like any other.
    return not (is_code and path.startswith(installed)) and not path.startswith("/etc/")


@cache
def installed_versions() -> tuple[tuple[str, str], ...]:
    """Name and version of every installed distribution, sorted."""
    found = {}
    for dist in metadata.distributions():
        name = dist.metadata["Name"]
        if name:
            found[name.lower()] = dist.version
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
