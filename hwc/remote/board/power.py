"""The board's power mode: asked and set with nvpmodel, by name and not by number.

The same number means other modes in other tables (an Orin NX has two), so a number is used only after the board's own
/etc/nvpmodel.conf, where it can be read, gives it the wanted name; and after the switch nvpmodel is asked what is set.
The former mode is written to DIR.job/power.json before the switch, so that a later run can restore it after a cut link.
Setting needs root: `sudo -n`, which never asks for a password. Some switches need a reboot and ask; they get no answer.

Part of the device half: Python 3.8, standard library only. Source of the forms: nvpmodel's own output and
configuration as jetson_stats reads them (rbonghi/jetson_stats, jtop/core/nvpmodel.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import Any, Dict, List

from hwc.remote.board.protocol import full_path, refuse
from hwc.remote.board.run_command import environment

CONFIG = "/etc/nvpmodel.conf"
TIMEOUT_S = 60


def query() -> Dict[str, Any]:
    """{"name", "id"} of the mode that is set."""
    tool = _tool()
    answer = _run([tool, "-q"])
    if answer.returncode != 0:
        answer = _run([*_root(), tool, "-q"])
    found = re.search(r"NV Power Mode:\s*(\S+)\s+(\d+)", answer.stdout)
    if answer.returncode != 0 or not found:
        refuse("EngineError", "nvpmodel does not say which mode is set", got=_last(answer))
    return {"name": found[1], "id": found[2]}


def change(folder: str, name: str, id: str) -> Dict[str, Any]:
    """Sets that mode and remembers the former one.

    Returns:
        {"now": {...}, "former": {...}}; the former of an earlier run if that could not restore it.
    """
    former = query()
    record = _record(folder)
    remembered = pending(folder)["former"]
    if former["name"] != name:
        written = _written_id(name)
        if written not in ("", id):
            refuse(
                "TargetError", "the board's table of power modes is another one", where=CONFIG,
                expected="%s is number %s" % (name, id), got="%s is number %s" % (name, written),
            )  # fmt: skip
        os.makedirs(os.path.dirname(record), exist_ok=True)
        if not remembered:
            _write_record(record, former)
        try:
            _set(name, id)
        except BaseException:
            if not remembered:
                os.unlink(record)
            raise
    return {"now": {"name": name, "id": id}, "former": remembered or former}


def restore(folder: str) -> Dict[str, Any]:
    """Sets the mode that was remembered, if any: {"restored": its name or empty}."""
    former = pending(folder)["former"]
    if former and query()["name"] != former["name"]:
        _set(former["name"], former["id"])
    keep(folder)
    return {"restored": former.get("name", "")}


def keep(folder: str) -> Dict[str, Any]:
    """Forgets the former mode."""
    if os.path.exists(_record(folder)):
        os.unlink(_record(folder))
    return {}


def pending(folder: str) -> Dict[str, Any]:
    """{"former": the mode that an earlier run has still to restore, or an empty object}."""
    try:
        with open(_record(folder)) as stream:
            return {"former": json.load(stream)}
    except (FileNotFoundError, ValueError):
        return {"former": {}}


def _record(folder: str) -> str:
    return os.path.join(full_path(folder) + ".job", "power.json")


def _write_record(record: str, mode: Dict[str, str]) -> None:
    """On the disk before the switch: the mode outlives a power cut, so its record must too."""
    with open(record + ".new", "w") as stream:
        json.dump(mode, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(record + ".new", record)


def _set(name: str, id: str) -> None:
    answer = _run([*_root(), _tool(), "-m", id])
    if answer.returncode != 0 and re.search(r"password|sudo:", answer.stderr):
        refuse(
            "UsageError", "setting the power mode needs root, and sudo asks for a password", got=_last(answer),
            do="allow it on the board (`USER ALL=(root) NOPASSWD: %s` by visudo), or set the mode there and leave out "
            "--power-mode" % _tool(),
        )  # fmt: skip
    now = query()
    if answer.returncode != 0 or now["name"] != name:
        refuse(
            "EngineError", "the board did not take the power mode", expected=name,
            got="%s is set; nvpmodel said: %s" % (now["name"], _last(answer)),
            do="a mode that needs a reboot has to be set on the board: sudo nvpmodel -m %s" % id,
        )  # fmt: skip


def _written_id(name: str) -> str:
    """The number of that mode in the board's configuration; empty where it cannot be read or has no such mode."""
    try:
        with open(CONFIG, encoding="utf-8", errors="replace") as stream:
            modes = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", stream.read())
    except OSError:
        return ""
    return next((number for number, mode in modes if mode == name), "")


def _tool() -> str:
    tool = shutil.which("nvpmodel") or shutil.which("nvpmodel", path="/usr/sbin:/sbin")
    if not tool:
        refuse("TargetError", "the board has no nvpmodel", do="leave out --power-mode")
    return tool


def _root() -> List[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def _run(argv: List[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
            timeout=TIMEOUT_S, check=False, env=environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        refuse("EngineError", "nvpmodel cannot be run", where=" ".join(argv), got=str(error))


def _last(answer: Any) -> str:
    lines = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
    return lines[-1] if lines else "nothing, with exit status %d" % answer.returncode
