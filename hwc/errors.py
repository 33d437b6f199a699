"""Every error that `hwc` raises on purpose, sorted by who must act.

| class         | exit code | who acts                                                        |
|---------------|-----------|-----------------------------------------------------------------|
| UsageError    | 2         | the user: a wrong flag, file, shape or dtype                    |
| TargetError   | 3         | the user: this hardware or this runtime version cannot do that  |
| EngineError   | 4         | the engine's runtime or the machine: a build or a run failed    |
| AccuracyError | 1         | the user: the work was done, and the accuracy guard says no     |
| InternalError | 70        | us: a promise of `hwc` to itself was broken; please report it   |

A message has fields, not only prose, so that a program can read what a person reads. The command
line prints them in one fixed layout and never shows a traceback for the first four. Exit code 1 means that the work was
done and the verdict is "no": a guard tripped (AccuracyError), or a comparison failed (which is no error).

This file is part of the device half: Python 3.8, standard library only.
"""

from __future__ import annotations

from typing import Any, Dict, Tuple


class HwcError(Exception):
    """What failed, where, what was expected, what was found and what to do next.

    Args:
        what: one sentence, names the thing that failed.
        where: node, tensor, file or field at fault; empty if the sentence says it.
        expected: what would have been right, with units.
        got: what was found, with units.
        do: the next step for the person who reads this.
        source: for a hardware fact, where that fact comes from.
    """

    exit_code = 70

    def __init__(
        self, what: str, *, where: str = "", expected: str = "", got: str = "", do: str = "", source: str = ""
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.do = do
        self.source = source
        super().__init__(str(self))

    def fields(self) -> Tuple[Tuple[str, str], ...]:
        """The parts that are set, as (label, text), in the order they are printed."""
        parts = (
            ("where", self.where),
            ("expected", self.expected),
            ("got", self.got),
            ("source", self.source),
            ("do", self.do),
        )
        return tuple((label, text) for label, text in parts if text)

    def __str__(self) -> str:
        lines = [f"{type(self).__name__}: {self.what}"]
        lines += [f"  {label + ':':<10} {text}" for label, text in self.fields()]
        return "\n".join(lines)

    def __reduce__(self) -> Any:
        # Errors cross from a build child to its parent; the default would lose the keyword fields.
        return _rebuild, (type(self), self.what, dict(self.fields()))

    def to_dict(self) -> Dict[str, Any]:
        """The same content for `--format json`."""
        return {"error": type(self).__name__, "exit_code": self.exit_code, "what": self.what, **dict(self.fields())}


def _rebuild(kind: type, what: str, fields: Dict[str, str]) -> HwcError:
    error = kind(what, **fields)
    assert isinstance(error, HwcError)
    return error


class UsageError(HwcError):
    """The input or the request is wrong; nothing was tried."""

    exit_code = 2


class TargetError(HwcError):
    """The named target cannot do what was asked; says which fact forbids it."""

    exit_code = 3


class EngineError(HwcError):
    """An engine's runtime, compiler or the machine under it failed."""

    exit_code = 4


class AccuracyError(HwcError):
    """The work was done, and the accuracy guard forbids what came out. `ledger` is the `Ledger` of what was tried."""

    exit_code = 1
    ledger: Any = None


class InternalError(HwcError):
    """A bug in `hwc`: a pass broke the graph, a plan overlaps, a promise was not kept."""

    exit_code = 70
