"""What a job's folder says, also after a power cut left half of it."""

import json
import os

import pytest

from hwc.remote.board import jobs
from hwc.remote.board.jobs import look_at_jobs
from hwc.remote.board.run_command import read_boot_id


@pytest.fixture
def place(tmp_path):
    """The folder of a job of this process."""
    place = tmp_path / "net.job" / "build"
    place.mkdir(parents=True)
    (place / "key").write_text("k")
    write_owner(place)
    return place


def write_owner(place, **changes: object) -> None:
    pid = os.getpid()
    owner = {"pid": pid, "ticks": jobs._start_ticks(pid), "boot_id": read_boot_id(), **changes}
    (place / "owner").write_text(json.dumps(owner))


def state(place) -> dict:
    return look_at_jobs(str(place.parent)[: -len(".job")])["jobs"]["build"]


def test_a_process_that_lives_is_a_running_job(place):
    assert state(place) == {"state": "running", "key": "k", "pid": os.getpid()}


@pytest.mark.parametrize(
    ("change", "word"),
    [({"ticks": 1}, "died"), ({"pid": 2**22 - 1}, "died"), ({"ticks": 0}, "died"), ({"boot_id": "x"}, "rebooted")],
)
def test_another_process_none_and_another_boot_are_not_the_job(place, change, word):
    write_owner(place, **change)
    assert state(place)["state"] == word


def test_a_job_with_a_status_is_finished_whatever_its_process_is(place):
    write_owner(place, boot_id="x")
    (place / "status").write_text("3\n")
    assert state(place)["state"] == "finished" and state(place)["rc"] == 3


@pytest.mark.parametrize(("file", "text"), [("owner", ""), ("owner", "{"), ("key", "")])
def test_half_a_record_is_no_job(place, file, text):
    (place / file).write_text(text)
    assert state(place) == {"state": "absent", "key": "", "pid": 0}


def test_half_a_status_is_none(place):
    for text in ("", "\0", "\n"):
        (place / "status").write_text(text)
        assert state(place)["state"] == "running"


def test_a_process_that_waits_to_be_reaped_has_ended():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert jobs._start_ticks(pid) == 0
    os.waitpid(pid, 0)
