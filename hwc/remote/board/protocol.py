"""How the board's side speaks: one JSON object a line on stdout, each behind a mark.

A login shell may print a greeting into the same stream; without the mark at its start a line is not ours. The last line
of a call holds "result" or "error"; before it there may be any number of others, at least one every few seconds, which
is how the host knows that the board is alive.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Callable, Dict, List, NoReturn

MARK = "hwc-board "
BEAT_S = 5.0  # the host gives up after many of these, so a slow hash of a large file must speak too
TAKEN = b"taken\n"
_last_s = [0.0]
_when_taken: List[Callable[[], None]] = []


class Refused(Exception):
    """What the host raises as an error of `hwc`: `kind` is the name of its class."""

    def __init__(self, kind: str, what: str, **fields: str) -> None:
        super().__init__(what)
        self.document: Dict[str, Any] = {"error": kind, "what": what, **fields}


def refuse(kind: str, what: str, **fields: str) -> NoReturn:
    """Ends the call with an error; fields are those of `HwcError`."""
    raise Refused(kind, what, **fields)


def say(message: Dict[str, Any]) -> None:
    """Sends one message. A host that is gone ends this process, as a closed pipe does."""
    # The newline first: a greeting may have left its last line open.
    sys.stdout.write("\n" + MARK + json.dumps(message) + "\n")
    sys.stdout.flush()
    _last_s[0] = time.monotonic()


def beat() -> None:
    """Says that this side is alive, if it has been silent for a while."""
    if time.monotonic() - _last_s[0] > BEAT_S:
        say({"alive": 1})


def when_taken(act: Callable[[], None]) -> None:
    """Has `act` called once the host has said that the result of this call arrived; never, if the link is cut."""
    _when_taken.append(act)


def wait_until_taken() -> None:
    """Calls what waits for the host's word, which it sends on stdin."""
    if _when_taken and sys.stdin.buffer.readline() == TAKEN:
        for act in _when_taken:
            act()


def full_path(text: str) -> str:
    """A path of the board: `~` is its user's home, links are followed."""
    return os.path.realpath(os.path.expanduser(text))
