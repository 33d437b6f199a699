"""The whole recipe against a real sshd."""

import os

import pytest

from hwc.bundle import read_bundle, verify_bundle
from hwc.errors import EngineError, TargetError
from tests.house.test_device_syntax import find_python_3_8
from tests.remote.fixtures import write_bundle
from tests.remote.loopback import loopback_board, missing_programs


def test_a_bundle_arrives_is_built_and_measured(deploy_to, board, bundle):
    result = deploy_to(profile=True)
    assert result.error is None, str(result.error)
    there = board.home / "hwc" / "net"
    verify_bundle(there, read_bundle(there))
    assert read_bundle(there) == read_bundle(bundle)
    assert board.calls() == ["doctor", "build", "profile"]
    assert result.profile["profiles"][0]["machine"] == [["duration", "10"]] and result.build["kernels"] == 7
    assert [step.name for step in result.steps] == ["connect", "probe", "copy", "build", "profile"]
    assert sorted(os.listdir(board.home / "hwc")) == ["net", "net.job"]


def test_a_dry_run_looks_and_writes_nothing(deploy_to, board):
    result = deploy_to(dry_run=True, profile=True, builds=2, power_mode="MAXN")
    assert result.error is None and list(board.home.iterdir()) == [] and board.calls() == []
    place = f"{board.home}/hwc/net"
    assert [line.split(":")[0] for line in result.plan[:4]] == [
        "send hwc.pyz", "send model.onnx", "send tables/calib cache.txt", "send manifest.json",
    ]  # fmt: skip
    assert result.plan[-5:] == [
        "ask hwc.pyz doctor for TensorRT and the GPU, wanted: Jetson AGX Xavier 32GB",
        f"rename {place}.partial to {place}",
        "run sudo -n nvpmodel -m 0, which is MAXN, and restore the mode of before",
        f"run python3 {place}/hwc.pyz build {place} --builds 2",
        f"run python3 {place}/hwc.pyz profile {place} --duration 10 -o {place}.job/profile/report.json",
    ]
    deploy_to()
    assert deploy_to(dry_run=True).plan == [f"copy nothing: {place} holds this bundle"]


def test_another_machine_is_refused_before_the_model_is_sent(deploy_to, board):
    board.set_faults(arch="x86_64")
    error = deploy_to().error
    assert type(error) is TargetError and (error.expected, error.got) == ("aarch64", "x86_64")
    assert list(board.home.iterdir()) == []
    board.set_faults(arch="aarch64", no_numpy=True)
    error = deploy_to().error
    assert type(error) is TargetError and "no numpy" in error.what
    board.set_faults(no_numpy=False)
    board.set_device(machine={"tensorrt": "8.4.1"})
    result = deploy_to()
    assert type(result.error) is TargetError and "8.4.1" in result.error.what and result.sent_bytes < 10_000
    assert not (board.home / "hwc" / "net").exists()
    result = deploy_to(accept_differences=True, build=True)
    assert result.error is None and result.notes == ["TensorRT 8.4.1 is there, compiled for 8.5.2"]


def test_a_doctor_that_finds_fault_stops_a_build_and_not_a_copy(deploy_to, board):
    board.set_device(checks=[{"name": "swap", "status": "fail", "message": "none", "do": "add swap"}])
    error = deploy_to(build=True).error
    assert type(error) is EngineError and error.do == "add swap"
    result = deploy_to()
    assert result.error is None and result.notes == ["doctor, fail: swap: none"]


def test_the_old_bundle_stays_until_the_new_one_is_whole(deploy_to, board, bundle, tmp_path):
    assert deploy_to().error is None
    there, other = board.home / "hwc" / "net", write_bundle(tmp_path / "net", seed=2)
    board.set_faults(cut_after=1 << 20)
    assert "was cut" in deploy_to(folder=other, use_rsync=False).error.what
    verify_bundle(there, read_bundle(there))
    assert read_bundle(there) == read_bundle(bundle)
    board.set_faults(cut_after=1 << 40)
    assert deploy_to(folder=other).error is None
    verify_bundle(there, read_bundle(there))
    assert read_bundle(there) == read_bundle(other)


def test_the_board_s_side_runs_on_a_real_python_3_8(bundle, tmp_path):
    python = find_python_3_8()
    if not python or missing_programs():
        pytest.skip("no Python 3.8, or no sshd; only the syntax was checked")
    from hwc.remote.deploy_hosts import deploy_hosts
    from hwc.remote.host_result import DeployOptions
    from hwc.remote.hosts import Host

    with loopback_board(tmp_path / "old", python=python) as board:
        (board.root / "mode").write_text("2")
        options = DeployOptions(profile=True, ssh_config=board.ssh_config)
        (result,) = deploy_hosts(bundle, read_bundle(bundle), [Host("board")], options)
        assert result.error is None, str(result.error)
