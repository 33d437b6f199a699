"""One call from the host: a verb, its arguments, one result or one error.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, Dict

# Each function by its name: on the board these modules have no package around them.
from hwc.remote.board.files import Files, plan, receive, settle, switch
from hwc.remote.board.jobs import fetch, forget, look_at_jobs, work
from hwc.remote.board.look import look, run
from hwc.remote.board.power import change, keep, pending, restore
from hwc.remote.board.protocol import Refused, say


def probe(folder: str, files: Files) -> Dict[str, Any]:
    """All that is asked before anything is written: one call instead of four, since each starts a Python."""
    return {**look(), **look_at_jobs(folder), **pending(folder), "plan": plan(folder, files, False)}


VERBS: Dict[str, Callable[..., Dict[str, Any]]] = {
    "probe": probe, "run": run, "plan": plan, "receive": receive, "settle": settle, "switch": switch,
    "work": work, "forget": forget, "fetch": fetch,
    "power_change": change, "power_restore": restore, "power_keep": keep,
}  # fmt: skip


def main(verb: str, arguments: Dict[str, Any]) -> None:
    """Runs the verb and says how it ended; a bug here reaches the host as one, and not as text on stderr."""
    try:
        say({"result": VERBS[verb](**arguments)})
    except Refused as refused:
        say(refused.document)
    except BrokenPipeError:
        # The host is gone: nobody reads what this process could still say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        import traceback  # slow to load, and not needed as a rule

        at = traceback.extract_tb(error.__traceback__)[-1]
        what = "%s: %s" % (type(error).__name__, error)
        say({"error": "InternalError", "what": what, "where": "%s, in %s, line %s" % (verb, at.name, at.lineno)})
