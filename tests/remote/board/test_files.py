"""The board's files, in this process: what is linked, continued, refused and switched, whatever lay there before."""

import contextlib
import errno
import hashlib
import io
import os
import random
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwc.remote.board import files
from hwc.remote.board.protocol import Refused

CONTENTS = [b"", b"a", b"bb" * 700, b"c" * 5000, b"same size 1", b"same size 2"]
NAMES = ["manifest.json", "hwc.pyz", "model.onnx", "d/one", "d/e/two"]


def listed(contents: dict[str, bytes]) -> dict[str, list]:
    return {name: [hashlib.sha256(data).hexdigest(), len(data)] for name, data in contents.items()}


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def send(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(files.sys, "stdin", types.SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data))))


def upload(monkeypatch, folder: Path, contents: dict[str, bytes], *, stop_after: int | None = None) -> int:
    """One run: plan, send (at most `stop_after` bytes), switch. The bytes that went."""
    plan = files.plan(str(folder), listed(contents), True)
    if plan["is_current"]:
        return 0
    data = b"".join(contents[item["name"]][item["have"] :] for item in plan["send"])
    send(monkeypatch, data if stop_after is None else data[:stop_after])
    assert files.receive(str(folder), plan["send"]) == []
    files.switch(str(folder), listed(contents))
    return len(data)


BUNDLES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(CONTENTS)).map(lambda b: {"manifest.json": b"m", **b})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(BUNDLES, st.none() | st.integers(0, 6000)), min_size=1, max_size=4))
def test_whatever_was_there_and_wherever_a_run_stopped_the_folder_is_one_whole_bundle(tmp_path_factory, runs):
    folder = tmp_path_factory.mktemp("board") / "net"
    whole = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(files, "_flush", lambda path: None)  # no power cut is played here, and disks are slow
        for contents, stop_after in runs:
            try:
                upload(monkeypatch, folder, contents, stop_after=stop_after)
                whole = contents
            except Refused as refused:
                assert refused.document["what"] == "the copy ended early"
            assert (read(folder) if folder.exists() else {}) == whole
        upload(monkeypatch, folder, whole or contents)
        assert read(folder) == (whole or contents)
        assert upload(monkeypatch, folder, whole or contents) == 0


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A bundle of three files."""
    folder = tmp_path / "b" / "net"
    upload(monkeypatch, folder, {"manifest.json": b"m", "model.onnx": b"x" * 3000, "d/one": b"one"})
    return folder


def test_what_is_there_under_any_name_is_linked_and_not_sent(folder, monkeypatch):
    new = {"manifest.json": b"M", "other.onnx": b"x" * 3000, "d/one": b"one"}
    plan = files.plan(str(folder), listed(new), False)
    assert [item["name"] for item in plan["send"]] == ["manifest.json"] and plan["reused_bytes"] == 3003
    assert os.listdir(folder.parent) == ["net"]  # a look writes nothing
    assert upload(monkeypatch, folder, new) == 1
    assert read(folder) == new and os.listdir(folder.parent) == ["net"]


def test_a_part_goes_on_at_its_byte_and_one_of_another_file_is_removed(folder, monkeypatch):
    big = random.Random(0).randbytes(4000)
    new = {"manifest.json": b"M", "model.onnx": big}
    with pytest.raises(Refused, match="ended early"):
        upload(monkeypatch, folder, {"manifest.json": b"M", "model.onnx": big[::-1]}, stop_after=2000)
    with pytest.raises(Refused, match="ended early"):
        upload(monkeypatch, folder, new, stop_after=1500)
    plan = files.plan(str(folder), listed(new), True)
    assert [(item["name"], item["have"]) for item in plan["send"]] == [("model.onnx", 1500)]
    assert upload(monkeypatch, folder, new) == 2500 and read(folder) == new


def test_a_part_with_wrong_bytes_is_said_and_gone(folder, monkeypatch):
    new = listed({"manifest.json": b"M", "model.onnx": b"y" * 3000})
    (item,) = [item for item in files.plan(str(folder), new, True)["send"] if item["name"] == "model.onnx"]
    for wrong in (b"z" * 1000, b"y" * 1000 + b"z" * 2500):
        part = folder.parent / "net.partial" / ".parts" / item["sha256"]
        part.write_bytes(wrong)
        send(monkeypatch, b"y" * 3000)
        assert files.receive(str(folder), [{**item, "have": min(len(wrong), 3000)}]) == ["model.onnx"]
        assert not part.exists()


def test_a_bundle_that_was_tampered_with_on_the_way_is_not_switched_to(folder, monkeypatch):
    new = {"manifest.json": b"M", "model.onnx": b"y" * 3000}
    plan = files.plan(str(folder), listed(new), True)
    send(monkeypatch, b"".join(new[item["name"]] for item in plan["send"]))
    files.receive(str(folder), plan["send"])
    partial = folder.parent / "net.partial"
    (partial / "extra").write_text("")
    with pytest.raises(Refused, match="a file appeared"):
        files.switch(str(folder), listed(new))
    (partial / "extra").unlink()
    (partial / "d").symlink_to(folder / "d")
    with pytest.raises(Refused, match="a file appeared"):
        files.switch(str(folder), listed(new))
    (partial / "d").unlink()
    (partial / "model.onnx").write_bytes(b"z" * 3000)
    with pytest.raises(Refused, match="not what was sent"):
        files.switch(str(folder), listed(new))
    assert read(folder)["manifest.json"] == b"m"


@pytest.mark.parametrize("has_exchange", [True, False])
def test_a_switch_that_dies_between_any_two_steps_leaves_a_bundle_and_is_mended(folder, monkeypatch, has_exchange):
    old, new = read(folder), {"manifest.json": b"M", "model.onnx": b"y"}
    if not has_exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for step in range(4):
        calls = []

        def dies(real, calls=calls, step=step):
            def call(*arguments, **keywords):
                calls.append(real)
                if len(calls) > step:
                    raise KeyboardInterrupt
                return real(*arguments, **keywords)

            return call

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files.os, "rename", dies(os.rename))
            patch.setattr(files, "_exchange", dies(files._exchange))
            with contextlib.suppress(KeyboardInterrupt):
                upload(patch, folder, new)
        # Without the exchange there is a moment with no bundle, which the next run mends.
        assert not folder.exists() if not has_exchange and step == 2 else read(folder) in (old, new)
        upload(monkeypatch, folder, new)
        assert read(folder) == new
        upload(monkeypatch, folder, old)
        assert read(folder) == old and os.listdir(folder.parent) == ["net"]


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [(errno.ENOSPC, "EngineError", "disk is full"), (errno.EDQUOT, "EngineError", "disk is full"),
     (errno.EACCES, "UsageError", "cannot write"), (errno.EROFS, "UsageError", "cannot write")],
)  # fmt: skip
def test_a_disk_that_takes_no_more_is_one_refusal_and_keeps_the_part(folder, monkeypatch, number, kind, said):
    new = {"manifest.json": b"M", "model.onnx": b"y" * 3000}

    def write(handle, data, real=os.write):
        if len(data) > 1000:
            real(handle, data[:1000])
            raise OSError(number, os.strerror(number))
        return real(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", write)
        with pytest.raises(Refused, match=said) as caught:
            upload(patch, folder, new)
    assert caught.value.document["error"] == kind and caught.value.document["do"]
    plan = files.plan(str(folder), listed(new), True)
    assert [item["have"] for item in plan["send"] if item["name"] == "model.onnx"] == [1000]


def test_a_folder_that_holds_something_else_is_never_replaced(tmp_path):
    wanted = listed({"manifest.json": b"m"})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("dear")
    (tmp_path / "file").write_text("")
    for place, said in (("photos", "not a bundle"), ("file", "in the way"), ("/", "cannot replace"), ("~", "cannot")):
        with pytest.raises(Refused, match=said):
            files.plan(place if len(place) == 1 else str(tmp_path / place), wanted, True)
    assert (tmp_path / "photos" / "one.jpg").read_text() == "dear"


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "d/../../x", ".parts/x"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    with pytest.raises(Refused, match="outside the bundle"):
        files.plan(str(tmp_path / "net"), listed({name: b"", "manifest.json": b""}), True)


def test_a_file_system_without_links_gets_copies(folder, monkeypatch):
    def no_link(source, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(files.os, "link", no_link)
    upload(monkeypatch, folder, {"manifest.json": b"M", "again.onnx": b"x" * 3000})
    assert read(folder)["again.onnx"] == b"x" * 3000


def test_free_space_is_that_of_the_disk_where_the_folder_will_be(tmp_path):
    disk = os.statvfs(tmp_path)
    free = files.plan(str(tmp_path / "not" / "yet"), {"manifest.json": ["0" * 64, 1]}, False)["free_bytes"]
    assert free == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.2)
