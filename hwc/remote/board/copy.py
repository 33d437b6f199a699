"""The two calls of a copy: the program and what it says of this machine, then everything else and the switch.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from typing import Any, Dict, List

from hwc.remote.board.files import Files, plan, receive, settle, switch
from hwc.remote.board.protocol import refuse
from hwc.remote.board.run_command import run

Items = List[Dict[str, Any]]


def begin(folder: str, files: Files, items: Items, program: str, timeout_s: float) -> Dict[str, Any]:
    """Prepares DIR.partial, receives `items` (the program, unless it is there) and asks its doctor.

    Returns:
        {"damaged": names to be sent whole, "doctor": result of `run`, None if the program is damaged}
    """
    found = plan(folder, files, True)
    if found["is_current"] and items:
        refuse("EngineError", "the board's folder was changed meanwhile", where=folder, do="run the same command again")
    damaged = receive(folder, items)
    place = found["dir"] if found["is_current"] else found["dir"] + ".partial"
    argv = ["python3", "%s/%s" % (place, program), "doctor", "--format", "json"]
    return {"damaged": damaged, "doctor": None if damaged else run(argv, timeout_s)}


def finish(folder: str, files: Files, items: Items, copied: Items) -> Dict[str, Any]:
    """Receives `items`, judges those that were `copied` into parts by other means, and switches if all are sound.

    Returns:
        {"damaged": names to be sent whole; nothing was switched if there are any}
    """
    damaged = receive(folder, items) + [item["name"] for item in copied if not settle(folder, item)]
    if not damaged:
        switch(folder, files)
    return {"damaged": damaged}
