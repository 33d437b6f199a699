"""A bundle as one file, `x.hwc`: a gzipped tar that plain tar can read and that is trusted in nothing.

    contents.json    {"format": 1, "files": [[name, size, sha256], ...], "total_bytes": N}, always the first member
    manifest.json, model.onnx, ...    in the order of contents.json

Members are regular files in ustar headers with one owner, mode and date, sorted by name, so that equal bundles give
equal archives (of one zlib). Reading uses no tar library, because those serve forms that no bundle needs: a header is
512 bytes, its type must be "0", and its name and size must be the next ones of contents.json. So links, devices,
folders, extended headers, sparse files, repeated names and surprises in size are refused by construction, and the
reader holds one piece of a file in memory whatever the archive claims. Names may not be absolute, empty, dotted or
hold a backslash. `total_bytes` is compared with a limit and with the free disk before the first file is written, and
each file is hashed while it is written, into a folder that is renamed at the end or goes.

Limits: a file of 8 GiB or more, or a name that ustar cannot hold (255 bytes), is refused when packing. Digests guard
against damage; who made an archive is not said by it. Source: POSIX.1-2017, pax, ustar interchange format.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hwc.artifacts import Bundle
from hwc.bundle import MANIFEST, compare_files, read_bundle, sha256_file, staged_folder, verify_bundle
from hwc.engines.base import Progress, no_progress
from hwc.errors import EngineError, UsageError
from hwc.sessions import staged_file

CONTENTS = "contents.json"
FORMAT = 1
MAX_BYTES = 16 << 30  # default limit of an unpacked bundle
_MAX_CONTENTS, _MAX_MANIFEST = 4 << 20, 64 << 20  # both are read into memory whole
_MAX_FILE = 8 << 30  # what the eleven octal digits of a ustar header can say
_BLOCK, _PIECE = 512, 1 << 20
_LEVEL = 6  # weights hardly shrink, and a higher level takes several times as long for a percent


@dataclass(frozen=True)
class Member:
    """One file of the archive: its place in the bundle, its size in bytes and its sha256."""

    name: str
    size: int
    sha256: str


def pack(folder: Path, out: Path, *, progress: Progress = no_progress) -> tuple[Bundle, tuple[Member, ...]]:
    """Writes the bundle in `folder` to the archive `out`.

    Raises:
        UsageError: not a bundle, a damaged one, or one with a file that the format cannot hold.
        EngineError: the disk is full.
    """
    bundle = read_bundle(folder)
    verify_bundle(folder, bundle)
    names = sorted([MANIFEST, *bundle.files])
    members = tuple(
        Member(name, (folder / name).stat().st_size, bundle.files.get(name) or sha256_file(folder / name))
        for name in names
    )
    total = sum(member.size for member in members)
    contents = {
        "format": FORMAT, "total_bytes": total, "files": [[m.name, m.size, m.sha256] for m in members],
    }  # fmt: skip
    data = json.dumps(contents, indent=0).encode()
    done = 0
    with staged_file(out) as partial, open(partial, "wb") as raw, _deflate(raw) as stream:
        stream.write(_header(CONTENTS, len(data)) + data + _padding(len(data)))
        for member in members:
            progress(member.name, done / max(total, 1))
            stream.write(_header(member.name, member.size))
            with open(folder / member.name, "rb") as source:
                shutil.copyfileobj(source, stream, _PIECE)
            stream.write(_padding(member.size))
            done += member.size
        stream.write(bytes(2 * _BLOCK))
    progress("done", 1.0)
    return bundle, members


def unpack(
    archive: Path, out: Path, *, max_bytes: int = MAX_BYTES, progress: Progress = no_progress
) -> tuple[Bundle, tuple[Member, ...]]:
    """Writes the bundle in `archive` to the folder `out`, whole or not at all.

    Raises:
        UsageError: not an archive, a damaged or a hostile one; says what is wrong with which member.
        EngineError: the disk is full, or would be.
    """
    with _reading(archive) as stream:
        members = _read_contents(stream, archive, max_bytes)
        _require_space(out, members)
        with staged_folder(out) as stage:
            _read_members(stream, archive, members, stage, progress)
            bundle = _require_bundle(stage, archive, members)
    progress("done", 1.0)
    return bundle, members


def check_archive(
    archive: Path, *, max_bytes: int = MAX_BYTES, progress: Progress = no_progress
) -> tuple[Member, ...]:
    """Reads the whole archive as `unpack` does and writes nothing; what it holds. Errors as in `unpack`."""
    with _reading(archive) as stream:
        members = _read_contents(stream, archive, max_bytes)
        _read_members(stream, archive, members, None, progress)
    progress("done", 1.0)
    return members


def verify_unpacked(folder: Path) -> Bundle:
    """Reads back from the disk what was unpacked. Raises UsageError where a file is not as the manifest says."""
    bundle = read_bundle(folder)
    verify_bundle(folder, bundle)
    return bundle


def _read_contents(stream: gzip.GzipFile, archive: Path, max_bytes: int) -> tuple[Member, ...]:
    """The list of members, judged before anything is believed or written."""
    size = _read_header(stream, archive, CONTENTS)
    if size > _MAX_CONTENTS:
        raise _refuse(archive, f"its {CONTENTS} is too large", f"at most {_MAX_CONTENTS} bytes", f"{size} bytes")
    text = _read_exactly(stream, archive, size)
    _read_exactly(stream, archive, len(_padding(size)))
    try:
        data: Any = json.loads(text)
        version = data["format"]
        rows, total = data["files"], data["total_bytes"]
        members = tuple(Member(name, size, digest) for name, size, digest in rows)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _refuse(archive, f"its {CONTENTS} cannot be read", "a list of files", f"{error}"[:80]) from None
    if isinstance(version, bool) or version != FORMAT:
        raise _refuse(archive, "it has another format", f"format {FORMAT}", repr(version)[:40])
    for member in members:
        _check_member(archive, member)
    _check_names(archive, [member.name for member in members])
    if isinstance(total, bool) or total != sum(member.size for member in members):
        raise _refuse(archive, "its files do not add up", f"{total!r} bytes"[:40], "another sum of sizes")
    if total > max_bytes:
        raise _refuse(archive, "it is too large", f"at most {max_bytes} bytes", f"{total} bytes", "raise --max-bytes")
    return members


def _check_member(archive: Path, member: Member) -> None:
    name, size, digest = member.name, member.size, member.sha256
    is_typed = isinstance(name, str) and isinstance(size, int) and isinstance(digest, str)
    if not is_typed or isinstance(size, bool) or not 0 <= size < _MAX_FILE or len(digest) != 64:
        raise _refuse(archive, "a member has no proper name, size or digest", "name, bytes, sha256", repr(member)[:100])
    if {"", ".", ".."} & set(name.split("/")) or "\\" in name or not name.isprintable():
        raise _refuse(archive, "a member lies outside the bundle", "a plain relative path", repr(name)[:100])
    if name == MANIFEST and size > _MAX_MANIFEST:
        raise _refuse(archive, f"its {MANIFEST} is too large", f"at most {_MAX_MANIFEST} bytes", f"{size} bytes")


def _check_names(archive: Path, names: list[str]) -> None:
    """Each name once, sorted, and none of them a folder of another."""
    for before, name in zip(names, names[1:]):
        if name <= before:
            raise _refuse(archive, "a member is there twice or out of order", "sorted names", repr(name)[:100])
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    clash = sorted(folders & set(names))
    if clash:
        raise _refuse(archive, "a member is a file and a folder", "one of them", repr(clash[0])[:100])
    if MANIFEST not in names:
        raise _refuse(archive, "it holds no bundle", MANIFEST, f"{len(names)} other files")


def _read_members(
    stream: gzip.GzipFile, archive: Path, members: tuple[Member, ...], stage: Path | None, progress: Progress
) -> None:
    """Reads every member in order, checks it and writes it below `stage`, if there is one."""
    total, done = sum(member.size for member in members), 0
    for member in members:
        progress(member.name, done / max(total, 1))
        size = _read_header(stream, archive, member.name)
        if size != member.size:
            got = f"{size} bytes in its header"
            raise _refuse(archive, f"'{member.name}' has another size", f"{member.size} bytes", got)
        digest = hashlib.sha256()
        with contextlib.ExitStack() as stack:
            target = None
            if stage is not None:
                (stage / member.name).parent.mkdir(parents=True, exist_ok=True)
                target = stack.enter_context(open(stage / member.name, "xb"))
            for start in range(0, size, _PIECE):
                piece = _read_exactly(stream, archive, min(_PIECE, size - start))
                digest.update(piece)
                if target is not None:
                    target.write(piece)
        _read_exactly(stream, archive, len(_padding(size)))
        if digest.hexdigest() != member.sha256:
            got = digest.hexdigest()[:16]
            raise _refuse(archive, f"'{member.name}' has the wrong digest", member.sha256[:16], got)
        if stage is not None and member.name.endswith(".pyz"):
            os.chmod(stage / member.name, 0o755)
        done += size
    # Only the end of a tar may follow: zeros, at most a record's worth of them.
    rest = _read_some(stream, archive, 20 * _BLOCK + 1)
    if len(rest) < 2 * _BLOCK or len(rest) > 20 * _BLOCK or rest.strip(b"\0"):
        raise _refuse(archive, "it does not end after its last member", "two blocks of zeros", f"{len(rest)} bytes")


def _require_bundle(stage: Path, archive: Path, members: tuple[Member, ...]) -> Bundle:
    """The manifest has to tell the same of the files as contents.json, whose digests were just checked."""
    bundle = read_bundle(stage)
    problem = compare_files(bundle.files, {m.name: m.sha256 for m in members if m.name != MANIFEST})
    if problem:
        what, name = problem
        raise _refuse(archive, f"'{name}' {what}", "the files of its manifest", f"{len(members)} members")
    return bundle


def _require_space(out: Path, members: tuple[Member, ...]) -> None:
    place = Path(os.path.realpath(out)).parent
    while not place.exists():
        place = place.parent
    total, free = sum(member.size for member in members), shutil.disk_usage(place).free
    if total > free:
        raise EngineError(
            "the disk has too little space for this bundle", where=str(place), expected=f"{total} bytes",
            got=f"{free} bytes free", do="free some space, or unpack elsewhere",
        )  # fmt: skip


def _header(name: str, size: int) -> bytes:
    if size >= _MAX_FILE:
        raise UsageError(f"'{name}' is too large for an archive", expected="less than 8 GiB", got=f"{size} bytes",
                         do="copy the folder instead")  # fmt: skip
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o755 if name.endswith(".pyz") else 0o644
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except (ValueError, UnicodeEncodeError) as error:
        raise UsageError(f"'{name}' cannot be a name in an archive", got=str(error), do="rename it") from None


def _read_header(stream: gzip.GzipFile, archive: Path, expected: str) -> int:
    """The size in the next header, which has to be that of the regular file `expected`."""
    block = _read_exactly(stream, archive, _BLOCK)
    checksum = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    try:
        told = int(block[148:156].strip(b"\0 ").decode("ascii"), 8)
        size = int(block[124:136].strip(b"\0 ").decode("ascii") or "0", 8)
        name = block[:100].split(b"\0")[0].decode("utf-8")
        prefix = block[345:500].split(b"\0")[0].decode("utf-8")
    except ValueError:
        raise _refuse(archive, "it is no tar", f"the header of '{expected}'", "something else") from None
    name = f"{prefix}/{name}" if prefix else name
    if told != checksum or block[257:263] != b"ustar\0":
        raise _refuse(archive, "a header is damaged", f"the header of '{expected}'", "a wrong checksum or form")
    if block[156:157] != b"0":
        kinds = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a folder",
                 b"6": "a pipe", b"x": "an extended header", b"g": "an extended header", b"L": "a long name",
                 b"S": "a sparse file"}  # fmt: skip
        kind = kinds.get(block[156:157], f"type {block[156:157]!r}")
        raise _refuse(archive, f"'{name[:80]}' is {kind}", "a regular file", kind)
    if name != expected:
        raise _refuse(archive, "a member is not the one that is due", repr(expected), repr(name)[:100])
    if not 0 <= size < _MAX_FILE:
        raise _refuse(archive, f"'{name}' has an impossible size", "0 to 8 GiB", f"{size}")
    return size


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _read_exactly(stream: gzip.GzipFile, archive: Path, size: int) -> bytes:
    data = _read_some(stream, archive, size)
    if len(data) < size:
        raise _refuse(archive, "it is cut off", f"{size} more bytes", f"{len(data)}", "copy it again")
    return data


def _read_some(stream: gzip.GzipFile, archive: Path, size: int) -> bytes:
    """Up to `size` bytes, fewer only at the end."""
    pieces, left = [], size
    try:
        while left:
            piece = stream.read(left)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _refuse(archive, "it is damaged or cut off", "a whole gzip stream", str(error)[:80]) from None
    return b"".join(pieces)


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[gzip.GzipFile]:
    try:
        raw = open(archive, "rb")  # noqa: SIM115 - closed by the `with` below
    except OSError as error:
        raise UsageError("cannot read the archive", where=str(archive), got=str(error)) from None
    with raw, gzip.GzipFile(fileobj=raw, mode="rb") as stream:
        yield stream


def _deflate(raw: IO[bytes]) -> gzip.GzipFile:
    return gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=raw, mtime=0)


def _refuse(archive: Path, what: str, expected: str, got: str, do: str = "") -> UsageError:
    return UsageError(
        f"this archive is refused: {what}", where=str(archive), expected=expected, got=got,
        do=do or "do not use it; pack the bundle again, or copy the archive again",
    )  # fmt: skip
