"""One connection over the user's own ssh: what is honoured, what is refused, and how a dead link is noticed."""

import os
import signal
import stat
import subprocess
import threading

import pytest

from hwc.errors import EngineError, HwcError, InternalError, TargetError, UsageError
from hwc.remote import board_call, ssh
from hwc.remote.board_call import rebuild_error
from hwc.remote.hosts import Host
from hwc.remote.ssh import Connection
from hwc.remote.ssh_errors import LinkCut

HOME = {"folder": "~/hwc/net", "files": {"manifest.json": ["0" * 64, 1]}}


def children() -> set[str]:
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return {line for line in listed.stdout.splitlines() if "ssh " in line}


def refused(board, host: Host | None = None, config=None) -> HwcError:
    with pytest.raises(HwcError) as caught, Connection(host or Host("board"), config or board.ssh_config):
        pytest.fail("it connected")
    return caught.value


def change(board, *pairs: tuple[str, str]):
    text = board.ssh_config.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path = board.root / "other_config"
    path.write_text(text)
    return path


def test_a_greeting_is_not_mistaken_for_an_answer_and_nothing_is_left_behind(board):
    (board.home / ".bashrc").write_text("echo hwc; printf 'hwc-board nothing'; echo loud >&2\n")
    before = children()
    with Connection(Host("board"), board.ssh_config) as link:
        folder = link._folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        said = link.call("probe.probe", **HOME)
    assert said["arch"] == "aarch64" and said["plan"]["dir"] == str(board.home / "hwc" / "net")
    assert not folder.exists() and children() <= before
    assert list(board.home.iterdir()) == [board.home / ".bashrc"]


def test_a_board_without_python_with_an_old_one_and_a_call_that_fails(board):
    with Connection(Host("board"), board.ssh_config) as link:
        with pytest.raises(UsageError, match="outside the bundle") as caught:
            link.call("files.plan", folder="~/x", files={"../y": ["0", 1]}, write=False)
        assert caught.value.where == "board"
        with pytest.raises(InternalError, match="AttributeError"):
            link.call("files.nothing")
        board.set_faults(python=[3, 6, 9])
        with pytest.raises(TargetError, match="too old") as caught:
            link.call("probe.probe", **HOME)
        assert caught.value.got == "Python 3.6.9" and "JetPack" in caught.value.do
        board.set_faults(die_in="uname")
        (board.root / "bin" / "python3").unlink()
        with pytest.raises(TargetError, match="has no python3"):
            link.call("probe.probe", **HOME)


def test_a_call_that_is_killed_on_the_board_is_no_cut_link(board):
    board.set_faults(die_in="statvfs")
    with Connection(Host("board"), board.ssh_config) as link, pytest.raises(EngineError, match="'probe.probe' ended"):
        link.call("probe.probe", **HOME)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_host_keys_are_checked_and_never_without_the_user(board):
    unknown = change(board, (f"{board.root}/known_hosts", f"{board.root}/nobody"))
    error = refused(board, config=unknown)
    assert type(error) is UsageError and "is not known yet" in error.what and "ssh board" in error.do
    board.new_host_key()
    error = refused(board)
    assert type(error) is UsageError and "not the one that is known" in error.what
    assert error.where == f"{board.root}/known_hosts:1" and "ssh-keygen -R" in error.do


def test_a_key_that_is_not_accepted_or_wants_a_passphrase_hangs_on_no_question(board):
    other = board.root / "keys" / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", other], check=True)
    error = refused(board, config=change(board, (f"{board.root}/keys/user", str(other))))
    assert type(error) is UsageError and "does not accept your key" in error.what and "ssh-add" in error.do


def test_an_address_that_leads_nowhere_and_a_configuration_that_cannot_be_read(board, tmp_path):
    assert "no host is called" in refused(board, Host("no-such-host.invalid")).what
    error = refused(board, Host("board", port=1))
    assert type(error) is EngineError and "does not answer" in error.what and "--port" in error.do
    bad = change(board, ("StrictHostKeyChecking yes", "StrictHostKeyChecking yes\n  Nonsense 1"))
    assert "cannot read its configuration" in refused(board, config=bad).what
    assert "cannot read its configuration" in refused(board, config=tmp_path / "absent").what


def test_jump_hosts_of_the_configuration_are_used(board):
    jump = change(
        board,
        ("Host board\n", "Host board\n  ProxyJump jump\nHost jump\n  HostName 127.0.0.1\nHost board\n"),
        # What else a user's configuration may hold, and what must not get in the way here.
        ("Host *\n", "Host *\n  LocalForward 1 x:1\n  RemoteCommand true\n  RequestTTY yes\n  LogLevel QUIET\n"),
    )
    with Connection(Host("board"), jump) as link:
        assert link.call("probe.probe", **HOME)["arch"] == "aarch64"
        assert len(board.sessions()) >= 2


def test_a_link_that_is_cut_is_said_at_once_and_one_that_is_dead_after_a_while(board, monkeypatch):
    monkeypatch.setattr(ssh, "ALIVE_INTERVAL_S", 1)
    monkeypatch.setattr(ssh, "ALIVE_COUNT", 1)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        with Connection(Host("board"), board.ssh_config) as link:
            timer = threading.Timer(0.3, board.signal_links, (number,))
            timer.start()
            with pytest.raises(LinkCut):
                link.call("run_command.run", argv=["sleep", "100"], timeout_s=200)
            timer.join()
            with pytest.raises(LinkCut):
                link.call("probe.probe", **HOME)
    board.signal_links(signal.SIGCONT)


def test_a_board_that_falls_silent_is_given_up(board, monkeypatch):
    monkeypatch.setattr(board_call, "SILENCE_S", 0.2)
    with Connection(Host("board"), board.ssh_config) as link, pytest.raises(EngineError, match="says nothing"):
        link.call("run_command.run", argv=["sleep", "3"], timeout_s=200)


def test_a_command_that_takes_too_long_is_ended_on_the_board(board):
    with Connection(Host("board"), board.ssh_config) as link, pytest.raises(EngineError, match="more than 0.1 s"):
        link.call("run_command.run", argv=["sleep", "9"], timeout_s=0.1)


def test_without_ssh_there_is_no_connection(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="no ssh"), Connection(Host("a")):
        pytest.fail("it connected")


def test_the_socket_has_a_short_path_even_where_temporary_folders_have_long_ones(board, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with Connection(Host("board"), board.ssh_config) as link:
        assert len(str(link._socket)) < 70


def test_an_error_keeps_its_class_and_nothing_else_becomes_a_class():
    said = {"error": "TargetError", "what": "a\x1b[1mb", "where": "w", "got": 3, "exit_code": 3}
    error = rebuild_error(said, "xavier")
    assert type(error) is TargetError and (error.what, error.where, error.got) == ("ab", "xavier, w", "3")
    for name in ("HwcError2", "SystemExit", "Any", "", None):
        assert type(rebuild_error({"error": name}, "xavier")) is InternalError
