"""A build outlives its link: the next run joins it, takes its result, or starts again what a reboot ended."""

import contextlib
import json
import os
import signal

import pytest

from hwc.errors import EngineError, InternalError, TargetError
from hwc.remote.board_program import job_key
from tests.remote.fixtures import job, let_go, once, wait_for, write_bundle


@pytest.fixture
def cut_build(deploy_to, board):
    """A build that goes on on the board and waits for the file `go`, its link cut."""
    board.set_device(hold="build")
    result = deploy_to(build=True, on_progress=once("build", board.cut_links))
    assert type(result.error) is EngineError and result.error.what == "the link to board was cut"
    assert result.error.where == "step build" and "pick it up" in result.error.do
    return board


def test_a_second_run_joins_the_build_that_goes_on_and_sees_its_progress(cut_build, deploy_to):
    seen = []

    def watch(host, step, fraction, text):
        seen.append((step, fraction, text))
        if step == "build" and fraction == 0.5:
            let_go(cut_build)

    result = deploy_to(build=True, on_progress=watch)
    assert result.error is None, str(result.error)
    assert result.notes == ["build: joined the one that an earlier run started"] and result.sent_bytes == 0
    assert result.build["kernels"] == 7 and ("build", 0.1, "build") in seen
    assert cut_build.calls().count("build") == 1 and not job(cut_build).exists()


def test_a_build_that_finished_meanwhile_is_picked_up_once(cut_build, deploy_to):
    let_go(cut_build)
    wait_for((job(cut_build) / "status").exists)
    result = deploy_to(build=True)
    assert result.error is None and "had finished meanwhile" in result.notes[0]
    assert cut_build.calls().count("build") == 1
    assert deploy_to(build=True).notes == [] and cut_build.calls().count("build") == 2


def test_a_build_that_failed_meanwhile_is_started_again(deploy_to, board):
    board.set_device(hold="build", fail={"build": {"error": "EngineError", "what": "no memory", "exit_code": 4}})
    assert "was cut" in deploy_to(build=True, on_progress=once("build", board.cut_links)).error.what
    let_go(board)
    wait_for((job(board) / "status").exists)
    board.set_device(fail={})
    result = deploy_to(build=True)
    assert result.error is None and result.notes == ["build: it failed during an earlier run; it was started again"]


def test_a_build_of_another_kind_or_bundle_is_not_joined_and_not_disturbed(cut_build, deploy_to, tmp_path):
    error = deploy_to(build=True, builds=3).error
    assert type(error) is EngineError and error.what == "another build is running on the board" and "kill" in error.do
    error = deploy_to(folder=write_bundle(tmp_path / "net", seed=5)).error
    assert type(error) is EngineError and error.what == "a build of another bundle is running on the board"
    let_go(cut_build)
    assert deploy_to(build=True).error is None


def test_a_board_that_is_rebooted_in_a_build_builds_again(deploy_to, board):
    board.set_device(hold="build")
    first = deploy_to(build=True, on_progress=once("build", board.reboot))
    assert "was cut" in first.error.what
    let_go(board)
    second = deploy_to(build=True)
    assert second.error is None and second.build is not None
    assert second.notes == ["build: the board was rebooted during an earlier run; it was started again"]


def test_a_process_id_that_another_process_has_now_is_not_the_build(cut_build, deploy_to):
    owner = json.loads((job(cut_build) / "owner").read_text())
    with contextlib.suppress(ProcessLookupError):
        os.killpg(owner["pid"], signal.SIGKILL)
    (job(cut_build) / "owner").write_text(json.dumps({**owner, "pid": os.getpid()}))
    let_go(cut_build)
    result = deploy_to(build=True)
    assert result.notes == ["build: it was killed during an earlier run; it was started again"]


def test_what_the_program_says_when_it_fails_keeps_its_class_and_its_next_step(deploy_to, board):
    said = {"error": "TargetError", "what": "no INT8\x1b[31m here", "do": "use fp16", "got": "7.1", "exit_code": 3}
    board.set_device(fail={"build": said})
    error = deploy_to(build=True).error
    assert type(error) is TargetError and error.exit_code == 3
    assert (error.what, error.where, error.got, error.do) == ("no INT8 here", "board", "7.1", "use fp16")
    board.set_device(fail={"doctor": {**said, "error": "InternalError", "exit_code": 70}})
    assert type(deploy_to().error) is InternalError
    board.set_device(fail={}, garbage="build")
    error = deploy_to(build=True).error
    assert error.what == "build printed no result" and error.got == "no json\n"


def test_a_build_that_is_killed_is_said_and_the_next_run_starts_again(deploy_to, board):
    board.set_device(die="build")
    error = deploy_to(build=True).error
    assert type(error) is EngineError and error.what == "build was killed on the board" and "memory" in error.do
    board.set_device(die="", hold="build")
    error = deploy_to(build=True, on_progress=once("build", board.kill_jobs)).error
    assert type(error) is EngineError and error.what == "build ended without a result"
    let_go(board)
    assert deploy_to(build=True).error is None


def test_a_measurement_whose_link_is_cut_is_picked_up_too(deploy_to, board):
    board.set_device(hold="profile")
    first = deploy_to(profile=True, duration_s=2, on_progress=once("profile", board.cut_links))
    assert first.error.where == "step profile" and first.build is not None
    let_go(board)
    second = deploy_to(profile=True, duration_s=2)
    assert second.error is None and second.profile["profiles"][0]["machine"] == [["duration", "2"]]
    assert board.calls().count("profile") == 1


def test_jobs_are_the_same_only_if_bundle_command_and_power_mode_are():
    key = job_key("m", ["a", "b"], "MAXN")
    assert key == job_key("m", ["a", "b"], "MAXN")
    others = {job_key("n", ["a", "b"], "MAXN"), job_key("m", ["a b"], "MAXN"), job_key("m", ["a", "b"], "")}
    assert len({key, *others}) == 4
