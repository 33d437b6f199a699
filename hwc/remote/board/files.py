"""Files on the board: what is there already, what comes in, and the switch from the old bundle to the new one.

    DIR             the bundle that is in use
    DIR.partial     the next one; `.parts/<sha256>` inside it are files that have come in up to some byte

Parts are named by content, so a part is only ever continued with the file that it is a part of, whichever run began it.
A file whose content is already in DIR or DIR.partial, under any name, is linked and not sent. Before the switch every
file is hashed here. The switch exchanges both names in one system call (renameat2, Linux 3.15); a file system without
that gets two renames, and a run that dies between them is mended by the next, which finds DIR.old and no DIR.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import stat
import sys
import time
from typing import Any, Dict, Iterator, List, Tuple

from hwc.remote.board.protocol import beat, full_path, refuse, say

MANIFEST = "manifest.json"
PARTS = ".parts"
PIECE = 1 << 18
IDLE_S = 120  # a receiver whose link was cut without a word ends by itself
Files = Dict[str, Any]  # name -> [sha256, size in bytes]


def plan(folder: str, files: Files, write: bool) -> Dict[str, Any]:
    """What has to be sent, in the order of `files`; with `write`, everything else is put into DIR.partial.

    Returns:
        {"dir", "is_current": DIR holds exactly these files, "free_bytes", "reused_bytes",
         "send": [{"name", "also": other names of that content, "sha256", "size", "have": bytes of its part}]}
    """
    folder, in_use = _find_folder(folder, write)
    for name in files:
        if os.path.isabs(name) or ".." in name.split("/") or name.split("/")[0] == PARTS:
            refuse("UsageError", "the manifest names a file outside the bundle", got=name)
    sizes = dict(files.values())
    shas = {name: sha for name, (sha, _) in files.items()}
    result = {"dir": folder, "free_bytes": _free(folder), "reused_bytes": sum(size for _, size in files.values())}
    current = _hash_tree(in_use, sizes)
    if current == shas:
        return {**result, "is_current": True, "send": []}
    partial = folder + ".partial"
    staged = _hash_tree(partial, sizes)
    sources = {sha: os.path.join(in_use, name) for name, sha in current.items()}
    sources.update({sha: os.path.join(partial, name) for name, sha in staged.items() if shas.get(name) == sha})
    if write:
        with _told(partial):
            _tidy(partial, shas, sizes, staged)
    send: Dict[str, Dict[str, Any]] = {}
    for name, (sha, size) in files.items():
        if sha in sources:
            if write and staged.get(name) != sha:
                with _told(partial):
                    _put(sources[sha], os.path.join(partial, name))
        elif sha in send:
            send[sha]["also"].append(name)
        else:
            have = _size(os.path.join(partial, PARTS, sha))
            send[sha] = {"name": name, "also": [], "sha256": sha, "size": size, "have": have}
    for item in send.values():
        result["reused_bytes"] -= item["size"]
    return {**result, "is_current": False, "send": list(send.values())}


def receive(folder: str, items: List[Dict[str, Any]]) -> List[str]:
    """Reads files from stdin, one after the other, each from byte `have` on, and settles them.

    Args:
        items: as in the result of `plan`.

    Returns:
        The names of the files that arrived damaged and have to be sent whole.
    """
    damaged = []
    for item in items:
        _receive_one(folder, item)
        if not settle(folder, item):
            damaged.append(item["name"])
    return damaged


def _receive_one(folder: str, item: Dict[str, Any]) -> None:
    part = os.path.join(full_path(folder) + ".partial", PARTS, item["sha256"])
    size, at, said_s = item["size"], item["have"], 0.0
    signal.alarm(IDLE_S)
    with _told(part):
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.lseek(handle, at, os.SEEK_SET)
            while at < size:
                piece = sys.stdin.buffer.read1(min(PIECE, size - at))  # type: ignore[union-attr]
                if not piece:
                    break
                signal.alarm(IDLE_S)
                view = memoryview(piece)
                while view:
                    view = view[os.write(handle, view) :]
                at += len(piece)
                if time.monotonic() - said_s > 0.2:
                    say({"name": item["name"], "at": at})
                    said_s = time.monotonic()
        finally:
            os.close(handle)
            signal.alarm(0)


def settle(folder: str, item: Dict[str, Any]) -> bool:
    """Hashes a part that is complete and gives it its name; False, and the part is gone, if its bytes are wrong."""
    name, sha256, size = item["name"], item["sha256"], item["size"]
    partial = full_path(folder) + ".partial"
    part = os.path.join(partial, PARTS, sha256)
    if _size(part) < size:
        refuse("EngineError", "the copy ended early", where=name, expected="%d bytes" % size, got=str(_size(part)))
    with _told(part):
        if _size(part) != size or _sha256(part) != sha256:
            os.unlink(part)
            return False
        _flush(part)  # names must not reach the disk before contents do: boards lose power
        _make_parent(os.path.join(partial, name))
        os.replace(part, os.path.join(partial, name))
        for other in item["also"]:
            _put(os.path.join(partial, name), os.path.join(partial, other))
    return True


def switch(folder: str, files: Files) -> None:
    """Judges DIR.partial as a whole and makes it DIR."""
    folder = full_path(folder)
    partial, old = folder + ".partial", folder + ".old"
    found = _hash_tree(partial, dict(files.values()), is_whole=True)
    for name, (sha, _) in files.items():
        if found.pop(name, "") != sha:
            refuse("EngineError", "'%s' is not what was sent" % name, where=partial, do="run the same command again")
    if found:
        refuse("EngineError", "a file appeared that was not sent", where=partial, got=sorted(found)[0])
    with _told(partial):
        shutil.rmtree(os.path.join(partial, PARTS), ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        for top, _, _ in os.walk(partial):
            _flush(top)
        if not os.path.isdir(folder):
            os.rename(partial, folder)
        elif _exchange(partial, folder):
            os.rename(partial, old)
        else:
            os.rename(folder, old)
            os.rename(partial, folder)
        shutil.rmtree(old, ignore_errors=True)


def _find_folder(text: str, write: bool) -> Tuple[str, str]:
    """The real path of DIR, which is a bundle, empty or absent, and where its content is.

    Both are the same but after a switch that was cut in two: then the content is in DIR.old, which `write` mends.
    """
    folder = full_path(text)
    if folder in ("/", full_path("~")):
        refuse("UsageError", "a bundle cannot replace that folder of the board", got=folder, do="choose --remote-dir")
    if not os.path.lexists(folder) and os.path.isfile(os.path.join(folder + ".old", MANIFEST)):
        if not write:
            return folder, folder + ".old"
        os.rename(folder + ".old", folder)
    if os.path.lexists(folder) and not os.path.isdir(folder):
        refuse("UsageError", "a file of the board is in the way", got=folder, do="choose another --remote-dir")
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.isfile(os.path.join(folder, MANIFEST)):
        refuse(
            "UsageError", "the folder of the board is not empty and not a bundle", got=folder,
            do="choose another --remote-dir, or empty that folder yourself",
        )  # fmt: skip
    return folder, folder


def _tidy(partial: str, shas: Dict[str, str], sizes: Dict[str, int], staged: Dict[str, str]) -> None:
    """Makes DIR.partial, and takes out of it what is no part of the bundle that is coming."""
    os.makedirs(os.path.join(partial, PARTS), exist_ok=True)
    for name, path in list(_walk(partial)):
        if name.split("/")[0] == PARTS:
            sha = os.path.basename(name)
            is_wanted = sha in sizes and _size(path) <= sizes[sha]
        else:
            is_wanted = name in shas and staged.get(name) == shas[name]
        if not is_wanted:
            os.unlink(path)


def _put(source: str, target: str) -> None:
    _make_parent(target)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)  # some file systems have no links


def _make_parent(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)


def _flush(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(one: str, other: str) -> bool:
    """Swaps two names in one step; False where the C library or the file system cannot."""
    import ctypes  # slow to load, and needed once in a deployment

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <linux/fs.h>
    if rename is None:
        return False
    if rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0:
        return True
    if ctypes.get_errno() in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), other)


def _walk(folder: str) -> Iterator[Tuple[str, str]]:
    """(name with slashes, path) of everything below the folder that is not a folder."""
    for top, folders, names in os.walk(folder):
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(top, name)))]:
            path = os.path.join(top, name)
            yield os.path.relpath(path, folder).replace(os.sep, "/"), path


def _hash_tree(folder: str, sizes: Dict[str, int], is_whole: bool = False) -> Dict[str, str]:
    """name -> sha256 of every file outside `.parts`; "" for what need not be read, as its size is of no wanted file.

    Args:
        sizes: sha256 -> bytes of the wanted files.
        is_whole: read everything.
    """
    wanted = set(sizes.values())
    found: Dict[str, str] = {}
    for name, path in _walk(folder):
        if name.split("/")[0] != PARTS:
            info = os.lstat(path)
            is_read = stat.S_ISREG(info.st_mode) and (is_whole or info.st_size in wanted)
            found[name] = _sha256(path) if is_read else ""
    return found


def _sha256(path: str) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            sha.update(piece)
            beat()
    return sha.hexdigest()


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _free(folder: str) -> int:
    """Bytes that this user may still write on the disk where the folder is or will be."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """A disk that is full or a folder that is closed, as one clear refusal."""
    try:
        yield
    except OSError as error:
        place = str(error.filename or path)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            refuse(
                "EngineError", "the board's disk is full", where=place, got=error.strerror or "",
                do="free space there and run the same command again: it goes on where it stopped",
            )  # fmt: skip
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            refuse(
                "UsageError", "cannot write on the board", where=place, got=error.strerror or "",
                do="choose a --remote-dir that its user may write",
            )  # fmt: skip
        raise
