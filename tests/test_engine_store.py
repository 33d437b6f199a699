"""The engine store: found when equal, explained when not, never half made, never used when damaged."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hwc.artifacts import BuildKey, Engine
from hwc.engine_store import ENGINE, EngineStore
from hwc.errors import EngineError, UsageError
from hwc.fingerprint import Fingerprint
from hwc.serialize import to_json

ROOT = Path(__file__).resolve().parents[1]
HERE = Fingerprint("tensorrt", "8.5.2", "0.1.0", "11.4", "35.6.4", "Xavier", "7.2", "8", "MAXN", "xavier", "a" * 64,
                   "fp16", "x:1")  # fmt: skip


def fill(stage: Path, text: str = "the plan") -> None:
    (stage / "engine.plan").write_text(text)
    key = BuildKey("a" * 64, "xavier", "tensorrt 8.5.2", "fp16")
    engine = Engine("tensorrt", "built", key, ("engine.plan",), (), (), (), 8, None, None, 0.1, ())
    (stage / ENGINE).write_text(to_json(engine))


def silent() -> None:
    raise AssertionError("nobody else holds this engine")


@pytest.fixture
def store(tmp_path) -> EngineStore:
    """A store with one engine, that of HERE."""
    made = EngineStore(tmp_path / "store")
    with made.lock(HERE, silent), made.put(HERE) as stage:
        fill(stage)
    return made


def visible(store: EngineStore) -> list:
    return sorted(path.name for path in store.root.iterdir() if not path.name.endswith(".lock"))


def test_an_engine_is_found_again_when_everything_is_equal(store):
    said: list = []
    found = store.find(dataclasses.replace(HERE), said.append)
    assert found is not None and found.fingerprint == HERE and said == []
    assert (found.folder / "engine.plan").read_text() == "the plan"
    assert found.folder.stat().st_mode & 0o777 == 0o755 and visible(store) == [HERE.key]


def test_the_nearest_engine_is_explained(store):
    other = dataclasses.replace(HERE, power_mode="MODE_10W", sm_count="4", model="b" * 64)
    with store.lock(other, silent), store.put(other) as stage:
        fill(stage)
    wanted = dataclasses.replace(HERE, power_mode="MODE_15W")
    assert store.find(wanted, pytest.fail) is None
    nearest, changes = store.find_nearest(wanted)
    assert nearest.fingerprint == HERE and [str(change) for change in changes] == ["power_mode: MAXN -> MODE_15W"]


def test_an_engine_of_another_module_is_not_near(store):
    assert store.find_nearest(dataclasses.replace(HERE, module="tensorrt_rtx")) == (None, ())
    assert EngineStore(store.root / "nowhere").find_nearest(HERE) == (None, ())


def change(folder: Path) -> None:
    (folder / "engine.plan").write_text("the plam")


def cut_off(folder: Path) -> None:
    (folder / "engine.plan").write_text("the")


def remove(folder: Path) -> None:
    (folder / "engine.plan").unlink()


def add(folder: Path) -> None:
    (folder / "more").write_text("x")


def unseal(folder: Path) -> None:
    (folder / ".files.json").write_text("{")


def link(folder: Path) -> None:
    (folder / "engine.plan").unlink()
    (folder / "engine.plan").symlink_to("/etc/hostname")


@pytest.mark.parametrize("damage", [change, cut_off, remove, add, unseal, link])
def test_a_damaged_engine_is_dropped_and_said(store, damage):
    damage(store.root / HERE.key)
    said: list = []
    assert store.find(HERE, said.append) is None
    assert len(said) == 1 and "damaged" in said[0] and HERE.key[:12] in said[0]
    assert visible(store) == []


def test_an_engine_under_the_name_of_another_is_not_taken(store):
    other = dataclasses.replace(HERE, gpu="Orin")
    os.rename(store.root / HERE.key, store.root / other.key)
    said: list = []
    assert store.find(other, said.append) is None and "records" in said[0]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt(), OSError(5, "bad disk")])
def test_whatever_breaks_a_build_leaves_the_old_engine_and_nothing_half_made(store, error):
    with pytest.raises(type(error)), store.lock(HERE, silent), store.put(HERE) as stage:
        (stage / "engine.plan").write_text("half")
        raise error
    assert visible(store) == [HERE.key]
    assert (store.find(HERE, pytest.fail).folder / "engine.plan").read_text() == "the plan"


def test_a_full_disk_is_named(store):
    with pytest.raises(EngineError, match="the disk is full"), store.lock(HERE, silent), store.put(HERE):
        raise OSError(28, "No space left on device", "engine.plan")


def test_an_engine_is_replaced_as_a_whole(store):
    with store.lock(HERE, silent), store.put(HERE) as stage:
        fill(stage, "a better plan")
    assert (store.find(HERE, pytest.fail).folder / "engine.plan").read_text() == "a better plan"
    assert visible(store) == [HERE.key]


def test_a_store_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    store = EngineStore(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot write the engine store"), store.lock(HERE, silent):
        pytest.fail("the block must not run")


HOLDER = """
import sys
from pathlib import Path
from hwc.engine_store import EngineStore
from tests.test_engine_store import HERE, fill

store = EngineStore(Path(sys.argv[1]))
with store.lock(HERE, lambda: None), store.put(HERE) as stage:
    (stage / "engine.plan").write_text("half")
    print("half written", flush=True)
    if sys.stdin.read() == "go on":
        fill(stage, "the plan of the first")
"""


def start_holder(root: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], cwd=str(ROOT), env=environment,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)  # fmt: skip
    assert child.stdout.readline() == "half written\n"
    return child


def test_a_killed_build_leaves_no_engine_and_its_leavings_go_with_the_next(tmp_path):
    store = EngineStore(tmp_path / "store")
    with start_holder(store.root) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert store.find(HERE, pytest.fail) is None and store.find_nearest(HERE) == (None, ())
    assert [name for name in visible(store) if name.endswith(".tmp")]
    with store.lock(HERE, silent), store.put(HERE) as stage:
        fill(stage)
    assert visible(store) == [HERE.key]


def test_a_second_process_waits_for_the_first_and_then_finds_its_engine(tmp_path):
    store, told = EngineStore(tmp_path / "store"), []
    with start_holder(store.root) as child:

        def waiting() -> None:
            if not told:
                child.stdin.write("go on")
                child.stdin.close()
            told.append(1)

        with store.lock(HERE, waiting):
            found = store.find(HERE, pytest.fail)
        child.wait()
    assert told and (found.folder / "engine.plan").read_text() == "the plan of the first"
