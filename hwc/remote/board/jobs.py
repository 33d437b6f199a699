"""Work that outlives the link: started in a session of its own, watched from outside, picked up by whoever comes next.

    DIR.job/<name>/   key      what is being done: digest of the command and of the bundle
                      owner    process id, its start time in clock ticks, the boot id
                      stdout, stderr, and at the very end `status`, the exit status

A job is running while its process lives; it is finished once `status` is there; anything else has died: with the board,
if the boot id is another now. A finished job is kept until the host has taken its result, so a link that was cut costs
no build. A process id alone proves nothing after a reboot, so the start time (field 22 of /proc/<pid>/stat, proc(5))
must agree too.
Limit: a board whose logind ends a user's processes at logout (KillUserProcesses=yes, not Ubuntu's default) ends jobs.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from typing import Any, Dict, Iterator, List

from hwc.remote.board.protocol import beat, full_path, refuse, say, when_taken
from hwc.remote.board.run_command import STDERR_LINES, environment, read_boot_id

WRAPPER = '"$@" >stdout 2>stderr </dev/null; echo $? >status.new; mv status.new status'
MAX_RESULT_BYTES = 64 << 20
LOCK = "lock"


def look_at_jobs(folder: str) -> Dict[str, Any]:
    """The state of every job of that bundle folder: name -> {"state", "key", "pid"}."""
    base = full_path(folder) + ".job"
    names = [entry.name for entry in os.scandir(base) if entry.is_dir()] if os.path.isdir(base) else []
    return {"jobs": {name: _state(os.path.join(base, name)) for name in sorted(names)}}


def work(folder: str, name: str, key: str, argv: List[str], file: str) -> Dict[str, Any]:
    """Starts a job, or finds the same one running or finished, and sends its stderr line by line until it ends.

    The first message is {"found": "started", "running" or "finished", "before": why an earlier one has no result}. The
    job is forgotten once the host has taken the result.

    Args:
        file: a result that it writes into its folder, or empty.

    Returns:
        {"state": "finished", "rc", "stdout", "stderr": the last lines, "file": content in base64} or
        {"state": "died" or "rebooted", "stderr"}
    """
    place = os.path.join(full_path(folder) + ".job", name)
    os.makedirs(place, exist_ok=True)
    say(_start(place, name, key, argv))
    result = _follow(place)
    if file and result.get("rc") == 0:
        result["file"] = _read_result(os.path.join(place, file))
    when_taken(lambda: shutil.rmtree(place, ignore_errors=True))
    return result


def _start(place: str, name: str, key: str, argv: List[str]) -> Dict[str, Any]:
    with _locked(place):
        found = _state(place)
        if found["state"] == "running" and found["key"] != key:
            refuse(
                "EngineError", "another %s is running on the board" % name, where=place,
                got="process %s" % found["pid"], do="wait for it, or end it there: kill -- -%s" % found["pid"],
            )  # fmt: skip
        if found["key"] == key and (found["state"] == "running" or found.get("rc") == 0):
            return {"found": found["state"], "before": ""}
        for old in os.listdir(place):
            if old != LOCK:
                os.unlink(os.path.join(place, old))
        child = subprocess.Popen(
            ["/bin/sh", "-c", WRAPPER, "sh", *argv], cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, env=environment(),
        )  # fmt: skip
        owner = {"pid": child.pid, "ticks": _start_ticks(child.pid), "boot_id": read_boot_id()}
        _write(place, "owner", json.dumps(owner))
        _write(place, "key", key)
    before = {"rebooted": "the board was rebooted", "died": "it was killed", "finished": "it failed"}
    return {"found": "started", "before": before.get(found["state"], "") if found["key"] == key else ""}


def _follow(place: str) -> Dict[str, Any]:
    at, rest = 0, b""
    tail: List[str] = []
    while True:
        found = _state(place)  # asked before reading: what a finished job said is all there
        with contextlib.suppress(FileNotFoundError), open(os.path.join(place, "stderr"), "rb") as stream:
            stream.seek(at)
            piece = stream.read()
            at += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace")
                say({"line": text})
                tail = [*tail, text][-STDERR_LINES:]
        if found["state"] != "running":
            break
        beat()
        time.sleep(0.1)
    if rest:
        tail.append(rest.decode("utf-8", "replace"))
    result = {"state": found["state"], "stderr": tail}
    if found["state"] == "finished":
        result.update(rc=found["rc"], stdout=_read(place, "stdout"))
    return result


def _read_result(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_RESULT_BYTES + 1)
    except OSError as error:
        refuse("EngineError", "the board has no such result", where=path, got=str(error))
    if len(content) > MAX_RESULT_BYTES:
        refuse("EngineError", "a result is too large", where=path, expected="at most %d bytes" % MAX_RESULT_BYTES)
    return base64.b64encode(content).decode("ascii")


def _state(place: str) -> Dict[str, Any]:
    key, owner, status = (_read(place, name) for name in ("key", "owner", "status"))
    try:
        who = json.loads(owner)
    except ValueError:
        who = None
    if not key or not who:  # none, or a power cut left half of it
        return {"state": "absent", "key": "", "pid": 0}
    found = {"key": key, "pid": who["pid"]}
    if status.strip().isdigit():
        return {**found, "state": "finished", "rc": int(status)}
    if who["boot_id"] != read_boot_id():
        return {**found, "state": "rebooted"}
    if who["ticks"] and _start_ticks(who["pid"]) == who["ticks"]:
        return {**found, "state": "running"}
    # It may have ended between the two looks.
    status = _read(place, "status")
    return {**found, "state": "finished", "rc": int(status)} if status.strip().isdigit() else {**found, "state": "died"}


def _start_ticks(pid: int) -> int:
    """When the process was started, in clock ticks since boot; 0 if it is gone or only waits to be reaped."""
    try:
        with open("/proc/%d/stat" % pid) as stream:
            # The name in parentheses may hold anything, so fields are counted from its end.
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def _read(place: str, name: str) -> str:
    try:
        with open(os.path.join(place, name), encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_RESULT_BYTES)
    except OSError:
        return ""


def _write(place: str, name: str, text: str) -> None:
    with open(os.path.join(place, name), "w", encoding="utf-8") as stream:
        stream.write(text)


@contextlib.contextmanager
def _locked(place: str) -> Iterator[None]:
    """One starter at a time."""
    with open(os.path.join(place, LOCK), "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
