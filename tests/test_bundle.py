"""A bundle is written whole or not at all, and nothing is believed when it is read."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hwc import bundle as bundles
from hwc.artifacts import BuildKey, Bundle, Engine, Target
from hwc.bundle import MANIFEST, SCHEMA, hash_files, read_bundle, staged_folder, verify_bundle, write_manifest
from hwc.errors import EngineError, UsageError

ROOT = Path(__file__).resolve().parents[1]


def a_bundle(files: dict[str, str], name: str = "net") -> Bundle:
    key = BuildKey("0" * 64, "cpu", "made up 1.0", "fp32")
    engine = Engine("reference", "built", key, tuple(files), (), (), (), 1, None, None, 0.1, ())
    target = Target("cpu", "A CPU", "cpu", "openvino", {})
    return Bundle(SCHEMA, name, target, "fp32", (), (), (), (), engine, files, {"hwc": "0"}, ("hwc", "compile"))


def fill(stage: Path, text: str) -> None:
    (stage / "model.onnx").write_text(text)
    (stage / "engine").mkdir()
    (stage / "engine" / "net.bin").write_bytes(b"\0" * 10)
    write_manifest(stage, a_bundle(hash_files(stage), name=text))


@pytest.fixture
def out(tmp_path) -> Path:
    """A sound bundle called `old`, alone in its folder."""
    out = tmp_path / "beside" / "net"
    with staged_folder(out) as stage:
        fill(stage, "old")
    return out


def assert_old_and_alone(out: Path) -> None:
    found = read_bundle(out)
    verify_bundle(out, found)
    assert found.name == "old"
    assert os.listdir(out.parent) == [out.name]


def test_a_bundle_reads_back_as_it_was_written(out):
    assert_old_and_alone(out)
    assert set(read_bundle(out).files) == {"model.onnx", "engine/net.bin"}
    assert out.stat().st_mode & 0o777 == 0o755


def test_an_old_bundle_is_replaced_as_a_whole(out):
    with staged_folder(out) as stage:
        (stage / "only").write_text("new")
        write_manifest(stage, a_bundle(hash_files(stage), name="new"))
    assert sorted(os.listdir(out)) == [MANIFEST, "only"]
    assert os.listdir(out.parent) == [out.name]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt(), OSError(errno.EIO, "bad disk")])
def test_whatever_breaks_while_writing_leaves_the_old_bundle_and_nothing_beside_it(out, error):
    with pytest.raises(type(error)), staged_folder(out) as stage:
        (stage / "half").write_text("written")
        raise error
    assert_old_and_alone(out)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad disk"), KeyboardInterrupt()])
@pytest.mark.parametrize("rename", [1, 2])
def test_whatever_breaks_between_the_renames_brings_the_old_bundle_back(out, monkeypatch, rename, error):
    real, calls = os.replace, []

    def replace(source, destination):
        calls.append(source)
        if len(calls) == rename:
            raise error
        real(source, destination)

    with pytest.raises(type(error)), staged_folder(out) as stage:
        fill(stage, "new")
        monkeypatch.setattr(bundles.os, "replace", replace)
    assert len(calls) >= rename
    assert_old_and_alone(out)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_loses_nothing(out, number):
    with pytest.raises(EngineError, match="the disk is full") as caught, staged_folder(out) as stage:
        (stage / "half").write_text("written")
        raise OSError(number, os.strerror(number), str(stage / "model.onnx"))
    assert str(out.parent) in caught.value.do
    assert_old_and_alone(out)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_disk_that_is_really_full_is_named(out):
    with pytest.raises(EngineError, match="the disk is full"), staged_folder(out), open("/dev/full", "w") as stream:
        stream.write("x")
        stream.flush()
    assert_old_and_alone(out)


def test_a_folder_with_something_else_in_it_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("dear")
    with pytest.raises(UsageError, match="not empty and not a bundle"), staged_folder(tmp_path / "photos"):
        pytest.fail("the block must not run")
    assert (tmp_path / "photos" / "one.jpg").read_text() == "dear"


def test_an_empty_folder_may_be_used_and_a_file_may_not(tmp_path):
    (tmp_path / "empty").mkdir()
    with staged_folder(tmp_path / "empty") as stage:
        fill(stage, "new")
    assert read_bundle(tmp_path / "empty").name == "new"
    (tmp_path / "file").write_text("dear")
    with pytest.raises(UsageError, match="is a file"), staged_folder(tmp_path / "file"):
        pytest.fail("the block must not run")
    with pytest.raises(UsageError, match="cannot write beside"), staged_folder(tmp_path / "file" / "net"):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_given_as_output_is_followed_and_stays_a_link(tmp_path, is_there):
    if is_there:
        (tmp_path / "disk").mkdir()
    (tmp_path / "net").symlink_to(tmp_path / "disk")
    with staged_folder(tmp_path / "net") as stage:
        fill(stage, "new")
    assert (tmp_path / "net").is_symlink()
    assert read_bundle(tmp_path / "disk").name == "new"


def change(out: Path) -> None:
    (out / "engine" / "net.bin").write_bytes(b"\0" * 9 + b"\1")


def cut_off(out: Path) -> None:
    (out / "model.onnx").write_text("ol")


def remove(out: Path) -> None:
    (out / "engine" / "net.bin").unlink()


def add(out: Path) -> None:
    (out / "engine" / "more.bin").write_text("x")


def hide(out: Path) -> None:
    (out / ".hidden").write_text("x")


def link_file(out: Path) -> None:
    (out / "model.onnx").unlink()
    (out / "model.onnx").symlink_to("/etc/hostname")


def link_folder(out: Path) -> None:
    (out / "engine2").symlink_to(out / "engine")


def link_manifest(out: Path) -> None:
    (out / MANIFEST).rename(out.parent / "elsewhere.json")
    (out / MANIFEST).symlink_to(out.parent / "elsewhere.json")


def add_pipe(out: Path) -> None:
    os.mkfifo(out / "pipe")


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (change, "'engine/net.bin' was changed"),
        (cut_off, "'model.onnx' was changed"),
        (remove, "'engine/net.bin' is missing"),
        (add, "'engine/more.bin' is not in the manifest"),
        (hide, "'.hidden' is not in the manifest"),
        (link_file, "'model.onnx' is a link"),
        (link_folder, "'engine2' is a link"),
        (link_manifest, "'manifest.json' is a link"),
        (add_pipe, "'pipe' is a link or special file"),
    ],
)
def test_a_tampered_bundle_is_refused_by_the_name_of_the_file(out, tamper, message):
    tamper(out)
    with pytest.raises(UsageError, match=message):
        verify_bundle(out, read_bundle(out))


@pytest.mark.parametrize("name", ["/etc/passwd", "../beside.bin", "engine/../../beside.bin"])
def test_a_manifest_that_names_a_file_outside_the_bundle_is_refused(out, name):
    data = json.loads((out / MANIFEST).read_text())
    data["files"][name] = "0" * 64
    (out / MANIFEST).write_text(json.dumps(data))
    with pytest.raises(UsageError, match="outside the bundle"):
        verify_bundle(out, read_bundle(out))


@pytest.mark.parametrize("schema", [0, 2, 11, 100, True, "1", None, [1]])
def test_another_schema_is_refused_as_such(out, schema):
    data = json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).write_text(json.dumps({**data, "schema": schema, "field of the future": 1}))
    with pytest.raises(UsageError, match="another schema"):
        read_bundle(out)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"schema": 1', "{}", '{"schema": 1}', "[" * 100_000])
def test_a_manifest_that_is_none_is_refused(out, text):
    (out / MANIFEST).write_text(text)
    with pytest.raises(UsageError):
        read_bundle(out)


def test_what_is_no_bundle_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match="is not a bundle"):
            read_bundle(folder)
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not a bundle"):
        read_bundle(tmp_path)


WRITER = """
import sys
from pathlib import Path
from hwc.bundle import staged_folder
from tests.test_bundle import fill

out, is_endless = Path(sys.argv[1]), sys.argv[2] == "endless"
while True:
    with staged_folder(out) as stage:
        fill(stage, "old")
        print("half written", flush=True)
        if not is_endless:
            (stage / "model.onnx").write_text("hal")
            sys.stdin.read()
"""


def start_writer(out: Path, how: str) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(out), how]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("was_there", [True, False])
def test_a_writer_killed_half_way_leaves_the_old_bundle_or_nothing(out, was_there):
    goal = out if was_there else out.parent / "other"
    with start_writer(goal, "once") as child:
        assert child.stdout.readline() == "half written\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    if was_there:
        verify_bundle(goal, read_bundle(goal))
        assert read_bundle(goal).name == "old"
    else:
        assert not goal.exists()
    with staged_folder(goal) as stage:
        fill(stage, "new")
    verify_bundle(goal, read_bundle(goal))


def test_a_writer_killed_at_any_moment_never_leaves_half_a_bundle(out):
    with start_writer(out, "endless") as child:
        for _ in range(50):
            assert child.stdout.readline() == "half written\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    if out.exists():
        verify_bundle(out, read_bundle(out))
