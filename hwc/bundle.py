"""A bundle: one folder that holds all a device needs, and a manifest that says what each byte is.

    manifest.json    the `Bundle` noun: schema, target with sources, steps, engine, sha256 of every other file
    model.onnx       the optimized graph (and model.onnx.data where the weights are large)
    <engine files>   what the target's runtime loads, if it could be built here

A folder is written beside its final place and renamed at the end, so a killed process or a full disk leaves the old
bundle or nothing. Reading trusts nothing: unknown schema, missing, added or changed files and paths that leave the
folder are refused by name.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Dict, Iterator, Mapping, Tuple

from hwc.artifacts import Bundle
from hwc.errors import EngineError, UsageError
from hwc.serialize import from_json, to_json

SCHEMA = 1
MANIFEST = "manifest.json"


@contextlib.contextmanager
def staged_folder(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` that takes its place when the block ends without an error.

    An existing `out` is replaced only if it is empty or a bundle: a mistyped `-o` must not delete a user's folder.

    Raises:
        UsageError: `out` is a file, or a folder with something else in it, or its parent cannot be written.
        EngineError: the disk is full (whatever the block raised for that).
    """
    out = Path(os.path.realpath(str(out)))  # a link is followed, as `cp` and shells do; it is not replaced by a folder
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", expected="a folder to write the bundle into", do="choose another -o")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UsageError(
            f"{out} is not empty and not a bundle", do="choose another -o, or empty that folder yourself"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=str(out.parent)))
    except OSError as error:
        raise UsageError(f"cannot write beside {out}", got=str(error), do="choose another -o") from None
    try:
        with full_disk_named(out):
            yield stage
            os.chmod(str(stage), 0o755)  # mkdtemp's 0700 would hide the bundle from the service that runs it
            _swap(stage, out)
    finally:
        shutil.rmtree(str(stage), ignore_errors=True)


@contextlib.contextmanager
def full_disk_named(out: Path) -> Iterator[None]:
    """Turns the OSError of a full disk or a spent quota into an EngineError that says which disk.

    Raises:
        EngineError: the disk of `out` is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise EngineError(
            "the disk is full", where=str(error.filename or out), got=error.strerror or "",
            do=f"free space on the disk of {out.parent}; nothing half written was left",
        ) from None


def _swap(stage: Path, out: Path) -> None:
    """Renames `stage` to `out`; the old folder, if any, is moved aside first because rename cannot replace it."""
    if not out.exists():
        os.replace(str(stage), str(out))
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=str(out.parent)))
    try:
        os.replace(str(out), str(aside / "old"))
        os.replace(str(stage), str(out))
    except BaseException:
        # Also for Ctrl-C: the old bundle goes back before the folder that holds it is removed.
        if not out.exists() and (aside / "old").exists():
            os.replace(str(aside / "old"), str(out))
        raise
    finally:
        shutil.rmtree(str(aside), ignore_errors=True)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    sha = hashlib.sha256()
    with open(str(path), "rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            sha.update(piece)
    return sha.hexdigest()


def hash_files(folder: Path, *, without: str = MANIFEST) -> Dict[str, str]:
    """Relative posix path -> sha256 of every regular file of the folder, except the one at its top that lists them.

    Raises:
        UsageError: the folder holds a link or a special file, which no bundle may.
    """
    files: Dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UsageError(f"'{relative}' is a link or special file", where=str(folder), do="do not use this bundle")
        if path.is_file() and relative != without:
            files[relative] = sha256_file(path)
    return files


def write_manifest(folder: Path, bundle: Bundle) -> None:
    """Writes manifest.json; `bundle.files` must come from `hash_files`."""
    (folder / MANIFEST).write_text(to_json(bundle), encoding="utf-8")


def read_bundle(folder: Path) -> Bundle:
    """The manifest of a bundle folder; files are not checked yet (see `verify_bundle`).

    Raises:
        UsageError: no bundle there, or one of another schema.
    """
    path = Path(folder) / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{folder} is not a bundle", got=str(error), do="give the folder that `hwc compile -o` wrote"
        ) from None
    try:
        schema = json.loads(text)["schema"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UsageError(f"{path} is not a manifest", got=f"{type(error).__name__}: {error}"[:200]) from None
    # Read before anything else, so that a bundle of another version is not reported as a broken one of this version.
    if isinstance(schema, bool) or schema != SCHEMA:
        raise UsageError(
            f"{path} has another schema", expected=f"schema {SCHEMA}", got=repr(schema)[:80],
            do="compile again with this version of hwc",
        )
    return from_json(Bundle, text)


def verify_bundle(folder: Path, bundle: Bundle) -> None:
    """Refuses a bundle whose files are not exactly those of the manifest.

    Raises:
        UsageError: a file is missing, added, changed or outside the folder; names it.
    """
    for name in bundle.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UsageError(f"the manifest names '{name}', outside the bundle", do="do not use this bundle")
    problem = compare_files(bundle.files, hash_files(folder))
    if problem:
        what, name = problem
        raise UsageError(
            f"'{name}' {what}", where=str(folder), expected="the files of the manifest, byte for byte",
            do="compile again, or copy the bundle again",
        )


def compare_files(expected: Mapping[str, str], found: Mapping[str, str]) -> Tuple[str, ...]:
    """The first difference as (what, name), or nothing."""
    for name in sorted(set(expected) | set(found)):
        if name not in found:
            return ("is missing", name)
        if name not in expected:
            return ("is not in the manifest", name)
        if expected[name] != found[name]:
            return ("was changed", name)
    return ()
