"""Power of a Jetson from tegrastats: the program is started, and each line that arrives is one reading.

The instant values of the target's rails are taken, in watts; never the running average, which mixes in what was drawn
since tegrastats started. The step of the values is that of the INA3221 (a current step times the rail's voltage: 40 mW
at 5 V and 8 mA); it is estimated from the first lines, because tegrastats prints to 1 mW whatever the sensor resolves.

Limits: the time of a reading is when its line arrived; how old the value was by then is not told, so one interval is
assumed. Below 100 ms tegrastats itself loads a core noticeably. Without root some boards print no rails, which is an
error here.

This file is part of the device half: Python 3.8, numpy.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import List, Optional, Tuple

from hwc.artifacts import Target
from hwc.errors import EngineError, TargetError, UsageError
from hwc.profile.choose_rails import choose_rails
from hwc.profile.integrate_energy import estimate_step
from hwc.profile.meters import Meter, MeterInfo
from hwc.profile.tegrastats import parse_line

COMMAND = "tegrastats"
_PLACES = ("/usr/bin/tegrastats",)  # not on the PATH of every account
_SILENT_S = 5.0
_FIRST_LINES = 20
_SMEAR_W = 0.004  # smaller gaps are the supply voltage moving, not the current's step


class TegrastatsMeter(Meter):
    """A running tegrastats.

    Raises:
        TargetError: there is no tegrastats here.
        EngineError: it ended, fell silent, or does not print a rail of the target.
    """

    is_paced = True

    def __init__(self, target: Target, *, interval_ms: int = 100, command: Optional[str] = None) -> None:
        program = command or shutil.which(COMMAND) or next((p for p in _PLACES if Path(p).is_file()), None)
        if program is None:
            raise TargetError(
                "there is no tegrastats on this machine", expected="a Jetson with NVIDIA's L4T",
                do="measure power on the board, or choose another meter (--power)",
            )  # fmt: skip
        plan = choose_rails(target)
        try:
            self._process = subprocess.Popen(
                [program, "--interval", str(interval_ms)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise EngineError("tegrastats cannot be started", where=program, got=str(error)) from None
        self._buffer, self._rails, self._lines = b"", plan.rails, 0
        try:
            first = [self.read() for _ in range(_FIRST_LINES)]
        except BaseException:
            self.close()
            raise
        steps = [estimate_step(column, _SMEAR_W) for column in zip(*first)]
        known = [step for step in steps if step is not None]
        notes: List[str] = []
        if not known:
            notes.append("the step of the sensor could not be seen, because its values did not move")
        self.info = MeterInfo(
            meter="tegrastats", device=target.title, quantity="power_w", rails=plan.rails, is_total=plan.is_total,
            omits=plan.omits, period_s=interval_ms / 1e3, period_source="the interval asked of tegrastats",
            delay_s=interval_ms / 1e3, quantum=max(known) if known else None, notes=tuple(notes),
        )  # fmt: skip

    def read(self) -> Tuple[float, ...]:
        """The next line's instant power of each rail, in watts; waits for it."""
        line = self._next_line()
        self._lines += 1
        try:
            reading = parse_line(line, self._lines)
        except UsageError as error:
            raise EngineError(
                "tegrastats printed something that cannot be read", where=error.where, got=repr(line[:200]),
                do="run it by hand and look; it may need root",
            ) from None  # fmt: skip
        return tuple(milliwatts / 1e3 for milliwatts in reading.power_mw(self._rails))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.terminate()
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _next_line(self) -> str:
        stream = self._process.stdout
        assert stream is not None
        give_up = time.monotonic() + _SILENT_S
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([stream], [], [], max(0.0, give_up - time.monotonic()))
            data = os.read(stream.fileno(), 65536) if ready else b""
            if not ready:
                raise EngineError(f"tegrastats printed nothing for {_SILENT_S:.0f} s", do="run it by hand and look")
            if not data:
                raise EngineError(
                    "tegrastats ended", got=f"exit code {self._process.wait()}; last: {self._buffer[-200:]!r}",
                    do="run it by hand: it may need root, or another tegrastats is running (tegrastats --stop)",
                )  # fmt: skip
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("ascii", errors="replace")
