"""Commands that are run while the host waits, and the boot id of the kernel.

That id changes with each boot: it tells a build that was killed from one whose board was rebooted.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any, Dict, List

from hwc.remote.board.protocol import beat, refuse

BOOT_ID = "/proc/sys/kernel/random/boot_id"
STDERR_LINES = 40


def read_boot_id() -> str:
    """The kernel's id of this boot; empty where there is none."""
    try:
        with open(BOOT_ID) as stream:
            return stream.read().strip()
    except OSError:
        return ""


def run(argv: List[str], timeout_s: float) -> Dict[str, Any]:
    """Runs a command to its end; its exit status, all of its stdout and the last lines of its stderr."""
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
    except OSError as error:
        refuse("EngineError", "cannot start %s on the board" % argv[0], got=str(error))
    left_s = timeout_s
    while True:
        try:
            out, err = child.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            beat()
            left_s -= 0.5
        if left_s <= 0:
            child.kill()
            child.communicate()
            refuse("EngineError", "a command on the board took more than %g s" % timeout_s, got=" ".join(argv))
    lines = err.decode("utf-8", "replace").splitlines()[-STDERR_LINES:]
    return {"rc": child.returncode, "stdout": out.decode("utf-8", "replace"), "stderr": lines}


def environment() -> Dict[str, str]:
    """The environment of a child: English messages, and output that is not held back in buffers."""
    return {**os.environ, "LC_ALL": "C", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
