"""`hwc deploy` from the command line: to a loopback board, to several, and what is refused before anything connects."""

import io
import json
import re
import sys

import pytest

from hwc.cli.deploy import _progress
from tests.e2e.fixtures import assert_refused, document
from tests.golden.compare_golden import compare_with_golden
from tests.remote.fixtures import board, bundle

__all__ = ["board", "bundle"]


@pytest.fixture
def reach(board):
    return ("--host", "board", "--ssh-config", board.ssh_config)


def test_a_bundle_is_deployed_built_and_measured(hwc, board, bundle, reach, tmp_path):
    report = tmp_path / "report.json"
    result = hwc("deploy", bundle, *reach, "--build", "--profile", "--power-mode", "MAXN", "-o", report)
    assert result.exit_code == 0, result.output
    assert "board: done" in result.stdout and "qps" in result.stdout
    assert result.stdout.splitlines()[-1] == "&&&& PASSED hwc.deploy"
    assert [line for line in result.stderr.splitlines() if line.startswith("board: ")] == [
        f"board: {step}"
        for step in ("connect", "probe", "copy", "power mode", "build", "profile", "restore power mode")
    ]
    (host,) = json.loads(report.read_text())["hosts"]
    assert host["ok"] and host["error"] is None and host["build"]["kernels"] == 7
    assert host["profile"]["profiles"][0]["latency_ns"] and host["power"]["restored"] == "MODE_15W"
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".json"] == ["board"]


def test_a_dry_run_says_what_would_be_done(hwc, board, bundle, reach):
    result = hwc("deploy", bundle, *reach, "--dry-run", "--profile", "--power-mode=MAXN", "--remote-dir", "~/n e w")
    assert result.exit_code == 0, result.output
    text = re.sub(r"[\d.]+ (KiB|GiB|bytes)", "SIZE", result.stdout.replace(str(board.home), "HOME"))
    compare_with_golden("deploy_dry_run.txt", text)
    assert list(board.home.iterdir()) == []


def test_on_a_terminal_each_board_has_a_bar_and_no_markup_is_read_from_it(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with _progress(["a", "b"]) as show:
        show("a", "copy", 0.25, "[bold]1 MiB of 4 MiB")
        show("b", "build", 0.5, "tactics")
    text = terminal.getvalue()
    for said in ("a: copy", " 25 %", "[bold]1 MiB of 4 MiB", "b: build", " 50 %", "tactics"):
        assert said in text, text


def test_several_boards_of_which_one_fails(hwc, board, bundle, tmp_path):
    hosts = tmp_path / "hosts.toml"
    hosts.write_text("[[host]]\naddress='board'\nname='good'\n[[host]]\naddress='board'\nname='bad'\nport=1\n")
    result = hwc("deploy", bundle, "--hosts", hosts, "--ssh-config", board.ssh_config, "--format", "json")
    assert result.exit_code == 1 and "1 of 2 boards failed" in result.stderr
    shown = document(result)
    assert [host["ok"] for host in shown["hosts"]] == [True, False]
    assert shown["hosts"][1]["error"]["exit_code"] == 4 and "does not answer" in shown["hosts"][1]["error"]["what"]
    result = hwc("deploy", bundle, "--hosts", hosts, "--ssh-config", board.ssh_config, "--power-mode", "none")
    assert result.exit_code == 4 and "2 of 2 boards failed" in result.stderr and "bad (board): failed" in result.stdout


def test_one_board_that_fails_is_an_error_like_any_other(hwc, board, bundle, reach, tmp_path):
    board.set_device(machine={"tensorrt": "8.4.1"})
    result = hwc("deploy", bundle, *reach, "--format", "json", "-o", tmp_path / "r.json")
    shown = document(result)
    assert result.exit_code == 3 and shown["error"] == "TargetError" and "8.4.1" in shown["what"] and shown["do"]
    assert json.loads((tmp_path / "r.json").read_text())["hosts"][0]["error"] == shown
    result = hwc("deploy", bundle, *reach)
    assert result.exit_code == 3 and "board: failed" in result.stdout and result.stdout.count("8.4.1") == 1
    assert "TargetError: board has TensorRT 8.4.1" in result.stderr and "Traceback" not in result.output


def test_what_cannot_be_deployed_is_refused_before_anything_connects(hwc, bundle, cpu_bundle, tmp_path):
    assert_refused(hwc("deploy", bundle), 2, "which boards?", "--host")
    assert_refused(hwc("deploy", bundle, "--host", "a", "--hosts", tmp_path / "h.toml"), 2, "which boards?")
    assert_refused(hwc("deploy", bundle, "--host=-oProxyCommand=x"), 2, "not an address")
    assert_refused(hwc("deploy", tmp_path, "--host", "a"), 2, "is not a bundle")
    assert_refused(hwc("deploy", cpu_bundle, "--host", "a"), 2, "no hwc.pyz", "agx-xavier")
    assert_refused(hwc("deploy", bundle, "--host", "a", "-o", tmp_path), 2, "not a regular file")
    assert hwc("deploy", bundle, "--host", "a", "--port", "0").exit_code == 2


def test_a_bundle_that_was_tampered_with_is_not_sent(hwc, tmp_path):
    from tests.remote.fixtures import write_bundle

    folder = write_bundle(tmp_path / "net")
    (folder / "model.onnx").write_bytes(b"")
    assert_refused(hwc("deploy", folder, "--host", "a"), 2, "was changed")
