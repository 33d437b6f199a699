"""Reads a meter over and over in a thread of its own, while the work that is measured goes on in another.

A meter that is polled is read once in each period, at a random moment of it: samples at fixed distances see a load
whose period is close to theirs always at the same point, and stratified random samples do not. The moment of a reading
is the middle between just before and just after it. A paced meter (tegrastats) decides itself when the next value is
there, and its moment is that of arrival.

Limits: the thread shares Python's lock with the work, so a reading may come late; it is stamped with the time it was
taken, not the time it was due. The seed is fixed. Source: Cochran, Sampling Techniques (1977), stratified sampling.

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Callable, List, Optional, Tuple, Type

from hwc.errors import EngineError, HwcError
from hwc.profile.meters import Meter

Clock = Callable[[], float]


@dataclass(frozen=True)
class Recording:
    """Readings in the order taken: `times_s` on the clock of the recorder, `values[i]` one value per rail."""

    times_s: Tuple[float, ...]
    values: Tuple[Tuple[float, ...], ...]


class Recorder:
    """Used as a context manager around the work; `stop` gives the recording."""

    def __init__(self, meter: Meter, *, clock: Clock = time.perf_counter) -> None:
        self._meter, self._clock = meter, clock
        self._times: List[float] = []
        self._values: List[Tuple[float, ...]] = []
        self._error: Optional[HwcError] = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._record, name="hwc-power", daemon=True)

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._end()

    @property
    def count(self) -> int:
        """Readings so far."""
        return len(self._times)

    def check(self) -> None:
        """Raises what ended the recording, if anything did; so that nobody waits for readings that will not come."""
        if self._error is not None:
            raise self._error

    def wait_past(self, moment_s: float, limit_s: float) -> None:
        """Waits until a reading was taken after that moment of the clock.

        Raises:
            EngineError: none came within `limit_s`, or the meter failed.
        """
        give_up = time.monotonic() + limit_s
        while not self._times or self._times[-1] <= moment_s:
            self.check()
            if time.monotonic() > give_up:
                raise EngineError(
                    f"the meter {self._meter.info.meter} gave no reading for {limit_s:.3g} s",
                    do="check that it still runs, then measure again",
                )
            time.sleep(min(0.01, self._meter.info.period_s))

    def stop(self) -> Recording:
        """Ends the recording.

        Raises:
            EngineError: the meter failed on the way; its own error.
        """
        self._end()
        self.check()
        return Recording(tuple(self._times), tuple(self._values))

    def _end(self) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    def _record(self) -> None:
        try:
            self._read_until_over()
        except HwcError as error:
            self._error = error
        except Exception as error:  # a thread must hand its failure over, or it would look like silence
            self._error = EngineError(
                f"the meter {self._meter.info.meter} failed", got=f"{type(error).__name__}: {error}", do="measure again"
            )

    def _read_until_over(self) -> None:
        period, start, turn = self._meter.info.period_s, self._clock(), 0
        moments = random.Random(0)
        while not self._is_over.is_set():
            before = self._clock()
            values = self._meter.read()
            after = self._clock()
            if self._meter.is_paced and self._is_over.is_set():
                return
            # Two readings in one tick of a coarse clock would divide by zero later.
            moment = after if self._meter.is_paced else (before + after) / 2
            if not self._times or moment > self._times[-1]:
                self._values.append(values)
                self._times.append(moment)
            if self._meter.is_paced:
                continue
            turn = max(turn + 1, int((self._clock() - start) / period))
            due = start + (turn + moments.random()) * period
            self._is_over.wait(max(0.0, due - self._clock()))
