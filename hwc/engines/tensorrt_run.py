"""Runs a builder in a child process: its progress, its answer, and one clear error if it dies.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

import hwc
from hwc import errors
from hwc.engines.base import Progress
from hwc.engines.tensorrt_child import LOG, PLAN, PROGRESS, RESULT, last_errors
from hwc.engines.tensorrt_timing import KEPT, TimingFiles
from hwc.errors import EngineError

STDERR = "stderr.txt"
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_LIBC = ctypes.CDLL(None)  # loaded here, because little is safe between fork and exec


def run_child(
    request: Path, out: Path, progress: Progress, command: Tuple[str, ...], timing: TimingFiles,
    history: Optional[Path] = None,
) -> Dict[str, Any]:  # fmt: skip
    """Runs the build child on that request; its result.

    Raises:
        HwcError: what the child reported.
        EngineError: it ended without a report: a crash, or the machine ran out of memory.
    """
    # The child must find this very hwc, also when it lies in a zipapp or a folder that is not installed.
    root = str(Path(hwc.__file__ or "").resolve().parent.parent)
    paths = [root] + [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    arguments = [sys.executable, *command[1:-1], str(request), "--out", str(out), "--with-parent"]
    arguments += ["--timing"] * (timing.write is not None)
    arguments += ["--timing-read", str(timing.read)] if timing.read is not None else []
    arguments += ["--history", str(history)] if history is not None else []

    def read(line: bytes) -> None:
        words = line.decode(errors="replace").split(None, 2)
        if len(words) == 3 and words[0] == PROGRESS:
            progress(words[2].strip(), float(words[1]))

    with (out / STDERR).open("wb") as stderr:
        code = run_to_end(arguments, stderr, read, environment=environment)
    result: Dict[str, Any] = {}
    if (out / RESULT).is_file():
        result = json.loads((out / RESULT).read_text())
    if "error" in result:
        raise _reported(result["error"])
    if code != 0 or not result or not (out / PLAN).is_file():
        said = (out / STDERR).read_text(errors="replace").strip().splitlines()[-3:]
        raise EngineError(
            "the TensorRT builder crashed" if code < 0 else "the TensorRT builder ended without a result",
            where=f"signal {-code}" if code < 0 else f"exit code {code}",
            got=" | ".join([last_errors(out / LOG), *said]),
            do=f"to reproduce it, run in {request.parent}: {' '.join(command)}",
        )
    return result


def run_to_end(
    arguments: Sequence[str], stderr: BinaryIO, read: Callable[[bytes], None], *,
    environment: Optional[Mapping[str, str]] = None, cwd: Optional[Path] = None, is_ours: bool = True,
) -> int:  # fmt: skip
    """Runs a program, gives each line of its standard output to `read`; its exit code, below 0 for a signal.

    It ends when we do: our own children read their standard input for that, other programs the kernel kills.
    """
    child = subprocess.Popen(
        list(arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=cwd,
        env=None if environment is None else dict(environment),
        preexec_fn=None if is_ours else _end_with_parent,
    )  # fmt: skip
    with _ended(child):
        assert child.stdout is not None
        for line in child.stdout:
            read(line)
        return child.wait()


@contextlib.contextmanager
def _ended(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Only our own child, and only if we leave before it does (an interrupt)."""
    try:
        yield
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _end_with_parent() -> None:
    _LIBC.prctl(_END_WITH_PARENT, signal.SIGKILL)


def take_away(folder: Path) -> Path:
    """Removes what a build left for us alone; the path where a timing cache may lie."""
    for name in (LOG, RESULT, STDERR):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
    return folder / KEPT


def _reported(error: Dict[str, Any]) -> errors.HwcError:
    kind = getattr(errors, str(error["error"]))
    fields = {key: str(value) for key, value in error.items() if key in ("where", "expected", "got", "do", "source")}
    raised = kind(str(error["what"]), **fields)
    assert isinstance(raised, errors.HwcError)
    return raised
