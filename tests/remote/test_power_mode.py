"""The power mode of a deployment: set by name, restored after whatever happens, refused where root is not given."""

import json

import pytest

from hwc.errors import EngineError, TargetError, UsageError
from hwc.remote.hosts import Host
from tests.remote.fixtures import job, let_go, once, wait_for


def mode(board) -> str:
    return (board.root / "mode").read_text()


def record(board):
    return board.home / "hwc" / "net.job" / "power.json"


def test_it_is_set_for_the_build_and_restored_after_it(deploy_to, board):
    board.set_faults(uid=1000)  # so that sudo has to be asked
    result = deploy_to(build=True, power_mode="MAXN")
    assert result.error is None, str(result.error)
    assert result.build["power_mode"] == "0" and mode(board) == "2" and not record(board).exists()
    assert result.power == {"mode": "MAXN", "former": "MODE_15W", "restored": "MODE_15W"}
    result = deploy_to(build=True, power_mode="MAXN", keep_power_mode=True)
    assert result.error is None and mode(board) == "0" and not record(board).exists()
    assert result.power["restored"] == ""


def test_a_host_may_have_its_own_mode_and_a_build_that_fails_restores_too(deploy_to, board):
    board.set_device(fail={"build": {"error": "EngineError", "what": "no", "exit_code": 4}})
    result = deploy_to(build=True, power_mode="MAXN", host=Host("board", power_mode="MODE_30W_ALL"))
    assert result.error.what == "no" and result.power["mode"] == "MODE_30W_ALL"
    assert mode(board) == "2" and not record(board).exists()


def test_a_mode_that_a_cut_link_left_is_restored_by_the_next_run(deploy_to, board):
    board.set_device(hold="build")
    first = deploy_to(build=True, power_mode="MAXN", on_progress=once("build", board.cut_links))
    assert "the board is still in MAXN, which the next run restores to MODE_15W" in first.error.do
    assert mode(board) == "0" and json.loads(record(board).read_text())["name"] == "MODE_15W"
    let_go(board)
    wait_for((job(board) / "status").exists)
    second = deploy_to(build=True, power_mode="MAXN")
    assert second.error is None and "had finished meanwhile" in second.notes[0]
    assert second.power["former"] == second.power["restored"] == "MODE_15W" and mode(board) == "2"


def test_it_is_restored_even_by_a_run_that_asks_for_no_mode(deploy_to, board):
    board.set_device(hold="build")
    deploy_to(build=True, power_mode="MAXN", on_progress=once("build", board.reboot))
    assert mode(board) == "0"
    result = deploy_to()
    assert result.error is None and result.power["restored"] == "MODE_15W" and mode(board) == "2"


def test_without_root_nothing_is_built_and_the_mode_stays(deploy_to, board):
    board.set_faults(uid=1000)
    (board.root / "sudo_password").write_text("")
    error = deploy_to(build=True, power_mode="MAXN").error
    assert type(error) is UsageError and "sudo asks for a password" in error.what and "NOPASSWD" in error.do
    assert mode(board) == "2" and not record(board).exists() and board.calls() == ["doctor"]


def test_a_table_with_other_numbers_a_reboot_and_no_nvpmodel_are_refused(deploy_to, board):
    (board.root / "etc" / "nvpmodel.conf").write_text("< POWER_MODEL ID=8 NAME=MAXN >\n")
    error = deploy_to(power_mode="MAXN").error
    assert type(error) is TargetError and error.got == "MAXN is number 8" and mode(board) == "2"
    (board.root / "etc" / "nvpmodel.conf").unlink()
    (board.root / "reboot_0").write_text("")
    error = deploy_to(power_mode="MAXN").error
    assert type(error) is EngineError and "reboot" in error.do and not record(board).exists()
    (board.root / "bin" / "nvpmodel").unlink()
    error = deploy_to(power_mode="MAXN").error
    assert type(error) is TargetError and "no nvpmodel" in error.what


@pytest.mark.parametrize("name", ["maxn", "0"])
def test_a_mode_that_the_target_does_not_have_is_refused_before_anything_connects(deploy_to, board, name):
    result = deploy_to(power_mode=name)
    assert type(result.error) is UsageError and "MAXN" in result.error.expected and result.steps == []
