"""The step cache never gives a wrong, half or failed result, and knows what a step has read."""

import contextlib
import importlib
import logging
import os
import sys
import threading
from pathlib import Path

import pytest

from hwc import store as stores
from hwc.errors import EngineError, UsageError
from hwc.store import Fingerprint, Store, key_of, watch_reads

KEY = key_of("step", 1)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


def put(store: Store, text: str = "made", key: str = KEY) -> None:
    with store.put("step", key) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "result").write_text(text)
        (folder / "manifest.json").write_text("{}")


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_nothing_is_found_before_it_is_put(store):
    assert store.get("step", KEY) is None


def test_what_was_put_is_found_under_its_step_and_key_only(store):
    put(store)
    assert (store.get("step", KEY) / "deep" / "result").read_text() == "made"
    assert store.require("step", KEY) == store.get("step", KEY)
    assert store.get("step", key_of("step", 2)) is None
    assert store.get("other", KEY) is None


def test_another_store_is_another_memory(store, tmp_path):
    put(store)
    assert Store(tmp_path / "fresh").get("step", KEY) is None


def test_keys_differ_when_any_part_differs_and_not_with_the_order_of_a_table():
    assert key_of("a", {"x": 1, "y": 2}) == key_of("a", {"y": 2, "x": 1})
    parts = ["a"], ["b"], ["a", ""], ["a", None], ["a", 1], ["a", "1"], ["a", 1.5], ["a", ["1"]], [Path("b"), 2]
    assert len({key_of(*p) for p in parts}) == len(parts)


def change(folder: Path) -> None:
    (folder / "deep" / "result").write_text("mads")


def remove(folder: Path) -> None:
    (folder / "deep" / "result").unlink()


def add(folder: Path) -> None:
    (folder / "more").write_text("")


def change_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def link(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hostname")


def cut_seal(folder: Path) -> None:
    seal = folder / ".files.json"
    seal.write_text(seal.read_text()[:-5])


def swap_seal(folder: Path) -> None:
    (folder / ".files.json").write_text("[]")


def lose_seal(folder: Path) -> None:
    (folder / ".files.json").unlink()


DAMAGES = [change, remove, add, change_manifest, link, cut_seal, swap_seal, lose_seal]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_dropped_said_and_can_be_made_again(store, damage, caplog):
    put(store)
    damage(store.get("step", KEY))
    with caplog.at_level(logging.WARNING):
        assert store.get("step", KEY) is None
    assert "damaged" in caplog.text
    put(store, "made again")
    assert (store.get("step", KEY) / "deep" / "result").read_text() == "made again"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_result_that_is_damaged_at_once_is_an_error(store, damage):
    put(store)
    damage(store.get("step", KEY))
    with pytest.raises(EngineError, match="its files are gone"):
        store.require("step", KEY)


@pytest.mark.parametrize("error", [RuntimeError, UsageError, KeyboardInterrupt])
def test_a_failure_is_never_stored_and_leaves_nothing(store, error):
    with pytest.raises(error), store.put("step", KEY) as folder:
        (folder / "half").write_text("written")
        raise error("no")
    assert store.get("step", KEY) is None
    assert files_below(store.root) == []
    assert list((store.root / "step").iterdir()) == []


def test_a_failure_does_not_take_an_earlier_success_away(store):
    put(store)
    with pytest.raises(RuntimeError), store.put("step", KEY):
        raise RuntimeError("no")
    assert store.get("step", KEY) is not None


def test_of_two_writers_the_first_one_in_stays_and_both_can_read(store):
    with store.put("step", KEY) as slow:
        (slow / "result").write_text("slow")
        with store.put("step", KEY) as fast:
            (fast / "result").write_text("fast")
        assert (store.require("step", KEY) / "result").read_text() == "fast"
    assert (store.require("step", KEY) / "result").read_text() == "fast"
    assert [p.name for p in (store.root / "step").iterdir()] == [KEY]


def test_many_writers_at_once_leave_one_sound_entry(store):
    barrier = threading.Barrier(8)

    def write(index: int) -> None:
        with store.put("step", KEY) as folder:
            (folder / "result").write_text(f"writer {index}")
            barrier.wait()

    threads = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (store.require("step", KEY) / "result").read_text().startswith("writer ")
    assert [p.name for p in (store.root / "step").iterdir()] == [KEY]


def test_a_dropped_entry_is_gone_and_dropping_nothing_is_no_error(store):
    store.drop("step", KEY)
    put(store)
    store.drop("step", KEY)
    assert store.get("step", KEY) is None


def test_a_cache_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the cache"), Store(tmp_path / "file").put("step", KEY):
        pytest.fail("the block must not run")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_named_and_stores_nothing(store):
    with pytest.raises(EngineError, match="the disk is full"), store.put("step", KEY), open("/dev/full", "w") as stream:
        stream.write("x")
        stream.flush()
    assert store.get("step", KEY) is None


def read_in(path: Path) -> Fingerprint:
    with watch_reads() as result:
        path.read_text()
    return result[0]


def paths(fingerprint: Fingerprint) -> set[str]:
    return {path for path, _ in fingerprint.files}


@pytest.fixture
def weights(tmp_path) -> Path:
    (tmp_path / "weights.bin").write_text("1 2 3")
    return tmp_path / "weights.bin"


@pytest.mark.parametrize(
    "read",
    [
        lambda path: open(path).close(),
        lambda path: open(os.fsencode(path), "rb").close(),
        lambda path: open(path, "r+b").close(),
        lambda path: os.read(os.open(path, os.O_RDONLY), 9),
        lambda path: path.read_bytes(),
        lambda path: open(os.path.relpath(path)).close(),
    ],
    ids=["str", "bytes", "update", "os.open", "pathlib", "relative"],
)
def test_a_file_opened_for_reading_is_seen_however_it_is_opened(weights, read):
    with watch_reads() as result:
        read(weights)
    assert str(weights) in paths(result[0])
    assert result[0].still_holds()


def test_files_written_or_read_outside_the_block_are_not_seen(weights, tmp_path):
    weights.read_text()
    with watch_reads() as result:
        (tmp_path / "out").write_text("x")
        os.close(os.open(tmp_path / "out2", os.O_CREAT | os.O_WRONLY))
        (tmp_path / "out3").open("w+").close()
    weights.read_text()
    assert not any(path.startswith(str(tmp_path)) for path in paths(result[0]))


def test_a_changed_or_removed_file_breaks_the_fingerprint(weights):
    seen = read_in(weights)
    weights.write_text("1 2 4")
    assert not seen.still_holds()
    weights.write_text("1 2 3")
    assert seen.still_holds()
    weights.unlink()
    assert not seen.still_holds()


def test_a_relative_path_means_the_folder_it_was_opened_in(weights, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with watch_reads() as result:
        open("weights.bin").close()
        os.chdir(tmp_path / "elsewhere")
    assert str(weights) in paths(result[0])


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A module of the user's own that reads no file but itself."""
    source = tmp_path / "made_up_net.py"
    source.write_text("layers = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield source
    sys.modules.pop("made_up_net", None)


def test_an_imported_module_is_seen_and_its_edit_breaks_the_fingerprint(user_module):
    with watch_reads() as result:
        importlib.import_module("made_up_net")
    assert str(user_module) in paths(result[0])
    user_module.write_text("layers = 4\n")
    assert not result[0].still_holds()


def test_a_module_that_an_earlier_block_imported_is_seen_again(user_module):
    with watch_reads():
        importlib.import_module("made_up_net")
    with watch_reads() as second:
        importlib.import_module("made_up_net")
    assert str(user_module) in paths(second[0])


def test_nested_blocks_both_see_what_the_inner_one_reads(weights):
    with watch_reads() as outer, watch_reads() as inner:
        weights.read_text()
    assert str(weights) in paths(inner[0])
    assert str(weights) in paths(outer[0])


def test_installed_code_and_devices_are_not_inputs():
    with watch_reads() as result:
        Path(os.__file__).read_text()
        Path(pytest.__file__).read_text()
        Path("/proc/self/status").read_text()
    assert not {os.__file__, pytest.__file__, "/proc/self/status"} & paths(result[0])


@pytest.mark.parametrize("reader", ["safetensors", "h5py", "pyarrow"])
def test_a_reader_that_python_does_not_see_makes_the_fingerprint_incomplete(weights, monkeypatch, reader):
    for name in stores._UNSEEN_READERS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert read_in(weights).is_complete
    monkeypatch.setitem(sys.modules, reader, logging)  # any module will do: only its name counts
    seen = read_in(weights)
    assert not seen.is_complete
    assert not seen.still_holds()


def test_an_error_in_the_block_stops_the_watch(weights):
    with pytest.raises(RuntimeError), watch_reads():
        raise RuntimeError("no")
    assert stores._watching == []
    assert str(weights) in paths(read_in(weights))


def test_the_digest_of_our_own_source_covers_every_file():
    digest = stores.own_source_digest()
    assert len(digest) == 64 and digest == stores.own_source_digest()
    assert dict(stores.installed_versions())["pytest"] == pytest.__version__


def test_unfinished_work_outlives_an_interruption_and_goes_with_the_finished_step(tmp_path):
    store = Store(tmp_path)
    (store.partial("step", "key") / "half.npz").write_bytes(b"half")
    with contextlib.suppress(KeyboardInterrupt), store.put("step", "key"):
        raise KeyboardInterrupt
    assert (store.partial("step", "key") / "half.npz").read_bytes() == b"half"
    with store.put("step", "key") as folder:
        (folder / "whole").write_bytes(b"whole")
    assert not (tmp_path / "partial" / "step" / "key").exists()
