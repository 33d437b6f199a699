"""One call to a board: the program that is sent, what comes back, and errors that keep their class on the way.

The program is Python source: a loader that any Python can read, so that an old one can say that it is too old, and
inside it the modules of hwc/remote/board that the function needs. It goes to the stdin of `python3 -c`.
"""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwc import errors
from hwc.errors import EngineError, HwcError, InternalError
from hwc.remote.board.protocol import MARK
from hwc.remote.ssh_errors import plain

SILENCE_S = 300  # a board that is alive says so every few seconds, but while it flushes a large file
BOARD = Path(__file__).parent / "board"
# What each module of hwc/remote/board imports of the others, in that order: only this is sent, and compiled there.
NEEDS = {
    "files": (), "run_command": (), "jobs": ("run_command",), "power": ("run_command",),
    "copy": ("run_command", "files"), "probe": ("run_command", "files", "jobs", "power"),
}  # fmt: skip
# Also for Python 3.4, so that an old one can say what it is.
_LOADER = """
import base64, json, sys, types, zlib
if sys.version_info < (3, 8):
    print("\\n%s" + json.dumps({"error": "TargetError", "expected": "Python 3.8 or newer",
          "what": "the board's python3 is too old", "got": "Python " + ".".join(map(str, sys.version_info[:3])),
          "do": "use the board's JetPack 5 or newer"}))
else:
    for name, text in json.loads(zlib.decompress(base64.b64decode(%r)).decode()):
        module = sys.modules[name] = types.ModuleType(name)
        exec(compile(text, name, "exec"), module.__dict__)
    sys.modules["hwc.remote.board.dispatch"].main(*json.loads(%r))
"""

OnMessage = Callable[[dict[str, Any]], None]


class Reader:
    """Drains both outputs of a call, so that neither side waits for the other; keeps the last message."""

    def __init__(self, process: subprocess.Popen[bytes], on_message: OnMessage) -> None:
        self.last: dict[str, Any] = {}
        self.stderr = ""
        self.failure: BaseException | None = None
        self._process, self._on_message = process, on_message
        self._heard_s = time.monotonic()
        self._has_ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read_out, self._read_err)]
        for thread in self._threads:
            thread.start()

    def wait(self, label: str, function: str, *, until_result: bool = False) -> None:
        """Until both outputs are closed, or the result is there.

        Raises:
            EngineError: the board has said nothing for SILENCE_S.
        """
        while any(thread.is_alive() for thread in self._threads):
            if until_result and self._has_ended.wait(timeout=0.5):
                return
            self._threads[0].join(timeout=0.0 if until_result else 0.5)
            if time.monotonic() - self._heard_s > SILENCE_S:
                raise EngineError(f"{label} says nothing any more", where=function, got=f"silence for {SILENCE_S} s")
            if not self._threads[0].is_alive():
                self._threads[1].join(timeout=0.5)
        if self.failure is not None:
            raise self.failure

    def _read_out(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard_s = time.monotonic()
            text = line.decode("utf-8", "replace")
            if not text.startswith(MARK):
                continue  # a greeting of the login shell
            try:
                message = json.loads(text[len(MARK) :])
            except ValueError:
                continue
            self.last = message if isinstance(message, dict) else {}
            try:
                self._on_message(self.last)
            except Exception as error:  # kept for the thread that waits
                self.failure = self.failure or error
            if "result" in self.last or "error" in self.last:
                self._has_ended.set()
        self._has_ended.set()

    def _read_err(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.stderr = (self.stderr + line.decode("utf-8", "replace"))[-4000:]


def load_program(function: str, arguments: dict[str, Any]) -> bytes:
    """The Python program that runs one function on the board, with all its sources inside."""
    module, _, name = function.partition(".")
    names = ("protocol", *NEEDS[module], module, "dispatch")
    sources = [(f"hwc.remote.board.{name}", (BOARD / f"{name}.py").read_text(encoding="utf-8")) for name in names]
    packed = base64.b64encode(zlib.compress(json.dumps(sources).encode())).decode()
    return (_LOADER % (MARK, packed, json.dumps([module, name, arguments]))).encode()


def rebuild_error(document: dict[str, Any], label: str) -> HwcError:
    """An error that a board described, as the class it names; the board is named in `where`."""
    kind = getattr(errors, str(document.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, HwcError)):
        kind = InternalError
    fields = {key: plain(str(document[key])) for key in ("expected", "got", "do", "source") if document.get(key)}
    where = ", ".join(filter(None, (label, plain(str(document.get("where", ""))))))
    error = kind(plain(str(document.get("what", "an error without words"))), where=where, **fields)
    assert isinstance(error, HwcError)
    return error
