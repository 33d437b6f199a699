"""Several boards at once: each has its own result, and one exit code sums them up."""

import threading

import pytest

from hwc.bundle import read_bundle
from hwc.errors import EngineError, TargetError
from hwc.remote import deploy_hosts as module
from hwc.remote.deploy_hosts import deploy_hosts, exit_code
from hwc.remote.host_result import DeployOptions, HostResult
from hwc.remote.hosts import Host
from hwc.remote.report_hosts import format_result
from tests.remote.fixtures import job, let_go, once, wait_for


def test_one_board_that_cannot_does_not_stop_the_others(board, bundle):
    hosts = [Host("board", "b0", remote_dir="~/n0"), Host("board", "absent", port=1), Host("board", "b1")]
    options = DeployOptions(build=True, ssh_config=board.ssh_config)
    seen = set()
    results = deploy_hosts(bundle, read_bundle(bundle), hosts, options, lambda host, *_: seen.add(host))
    assert [result.host for result in results] == ["b0", "absent", "b1"] and len(seen) == 3
    assert [result.error is None for result in results] == [True, False, True]
    assert exit_code(results) == 1 and board.calls().count("build") == 2


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([None], 0), ([None, None], 0), ([TargetError("x")], 3), ([EngineError("x")], 4),
        ([None, TargetError("x")], 1), ([TargetError("x"), TargetError("x")], 4),
    ],
)  # fmt: skip
def test_one_code_sums_up(errors, code):
    assert exit_code([HostResult("h", "h", error=error) for error in errors]) == code


def test_an_interrupt_ends_the_links_and_what_runs_on_the_board_goes_on(board, bundle, monkeypatch):
    board.set_device(hold="build")
    building = threading.Event()

    def wait(waiting, **keywords):
        assert building.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "wait", wait)
    options = DeployOptions(build=True, ssh_config=board.ssh_config)
    with pytest.raises(KeyboardInterrupt):
        deploy_hosts(bundle, read_bundle(bundle), [Host("board")], options, once("build", building.set))
    assert not (job(board) / "status").exists()
    let_go(board)
    wait_for((job(board) / "status").exists)


def test_a_bug_in_one_deployment_is_its_own_error(board, bundle, monkeypatch):
    monkeypatch.setattr("hwc.remote.deploy_bundle.read_doctor", lambda said, label: {}["machine"])
    (result,) = deploy_hosts(
        bundle, read_bundle(bundle), [Host("board")], DeployOptions(ssh_config=board.ssh_config)
    )
    assert result.error is not None and result.error.exit_code == 70 and result.error.where == "board, step copy"


def test_the_report_of_a_board_says_what_was_done(deploy_to):
    result = deploy_to(profile=True, power_mode="MAXN")
    text = format_result(result)
    for said in ("board: done", "TensorRT 8.5.2.2", "4.0 MiB sent, 0 bytes were there", "MAXN, before that MODE_15W,",
                 "engine built in 12.5 s, 7 kernels, 3.0 MiB, verified", "median 1.500 ms, p95 1.500 ms, p99 1.510 ms",
                 "662.3 qps, latency mean 1.510 ms", "over 100 runs"):  # fmt: skip
        assert said in text, text
    result.profile = {"profiles": [{"engine": "x"}]}
    assert "the report is not one of this version" in format_result(result)
    result.error = EngineError("broken", do="mend it")
    assert "board: failed" in format_result(result) and "  do:        mend it" in format_result(result)
    assert result.to_dict()["ok"] is False and result.to_dict()["error"]["what"] == "broken"
