"""Runs the bundle's `hwc.pyz` on the board: short verbs while we wait, long ones as jobs that outlive the link.

Progress comes on its stderr as `hwc-progress 0.42 text`. With `--format json` its stdout is the result, or the error
with the fields of `HwcError`, so an error keeps its class on the way. A job's key is a digest of the bundle, the
command and the power mode: only the very same work is picked up by a later run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from hwc.errors import EngineError
from hwc.remote.copy_bundle import PROGRAM
from hwc.remote.ssh import Connection, rebuild_error
from hwc.remote.ssh_errors import last_words, plain

DOCTOR_TIMEOUT_S = 120
_PROGRESS = re.compile(r"hwc-progress (\d+(?:\.\d+)?) ?(.*)")
_FOUND = {
    "running": "joined the one that an earlier run started",
    "finished": "an earlier run started it, and it had finished meanwhile",
}

OnProgress = Callable[[float, str], None]


def read_doctor(said: dict[str, Any], label: str) -> dict[str, Any]:
    """What `hwc.pyz doctor` printed on the board.

    Raises:
        HwcError: it failed, in its own words.
    """
    # 1 is its verdict "not ready", which comes with the same report.
    if said["rc"] not in (0, 1) or '"machine"' not in said["stdout"]:
        raise _error_of("doctor", said, label)
    return _parse("doctor", said, label)


def run_job(
    link: Connection, folder: str, verb: str, flags: list[str], *, manifest: str, power_mode: str = "", file: str = "",
    on_progress: OnProgress = lambda fraction, text: None,
) -> tuple[dict[str, Any], tuple[str, ...]]:  # fmt: skip
    """Starts `hwc.pyz VERB FOLDER FLAGS` as a job, or joins the one that runs, and waits for its result.

    Args:
        manifest: sha256 of the manifest, that is, of the bundle.
        file: a JSON file that it writes into FOLDER.job/VERB.

    Returns:
        The file, or without one what it printed; and notes: that a job was joined, or why an earlier one has no result.

    Raises:
        LinkCut: it goes on without us.
        HwcError: it failed, in its own words, or was killed.
    """
    argv = ["python3", f"{folder}/{PROGRAM}", verb, folder, *flags, "--format", "json"]
    key = job_key(manifest, argv, power_mode)
    notes = []

    def on_message(message: dict[str, Any]) -> None:
        if message.get("before"):
            notes.append(f"{verb}: {message['before']} during an earlier run; it was started again")
        if message.get("found") in _FOUND:
            notes.append(f"{verb}: {_FOUND[message['found']]}")
        found = _PROGRESS.fullmatch(message.get("line", ""))
        if found:
            on_progress(min(1.0, float(found[1])), plain(found[2]))

    said = link.call(
        "jobs.work", on_message=on_message, acknowledge=True, folder=folder, name=verb, key=key, argv=argv, file=file
    )
    if said["state"] != "finished":
        why = "the board was rebooted" if said["state"] == "rebooted" else "something on the board killed it"
        raise EngineError(
            f"{verb} ended without a result", where=link.host.label, got=why, do="run the same command again"
        )
    if said["rc"] != 0:
        raise _error_of(verb, said, link.host.label)
    if file:
        said["stdout"] = base64.b64decode(said["file"]).decode("utf-8", "replace")
    return _parse(verb, said, link.host.label), tuple(notes)


def job_key(manifest: str, argv: list[str], power_mode: str) -> str:
    """What makes two jobs the same."""
    return hashlib.sha256(json.dumps([manifest, argv, power_mode]).encode()).hexdigest()


def _parse(verb: str, said: dict[str, Any], label: str) -> dict[str, Any]:
    try:
        document = json.loads(said["stdout"])
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise EngineError(
            f"{verb} printed no result", where=label, expected="one JSON object",
            got=plain(said["stdout"])[:200] or last_words("\n".join(said["stderr"])),
            do="report this with the bundle's hwc version",
        )  # fmt: skip
    return document


def _error_of(verb: str, said: dict[str, Any], label: str) -> Exception:
    """The error of a program that ended with another status than 0."""
    try:
        document = json.loads(said["stdout"])
        if "error" in document and "what" in document:
            return rebuild_error(document, label)
    except (ValueError, TypeError, RecursionError):
        pass
    lines = [line for line in said["stderr"] if not _PROGRESS.fullmatch(line)]
    got = f"exit status {said['rc']}: {last_words(chr(10).join(lines)) or 'no message'}"
    if said["rc"] in (-9, 137):
        return EngineError(
            f"{verb} was killed on the board", where=label, got=got,
            do="it probably ran out of memory: close what else runs there, or add swap; `sudo dmesg` says more",
        )  # fmt: skip
    return EngineError(f"{verb} failed on the board", where=label, got=got)
