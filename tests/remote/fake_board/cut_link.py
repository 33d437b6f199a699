"""Ends the connection that this process was started through, from the board's side: kills the sshd that serves it."""

import os
import signal


def cut():
    """Kills every sshd above this process but the one that listens."""
    with open(os.environ["FAKE_BOARD"] + "/sshd.pid") as stream:
        listener = int(stream.read())
    pid, doomed = os.getppid(), []
    while pid not in (0, 1, listener):
        with open(f"/proc/{pid}/stat") as stream:
            name, _, rest = stream.read().partition("(")[2].rpartition(")")
        if name.startswith("sshd"):
            doomed.append(pid)
        pid = int(rest.split()[1])
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
