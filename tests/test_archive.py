"""An archive gives back exactly the bundle that was packed, or is refused: whatever was done to it."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwc import archive as archives
from hwc.archive import CONTENTS, Member, check_archive, pack, unpack, verify_unpacked
from hwc.bundle import MANIFEST, hash_files
from hwc.errors import EngineError, HwcError, UsageError
from tests.fake_board import seal_bundle, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle with a folder, a program and a file of more than one block. Only read it."""
    folder = tmp_path_factory.mktemp("archive") / "net"
    write_bundle(folder)
    (folder / "plugins").mkdir()
    (folder / "plugins" / "lib.so").write_bytes(bytes(range(256)) * 5)
    (folder / "hwc.pyz").write_bytes(b"#!/usr/bin/env python3\n")
    (folder / "empty").write_bytes(b"")
    seal_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def packed(bundle) -> bytes:
    pack(bundle, bundle.parent / "net.hwc")
    return (bundle.parent / "net.hwc").read_bytes()


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def place(folder: Path, data: bytes) -> Path:
    (folder / "x.hwc").write_bytes(data)
    return folder / "x.hwc"


def test_it_comes_back_as_it_was(bundle, packed, tmp_path):
    found, members = unpack(place(tmp_path, packed), tmp_path / "out")
    assert found.name == "net" and content(tmp_path / "out") == content(bundle)
    assert [member.name for member in members] == sorted(content(bundle))
    assert os.access(tmp_path / "out" / "hwc.pyz", os.X_OK)
    assert verify_unpacked(tmp_path / "out") == found
    assert check_archive(tmp_path / "x.hwc") == members
    assert sorted(os.listdir(tmp_path)) == ["out", "x.hwc"]


def test_equal_bundles_give_equal_archives(bundle, packed, tmp_path):
    shutil.copytree(bundle, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (1, 1))
    pack(tmp_path / "copy", tmp_path / "copy.hwc")
    assert (tmp_path / "copy.hwc").read_bytes() == packed


def test_plain_tar_reads_it(bundle, packed, tmp_path):
    if shutil.which("tar") is None:
        pytest.skip("this machine has no tar")
    (tmp_path / "by_tar").mkdir()
    subprocess.run(["tar", "-xzf", place(tmp_path, packed), "-C", tmp_path / "by_tar"], check=True)
    (tmp_path / "by_tar" / CONTENTS).unlink()
    assert content(tmp_path / "by_tar") == content(bundle)


def test_a_damaged_bundle_is_not_packed(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "bad")
    (tmp_path / "bad" / "empty").write_text("no more")
    with pytest.raises(UsageError, match="'empty' was changed"):
        pack(tmp_path / "bad", tmp_path / "bad.hwc")
    assert not (tmp_path / "bad.hwc").exists()


def test_a_name_that_tar_cannot_hold_is_refused(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "long")
    (tmp_path / "long" / ("n" * 200)).write_text("x")
    seal_bundle(tmp_path / "long")
    with pytest.raises(UsageError, match="cannot be a name in an archive"):
        pack(tmp_path / "long", tmp_path / "long.hwc")
    assert sorted(os.listdir(tmp_path)) == ["long"]


def test_the_output_must_be_a_file_that_can_be_written(bundle, packed, tmp_path):
    with pytest.raises(UsageError, match="not a regular file"):
        pack(bundle, tmp_path)
    with pytest.raises(UsageError, match="cannot write"):
        pack(bundle, tmp_path / "absent" / "x.hwc")
    with pytest.raises(UsageError, match="cannot read the archive"):
        check_archive(tmp_path / "absent.hwc")


# --- hostile archives, made with the standard library's tar ---


def forge(members: list[tuple[tarfile.TarInfo, bytes]], *, listed: list | None = None, **changed: object) -> bytes:
    """An archive of these members whose contents.json is right about them, unless told otherwise."""
    rows = [[info.name, len(data), hashlib.sha256(data).hexdigest()] for info, data in members]
    table = {"format": 1, "files": rows if listed is None else listed}
    table["total_bytes"] = sum(row[1] for row in table["files"] if isinstance(row[1], int))
    text = json.dumps({**table, **changed}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in [(file(CONTENTS), text), *members]:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def file(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def members_of(bundle: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(file(name), data) for name, data in sorted(content(bundle).items())]


def assert_refused(tmp_path: Path, data: bytes, *words: str) -> None:
    """Refused by every way in, with one message, nothing written and nothing left."""
    archive = place(tmp_path, data)
    before = sorted(os.listdir(tmp_path))
    for attempt in (lambda: unpack(archive, tmp_path / "out"), lambda: check_archive(archive)):
        with pytest.raises(UsageError) as caught:
            attempt()
        assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_the_forger_makes_sound_archives_too(bundle, tmp_path):
    unpack(place(tmp_path, forge(members_of(bundle))), tmp_path / "out")
    assert content(tmp_path / "out") == content(bundle)


OUTSIDE = ["../evil", "a/../../evil", "/evil", "..", ".", "./evil", "a//b", "a/", "a\\b", "", "a\0b", "a\nb", "\ud800"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_outside_the_bundle_is_refused(bundle, tmp_path, name):
    rows = [[name, 1, "0" * 64], [MANIFEST, 1, "0" * 64]]
    assert_refused(tmp_path, forge(members_of(bundle), listed=sorted(rows)), "outside the bundle")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.DIRTYPE, "a folder"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.XHDTYPE, "an extended header"),
        (tarfile.GNUTYPE_LONGNAME, "a long name"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (tarfile.CONTTYPE, "type b'7'"),
        (b"\0", "type"),
    ],
)
def test_what_is_no_regular_file_is_refused(bundle, tmp_path, kind, word):
    members = members_of(bundle)
    info, data = members[0]
    info.type, info.linkname = kind, "/etc/passwd"
    assert_refused(tmp_path, forge(members), word, info.name)


def test_a_member_twice_is_refused(bundle, tmp_path):
    members = members_of(bundle)
    assert_refused(tmp_path, forge([members[0], *members]), "twice or out of order")
    rows = [[info.name, len(data), hashlib.sha256(data).hexdigest()] for info, data in members]
    assert_refused(tmp_path, forge([members[0], *members], listed=rows), "not the one that is due")


def test_a_member_more_or_less_is_refused(bundle, tmp_path):
    members = members_of(bundle)
    rows = [[info.name, len(data), hashlib.sha256(data).hexdigest()] for info, data in members]
    extra = (file("zzz"), b"surprise")
    assert_refused(tmp_path, forge([*members, extra], listed=rows), "does not end after its last member")
    assert_refused(tmp_path, forge(members[:-1], listed=rows))


def test_a_listed_file_that_the_manifest_lacks_is_refused(bundle, tmp_path):
    archive = place(tmp_path, forge([*members_of(bundle), (file("zzz"), b"surprise")]))
    with pytest.raises(UsageError, match="'zzz' is not in the manifest"):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.hwc"]


def test_a_file_that_is_a_folder_too_is_refused(bundle, tmp_path):
    assert_refused(tmp_path, forge(sorted([*members_of(bundle), (file("plugins"), b"x")], key=lambda m: m[0].name)),
                   "a file and a folder")  # fmt: skip


def test_a_wrong_digest_is_refused(bundle, tmp_path):
    rows = [[info.name, len(data), "0" * 64] for info, data in members_of(bundle)]
    assert_refused(tmp_path, forge(members_of(bundle), listed=rows), "has the wrong digest")


def test_a_manifest_that_tells_another_story_is_refused(bundle, tmp_path):
    members = [(info, data if info.name != "model.onnx" else b"other") for info, data in members_of(bundle)]
    archive = place(tmp_path, forge(members))
    with pytest.raises(UsageError, match=r"'model\.onnx' was changed"):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.hwc"]


def test_another_size_in_the_header_is_refused(bundle, tmp_path):
    rows = [[info.name, len(data) + 1, "0" * 64] for info, data in members_of(bundle)]
    assert_refused(tmp_path, forge(members_of(bundle), listed=rows), "has another size")


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"format": 2}, "another format"),
        ({"format": True}, "another format"),
        ({"files": 1}, "cannot be read"),
        ({"files": [["a"]]}, "cannot be read"),
        ({"files": [[1, 2, "0" * 64]]}, "no proper name"),
        ({"files": [["a", -1, "0" * 64]]}, "no proper name"),
        ({"files": [["a", True, "0" * 64]]}, "no proper name"),
        ({"files": [["a", 1, "0"]]}, "no proper name"),
        ({"files": []}, "holds no bundle"),
        ({"total_bytes": 1}, "do not add up"),
        ({"total_bytes": None}, "do not add up"),
    ],
)
def test_a_table_that_is_wrong_is_refused(bundle, tmp_path, changed, word):
    assert_refused(tmp_path, forge(members_of(bundle), **changed), word)


def test_a_bundle_over_the_limit_is_refused_before_anything_is_written(bundle, packed, tmp_path):
    archive = place(tmp_path, packed)
    total = sum(len(data) for data in content(bundle).values())
    with pytest.raises(UsageError, match="too large"):
        unpack(archive, tmp_path / "out", max_bytes=total - 1)
    assert os.listdir(tmp_path) == ["x.hwc"]
    unpack(archive, tmp_path / "out", max_bytes=total)


def test_a_bomb_is_refused_by_what_it_declares_and_by_what_it_is(bundle, tmp_path):
    members = members_of(bundle)
    rows = [[info.name, len(data), hashlib.sha256(data).hexdigest()] for info, data in members]
    # Declares little and unpacks to 100 MB of zeros behind its last member.
    small = gzip.decompress(forge(members))
    assert_refused(tmp_path, gzip.compress(small + bytes(100 << 20), mtime=0), "does not end")
    # Declares terabytes.
    rows[0][1] = 7 << 30
    assert_refused(tmp_path, forge(members, listed=rows), "another size")
    many = [[f"f{index}", 7 << 30, "0" * 64] for index in range(10, 99)]
    assert_refused(tmp_path, forge(members, listed=sorted([*many, [MANIFEST, 1, "0" * 64]])), "too large")
    huge = [[MANIFEST, 65 << 20, "0" * 64]]
    assert_refused(tmp_path, forge(members, listed=huge), f"{MANIFEST} is too large")


def test_a_table_of_impossible_size_is_refused(bundle, tmp_path):
    assert_refused(tmp_path, forge(members_of(bundle), padding="x" * (5 << 20)), f"{CONTENTS} is too large")


def test_a_disk_with_too_little_space_is_named_before_anything_is_written(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(EngineError, match="too little space"):
        unpack(place(tmp_path, packed), tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.hwc"]


def test_an_old_bundle_stays_where_the_archive_is_refused(bundle, packed, tmp_path):
    shutil.copytree(bundle, tmp_path / "out")
    with pytest.raises(UsageError):
        unpack(place(tmp_path, packed[:-40]), tmp_path / "out")
    assert content(tmp_path / "out") == content(bundle)


def test_no_archive_at_all_is_refused(tmp_path):
    for data in (b"", b"PK\3\4 a zip", bytes(2000), gzip.compress(b"short"), gzip.compress(bytes(4096))):
        assert_refused(tmp_path, data)


NAMES = st.text(st.characters(codec="utf-8"), max_size=40)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_archive_is_refused_or_gives_the_very_bundle(bundle, packed, tmp_path, data):
    """Flipped, cut, doubled or cleared bytes, in the gzip stream or in the tar inside it."""
    is_inner = data.draw(st.booleans())
    raw = bytearray(gzip.decompress(packed) if is_inner else packed)
    at = data.draw(st.integers(0, len(raw) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "double", "clear"]))
    if how == "flip":
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del raw[at:]
    elif how == "double":
        raw[at:at] = raw[at : at + data.draw(st.integers(1, 1500))]
    else:
        raw[at : at + 64] = bytes(len(raw[at : at + 64]))
    changed = gzip.compress(bytes(raw), mtime=0) if is_inner else bytes(raw)
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    try:
        unpack(place(tmp_path, changed), out)
    except HwcError:
        assert os.listdir(tmp_path) == ["x.hwc"]
    else:
        assert content(out) == content(bundle)


@settings(max_examples=100, deadline=None)
@given(NAMES)
def test_a_name_that_passes_stays_below_the_bundle(name):
    try:
        archives._check_member(Path("x"), Member(name, 1, "0" * 64))
    except UsageError:
        return
    inside = Path("/bundle") / name
    assert os.path.normpath(inside) == str(inside) and str(inside).startswith("/bundle/")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}\.bin", fullmatch=True), st.binary(max_size=2000),
                       max_size=6))  # fmt: skip
def test_any_bundle_survives(tmp_path, files):
    for name in ("net", "out"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    write_bundle(tmp_path / "net")
    for name, data in files.items():
        (tmp_path / "net" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "net" / name).write_bytes(data)
    seal_bundle(tmp_path / "net")
    pack(tmp_path / "net", tmp_path / "net.hwc")
    unpack(tmp_path / "net.hwc", tmp_path / "out")
    assert hash_files(tmp_path / "out", without="") == hash_files(tmp_path / "net", without="")
