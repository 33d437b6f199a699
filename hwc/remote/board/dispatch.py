"""One call from the host: a function of one of these modules, its arguments, one result or one error.

Part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Dict

from hwc.remote.board.protocol import Refused, say, wait_until_taken


def main(module: str, function: str, arguments: Dict[str, Any]) -> None:
    """Runs it and says how it ended; a bug here reaches the host as one, and not as text on stderr."""
    try:
        say({"result": getattr(sys.modules["hwc.remote.board." + module], function)(**arguments)})
        wait_until_taken()
    except Refused as refused:
        say(refused.document)
    except BrokenPipeError:
        # The host is gone: nobody reads what this process could still say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        import traceback  # slow to load, and not needed as a rule

        at = traceback.extract_tb(error.__traceback__)[-1]
        what = "%s: %s" % (type(error).__name__, error)
        say({"error": "InternalError", "what": what, "where": "%s.%s, line %s" % (module, at.name, at.lineno)})
