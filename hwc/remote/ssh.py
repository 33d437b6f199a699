"""One connection to a board: the user's own `ssh`, opened once and shared by every call.

The master process is a child of ours (`ssh -M -N`); each call is a second `ssh` that goes through its socket, so keys,
agents, jump hosts and ~/.ssh/config are asked once and are all the user's. Host key checking is whatever the user has
set. Nothing can hang on a question: BatchMode, no terminal (a new session), no askpass. A link that was cut without a
word is noticed after ALIVE_INTERVAL_S x ALIVE_COUNT seconds by ServerAliveInterval.

A call runs `python3 -c` with the sources of hwc/remote/board on stdin, then the call's own data: the board needs
Python and nothing of ours. Limit: Unix only, like OpenSSH's control sockets.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hwc.errors import EngineError, TargetError, UsageError
from hwc.remote.board.protocol import TAKEN
from hwc.remote.board_call import OnMessage, Reader, load_program, rebuild_error
from hwc.remote.hosts import Host
from hwc.remote.ssh_errors import LinkCut, last_words, name_failure

ALIVE_INTERVAL_S, ALIVE_COUNT = 5, 3
CONNECT_TIMEOUT_S = 20
OPEN_TIMEOUT_S = 90  # connect, jump hosts and log-in together
SOCKET_PATH_MAX = 70  # a Unix socket's path has 108 bytes, and ssh appends to it while it makes the socket


class Connection:
    """A board that answers. Open it with `with`; `close` may be called from another thread to end whatever runs.

    Args:
        host: where to.
        ssh_config: instead of ~/.ssh/config, as ssh's -F.
    """

    def __init__(self, host: Host, ssh_config: Path | None = None) -> None:
        self.host = host
        self._options = ["-F", str(ssh_config)] if ssh_config else []
        if host.port:
            self._options += ["-p", str(host.port)]
        self._folder = Path()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._is_closed = False

    def __enter__(self) -> Connection:
        """Connects and logs in.

        Raises:
            UsageError: no ssh here; no such host; a key that is unknown, changed or not accepted.
            EngineError: the board does not answer.
        """
        if not shutil.which("ssh"):
            raise UsageError("there is no ssh on this machine", do="install the OpenSSH client")
        # Private (0700), and short where TMPDIR is long: the control socket lies in it.
        place = tempfile.gettempdir()
        self._folder = Path(tempfile.mkdtemp(prefix="hwc-ssh-", dir="/tmp" if len(place) > SOCKET_PATH_MAX else place))
        try:
            self._open_master()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and whatever still uses it; what runs detached on the board goes on."""
        self._is_closed = True
        for process in reversed(list(self._processes)):  # the master last
            process.kill()
            process.wait()
        if self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def is_alive(self) -> bool:
        """Whether the master still holds the link."""
        return not self._is_closed and bool(self._processes) and self._processes[0].poll() is None

    def call(
        self, function: str, *, data: Iterable[bytes] = (), on_message: OnMessage = lambda message: None,
        acknowledge: bool = False, **arguments: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Runs "module.function" of hwc/remote/board there and gives its result.

        Args:
            data: bytes for its stdin, after its sources.
            on_message: gets what it says on the way, in a thread of its own.
            acknowledge: tell it once its result has arrived.

        Raises:
            LinkCut: the connection went away.
            HwcError: what the board refused, in its own words.
        """
        program = load_program(function, arguments)
        process = self._spawn([f"python3 -c 'import sys;exec(sys.stdin.buffer.read({len(program)}))'"])
        assert process.stdin is not None
        reader = Reader(process, on_message)
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended early: its last message says why
                process.stdin.write(program)
                for piece in data:
                    process.stdin.write(piece)
                process.stdin.flush()
                if acknowledge:
                    reader.wait(self.host.label, function, until_result=True)
                    process.stdin.write(TAKEN if "result" in reader.last else b"")
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            reader.wait(self.host.label, function)
        finally:
            self._reap(process)
        return self._judge(process.returncode, reader, function)

    def shell_command(self) -> str:
        """A command that stands for `ssh` to this board in rsync's -e: one script in the private folder."""
        script = self._folder / "ssh"
        words = ["exec", "ssh", *self._client_options()]
        script.write_text("#!/bin/sh\n" + " ".join(shlex.quote(word) for word in words) + ' "$@"\n')
        return f"sh {script}"

    @contextlib.contextmanager
    def local(self, argv: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """A process of this machine that belongs to the connection, such as rsync, and the file of its stderr."""
        said = self._folder / "stderr"
        with said.open("wb") as stderr:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
                env=_environment(),
            )  # fmt: skip
        self._processes.append(process)
        try:
            yield process, said
        finally:
            self._reap(process)

    def _open_master(self) -> None:
        said = self._folder / "said"
        options = ["-M", "-N", "-o", "ControlPersist=no", "-o", f"ServerAliveInterval={ALIVE_INTERVAL_S}"]
        options += ["-o", f"ServerAliveCountMax={ALIVE_COUNT}", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}"]
        # Forwardings of the user's configuration would be asked for twice, and are of no use here.
        options += ["-o", "ClearAllForwardings=yes", *self._shared_options()]
        with said.open("wb") as stderr:
            master = subprocess.Popen(
                ["ssh", *options, "--", self.host.address], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=stderr, start_new_session=True, env=_environment(),
            )  # fmt: skip
        self._processes.append(master)
        deadline = time.monotonic() + OPEN_TIMEOUT_S
        while not self._socket.exists():  # ssh makes it once it is logged in
            if master.poll() is not None:
                raise name_failure(said.read_text(errors="replace"), self.host.address)
            if time.monotonic() > deadline:
                raise EngineError(
                    f"{self.host.address} does not let us in", expected=f"a log-in within {OPEN_TIMEOUT_S} s",
                    got=last_words(said.read_text(errors="replace")) or "no answer",
                    do=f"try it by hand: ssh {self.host.address}",
                )  # fmt: skip
            time.sleep(0.01)

    @property
    def _socket(self) -> Path:
        return self._folder / "s"

    def _shared_options(self) -> list[str]:
        pairs = ["BatchMode=yes", "RequestTTY=no", "RemoteCommand=none", f"ControlPath={self._socket}"]
        # INFO even if the user's configuration is quieter: the reason of a failure is read from what ssh says.
        return [*self._options, *(word for pair in [*pairs, "LogLevel=INFO"] for word in ("-o", pair))]

    def _client_options(self) -> list[str]:
        # Without the master's socket a client would connect by itself: then it must fail.
        return ["-T", "-o", "ControlMaster=no", "-o", "ProxyCommand=false", *self._shared_options()]

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        if not self.is_alive:
            raise LinkCut
        argv = ["ssh", *self._client_options(), "--", self.host.address, *command]
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env=_environment(),
        )  # fmt: skip
        self._processes.append(process)
        return process

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()  # not SIGTERM, which ssh passes on to the master
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if process in self._processes:
            self._processes.remove(process)

    def _judge(self, status: int, reader: Reader, function: str) -> dict[str, Any]:
        last = reader.last
        if "result" in last:
            result = last["result"]
            assert isinstance(result, dict)
            return result
        if "error" in last:
            raise rebuild_error(last, self.host.label)
        said = last_words(reader.stderr)
        if status == 127 or "python3: not found" in said or "python3: command not found" in said:
            raise TargetError(
                f"{self.host.label} has no python3", got=said, do="install Python 3.8 or newer on the board"
            )
        if not self.is_alive or (status == 255 and self._ends_soon()):
            raise LinkCut
        how = "it was killed" if status == 255 else f"exit status {status}"
        raise EngineError(
            f"the call '{function}' ended without a result", where=self.host.label,
            got=f"{how}: {said or 'no message'}", do="see `sudo dmesg` on the board, and run the same command again",
        )  # fmt: skip

    def _ends_soon(self) -> bool:
        """Whether the master is gone or about to go: a client may learn of a cut link before it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._processes[0].wait(timeout=1)
        return not self.is_alive


def _environment() -> dict[str, str]:
    """No question can pop up: without a terminal ssh would ask through a window."""
    return {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
