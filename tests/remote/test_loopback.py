"""The loopback board itself: it leaves nothing running, and says what it lacks."""

import os
import subprocess

from tests.remote import loopback
from tests.remote.fixtures import wait_for
from tests.remote.loopback import Board, loopback_board


def ssh(board: Board, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ssh", "-F", board.ssh_config, "board", *words], capture_output=True, text=True, check=False)


def test_it_shows_its_own_home_and_programs_and_ends_with_its_block(board, tmp_path):
    with loopback_board(tmp_path / "other", env={"PYTHONPATH": "/x", "TOLD": "a b"}, has_rsync=False) as other:
        said = ssh(other, "echo $HOME $PATH $PYTHONPATH $TOLD").stdout.strip()
        assert said == f"{other.home} {other.root}/bin {other.root}/site:/x a b"
        assert "not found" in ssh(other, "rsync").stderr and ssh(other, "nvpmodel -m 0").returncode != 0
        assert other.port != board.port
        wait_for(lambda: other.sessions() == [])  # sshd takes its time to see that the client has gone
        pid = other.sshd.pid
    assert not os.path.exists(f"/proc/{pid}") and ssh(other, "true").returncode == 255
    assert ssh(board, "true").returncode == 0


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(loopback, "SSHD_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert loopback.missing_programs() == "sshd (apt-get install openssh-server), ssh, ssh-keygen"
