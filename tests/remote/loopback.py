"""A board that is this machine: a real sshd on 127.0.0.1, with its own keys, home, programs and faults.

    with loopback_board(folder) as board:
        ... ssh -F board.ssh_config board ...

Whoever logs in gets `root/home` as home and only `root/bin` as PATH. The board's Python loads `root/site` first: its
sitecustomize makes it another machine, and breaks it as `faults.json` says (see there). `device.json` tells the fake
hwc.pyz (fake_device.py) what it is. Nothing is shared with the machine's own ssh set-up.

For the real hwc.pyz: `python=sys.executable, has_numpy=True`, and in `env=` what it must see, such as HWC_BOARD_ROOT,
HWC_ENGINE_STORE, and a PYTHONPATH with a stand-in for TensorRT, which comes after `root/site`.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ALIAS = "board"
SSHD_PLACES = ("/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd")
PROGRAMS = ("sh", "mv", "cat", "sleep", "head", "rsync")  # what the board has besides Python
# The system's, as on a board: one with many packages takes longer to start than most calls take.
BARE_PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
FAKES = Path(__file__).parent


def missing_programs() -> str:
    """What this machine lacks for a loopback board; empty if nothing."""
    absent = [] if any(os.path.exists(place) for place in SSHD_PLACES) else ["sshd (apt-get install openssh-server)"]
    return ", ".join([*absent, *(name for name in ("ssh", "ssh-keygen") if not shutil.which(name))])


@dataclass
class Board:
    """A running loopback board."""

    root: Path
    port: int
    ssh_config: Path
    sshd: subprocess.Popen
    python: str

    host = "127.0.0.1"
    user = getpass.getuser()

    @property
    def home(self) -> Path:
        return self.root / "home"

    def set_faults(self, **faults: object) -> None:
        """What sitecustomize.py of fake_board does to the board's Python from now on."""
        _update(self.root / "faults.json", faults)

    def set_device(self, **behaviour: object) -> None:
        """What the fake hwc.pyz is and does from now on."""
        _update(self.root / "device.json", behaviour)

    def write_program(self, name: str, script: str) -> None:
        """Puts a Python script under that name into the board's PATH."""
        _write_script(self.root / "bin" / name, f"{self.python} {script}")

    def calls(self) -> list[str]:
        """The verbs that the fake hwc.pyz was run with, in order."""
        log = self.root / "calls"
        return log.read_text().split() if log.exists() else []

    def sessions(self) -> list[int]:
        """Process ids of the sshd processes that serve a connection."""
        parents = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                parents[int(entry.name)] = (int(rest.split()[1]), name)
        found, waiting = [], [self.sshd.pid]
        while waiting:
            parent = waiting.pop()
            children = [pid for pid, (above, name) in parents.items() if above == parent and name.startswith("sshd")]
            found += children
            waiting += children
        return found

    def cut_links(self) -> None:
        """Every connection ends without a goodbye."""
        self.signal_links(signal.SIGKILL)

    def signal_links(self, number: int) -> None:
        """SIGSTOP makes a link that is open and dead, as a pulled cable does."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill_jobs(self) -> None:
        """Ends what was started detached, with all its children."""
        for owner in self.root.rglob("*.job/*/owner"):
            with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):
                os.killpg(json.loads(owner.read_text())["pid"], signal.SIGKILL)

    def reboot(self) -> None:
        """Links and processes are gone, and the kernel has another boot id."""
        self.cut_links()
        self.kill_jobs()
        (self.root / "boot_id").write_text(str(uuid.uuid4()))

    def new_host_key(self) -> None:
        """As after flashing: the board shows another key from the next connection on."""
        _make_key(self.root / "keys" / "host")
        log = self.root / "sshd.log"
        starts = log.read_text().count("Server listening")
        self.sshd.send_signal(signal.SIGHUP)
        while log.read_text().count("Server listening") == starts:  # until then the old key is shown
            time.sleep(0.01)
        _wait_for_banner(self.port, self.sshd)


@contextlib.contextmanager
def loopback_board(
    root: Path, *, python: str = BARE_PYTHON, has_numpy: bool = False, has_rsync: bool = True,
    env: Mapping[str, str] | None = None,
) -> Iterator[Board]:  # fmt: skip
    """A board below `root`, until the block ends; then nothing of it is left running.

    Args:
        root: an empty folder.
        python: what `python3` on the board runs.
        has_numpy: whether that Python has numpy; otherwise an empty package stands for it.
        has_rsync: whether the board has rsync (if this machine does).
        env: more variables for whatever is run there.
    """
    for name in ("home", "bin", "keys", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(FAKES / "fake_board", root / "site")
    if not has_numpy:
        shutil.copytree(FAKES / "fake_packages", root / "site", dirs_exist_ok=True)
    (root / "boot_id").write_text(str(uuid.uuid4()))
    _write_programs(root, python, has_rsync)
    for name in ("host", "user"):
        _make_key(root / "keys" / name)
    board = _start(root, python, {"FAKE_BOARD": str(root), **(env or {})})
    try:
        yield board
    finally:
        board.cut_links()
        board.kill_jobs()
        board.sshd.terminate()
        board.sshd.wait()


def _start(root: Path, python: str, env: Mapping[str, str]) -> Board:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd of Debian wants it, and only its service makes it
    paths = os.pathsep.join([str(root / "site"), *filter(None, [env.get("PYTHONPATH")])])
    variables = {"PATH": root / "bin", "HOME": root / "home", **env, "PYTHONPATH": paths}
    for _ in range(5):
        port = _free_port()
        lines = [
            f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {root}/keys/host", "PidFile none", "UsePAM no",
            f"AuthorizedKeysFile {root}/keys/user.pub", "StrictModes no", "PasswordAuthentication no",
            "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "PrintMotd no", "UseDNS no",
            "SetEnv " + " ".join(f'"{name}={value}"' for name, value in variables.items()),
        ]  # fmt: skip
        (root / "sshd_config").write_text("\n".join(lines) + "\n")
        sshd = next(place for place in SSHD_PLACES if os.path.exists(place))
        with open(root / "sshd.log", "ab") as log:
            process = subprocess.Popen([sshd, "-D", "-e", "-f", str(root / "sshd_config")], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log)  # fmt: skip
        if _wait_for_banner(port, process):
            (root / "sshd.pid").write_text(str(process.pid))
            return Board(root, port, _write_client(root, port), process, python)
        process.wait()  # another program took the port meanwhile
    raise RuntimeError("sshd does not start: " + (root / "sshd.log").read_text()[-500:])


def _write_client(root: Path, port: int) -> Path:
    key = (root / "keys" / "host.pub").read_text().split()
    (root / "known_hosts").write_text(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
    config = root / "ssh_config"
    config.write_text(
        f"Host {ALIAS}\n  HostName 127.0.0.1\nHost *\n  Port {port}\n  User {Board.user}\n"
        f"  IdentityFile {root}/keys/user\n  IdentitiesOnly yes\n  IdentityAgent none\n"
        f"  UserKnownHostsFile {root}/known_hosts\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n"
    )
    return config


def _write_programs(root: Path, python: str, has_rsync: bool) -> None:
    for name in PROGRAMS:
        found = shutil.which(name)
        if found and (has_rsync or name != "rsync"):
            (root / "bin" / name).symlink_to(found)
    # A script and not a link: through a link a virtual environment would not find itself.
    for name, words in (("python3", ""), ("nvpmodel", f"{root}/site/fake_nvpmodel.py"),
                        ("sudo", f"{root}/site/fake_sudo.py")):  # fmt: skip
        _write_script(root / "bin" / name, f"{python} {words}")


def _write_script(path: Path, command: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)


def _make_key(path: Path) -> None:
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for_banner(port: int, process: subprocess.Popen) -> bool:
    for _ in range(1000):
        if process.poll() is not None:
            return False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as stream:
            if stream.recv(3) == b"SSH":
                return True
        time.sleep(0.01)
    return False


def _update(path: Path, changes: Mapping[str, object]) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    content.update(changes)
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(content))
    partial.replace(path)
