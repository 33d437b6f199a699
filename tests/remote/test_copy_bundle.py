"""A copy sends what is missing, goes on where a cut link stopped it, and is judged by its bytes on the board."""

import shutil

import pytest

from hwc.bundle import MANIFEST, read_bundle, verify_bundle
from hwc.errors import EngineError, UsageError
from hwc.remote import copy_bundle
from hwc.remote.copy_bundle import Copy, list_files, read_plan, show_bytes
from hwc.remote.hosts import Host
from hwc.remote.ssh import Connection
from tests.remote.fixtures import MODEL_BYTES, write_bundle

needs_rsync = pytest.mark.skipif(not copy_bundle.has_rsync(), reason="RSYNC IS NOT TESTED HERE: apt-get install rsync")


def there(board, name: str = "net"):
    return board.home / "hwc" / name


def assert_arrived(board, bundle) -> None:
    verify_bundle(there(board), read_bundle(there(board)))
    assert read_bundle(there(board)) == read_bundle(bundle)
    assert [path.name for path in (board.home / "hwc").iterdir()] == ["net"]


@pytest.mark.parametrize("use_rsync", [False, pytest.param(True, marks=needs_rsync)])
def test_a_copy_whose_link_is_cut_goes_on_at_its_byte(deploy_to, board, bundle, use_rsync):
    if use_rsync:
        (board.root / "bin" / "rsync").rename(board.root / "bin" / "rsync.real")
        board.write_program("rsync", f"{board.root}/site/rsync_that_is_cut.py")
    else:
        board.set_faults(cut_after=MODEL_BYTES // 2)
    seen = []
    first = deploy_to(use_rsync=use_rsync, on_progress=lambda host, step, fraction, text: seen.append(fraction))
    assert type(first.error) is EngineError and first.error.what == "the link to board was cut"
    assert first.error.where == "step copy" and "the byte where it stopped" in first.error.do
    # rsync counts what it wrote, and some of that was still on its way.
    assert not there(board).exists() and 0 < max(seen) <= 1 and (use_rsync or max(seen) < 1)
    board.set_faults(cut_after=1 << 40)
    if use_rsync:
        (board.root / "bin" / "rsync.real").rename(board.root / "bin" / "rsync")
    second = deploy_to(use_rsync=use_rsync)
    assert second.error is None, str(second.error)
    total = sum(size for _, size in list_files(bundle, read_bundle(bundle)).values())
    # What the cut left of the last piece may be gone; most of the first half is there.
    assert second.sent_bytes + second.reused_bytes == total and second.reused_bytes > MODEL_BYTES // 4
    assert_arrived(board, bundle)


def test_only_what_changed_is_sent_and_the_same_again_sends_nothing(deploy_to, board, tmp_path):
    folder = write_bundle(tmp_path / "net", seed=7)
    assert deploy_to(folder=folder).sent_bytes > MODEL_BYTES
    write_bundle(folder, seed=7, table="another table\n")
    changed = deploy_to(folder=folder)
    assert changed.error is None and 0 < changed.sent_bytes < MODEL_BYTES // 10 and changed.reused_bytes > MODEL_BYTES
    assert_arrived(board, folder)
    assert deploy_to(folder=folder).sent_bytes == 0


@needs_rsync
@pytest.mark.parametrize("use_rsync", [False, True])
def test_a_part_with_wrong_bytes_is_mended_or_sent_again_whole(board, bundle, use_rsync):
    files = list_files(bundle, read_bundle(bundle))
    sha, size = files["model.onnx"]
    part = board.home / "x.partial" / ".parts" / sha
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 1000)
    with Connection(Host("board"), board.ssh_config) as link:
        plan = read_plan(link.call("files.plan", folder="~/x", files=files, write=False), "board")
        assert {item["name"]: item["have"] for item in plan.send}["model.onnx"] == 1000
        copy = Copy(link, bundle, files, plan)
        copy.begin(10)
        before = copy.sent_bytes
        copy.finish(use_rsync=use_rsync)
    # rsync mends a part by itself; the plain way learns from the hash that it has to send all of it.
    rest = sum(size for name, (_, size) in files.items() if name != "hwc.pyz") - 1000
    assert copy.sent_bytes - before == rest + (0 if use_rsync else size)
    verify_bundle(board.home / "x", read_bundle(board.home / "x"))


def test_a_file_that_changes_here_while_it_is_sent_is_refused_and_not_switched_to(board, bundle, tmp_path):
    other = tmp_path / "net"
    shutil.copytree(bundle, other)
    files = list_files(bundle, read_bundle(bundle))
    (other / "model.onnx").write_bytes(b"\1" * files["model.onnx"][1])
    with Connection(Host("board"), board.ssh_config) as link:
        copy = Copy(link, other, files, read_plan(link.call("files.plan", folder="~/x", files=files, write=False), "b"))
        copy.begin(10)
        with pytest.raises(EngineError, match="'model.onnx' arrives changed"):
            copy.finish(use_rsync=False)
    assert not (board.home / "x").exists() and not (board.home / "x.partial" / "model.onnx").exists()


def test_a_disk_that_is_too_small_is_said_before_anything_is_sent(deploy_to, board):
    board.set_faults(free_bytes=2 << 20)
    result = deploy_to(dry_run=True)
    assert type(result.error) is EngineError and "too small" in result.error.what
    assert result.error.expected == "4.0 MiB free" and result.error.got == "2.0 MiB free"


def test_a_disk_that_fills_up_keeps_what_came_and_a_second_run_goes_on(deploy_to, board, bundle):
    board.set_faults(full_after=3 << 20)
    first = deploy_to(use_rsync=False)
    assert type(first.error) is EngineError and "disk is full" in first.error.what and "free space" in first.error.do
    board.set_faults(full_after=1 << 40)
    second = deploy_to(use_rsync=False)
    assert second.error is None and second.sent_bytes < 2 << 20
    assert_arrived(board, bundle)


@needs_rsync
def test_what_rsync_says_of_a_full_disk_or_a_loud_shell_is_understood(deploy_to, board):
    program = "import sys; sys.exit('rsync: write failed on \"x\": No space left on device (28)')"
    (board.root / "fails.py").write_text(program)
    board.write_program("rsync", f"{board.root}/fails.py")
    error = deploy_to().error
    assert type(error) is EngineError and "disk is full" in error.what
    (board.root / "fails.py").write_text("print('hello')")
    error = deploy_to().error
    assert error is not None and error.what == "rsync failed" and "--no-rsync" in error.do


def test_a_folder_that_may_not_be_written_or_holds_something_else(deploy_to, board):
    (board.home / "photos").mkdir()
    (board.home / "photos" / "one.jpg").write_text("dear")
    error = deploy_to(host=Host("board", remote_dir="~/photos")).error
    assert type(error) is UsageError and "not a bundle" in error.what and "--remote-dir" in error.do
    board.set_faults(closed=str(board.home / "shut"))
    error = deploy_to(host=Host("board", remote_dir="~/shut/net")).error
    assert type(error) is UsageError and "cannot write on the board" in error.what and "--remote-dir" in error.do
    assert (board.home / "photos" / "one.jpg").read_text() == "dear"


def test_a_folder_with_a_space_and_quotes_is_a_folder(deploy_to, board):
    result = deploy_to(host=Host("board", remote_dir="~/a b/it's $HOME"))
    assert result.error is None, str(result.error)
    assert result.folder == str(board.home / "a b" / "it's $HOME") and (board.home / "a b/it's $HOME/hwc.pyz").is_file()


def test_the_program_comes_first_and_the_manifest_last_and_a_bundle_without_one_is_refused(bundle):
    found = read_bundle(bundle)
    names = list(list_files(bundle, found))
    assert (names[0], names[-1]) == ("hwc.pyz", MANIFEST)
    del found.files["hwc.pyz"]
    with pytest.raises(UsageError, match="no hwc.pyz"):
        list_files(bundle, found)


def test_sizes_are_shown_in_binary_units():
    assert [show_bytes(n) for n in (0, 1023, 1024, 3 << 20, 5 << 29)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "3.0 MiB", "2.5 GiB",
    ]  # fmt: skip


def test_an_rsync_that_is_too_old_or_another_program_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not copy_bundle.has_rsync()
    for said, is_fit in (("rsync  version 3.0.9  protocol", False), ("openrsync: protocol version 29", False),
                         ("rsync  version 3.1.3  pro", True), ("rsync  version 10.0  pro", True)):  # fmt: skip
        (tmp_path / "rsync").write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / "rsync").chmod(0o755)
        assert copy_bundle.has_rsync() is is_fit
