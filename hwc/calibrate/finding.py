"""One thing that is wrong, or may be, with the data that a model is fed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hwc.errors import UsageError


@dataclass(frozen=True)
class Finding:
    """What a check says, in the same parts as an error, so that a program can read what a person reads.

    Args:
        kind: one word or two for what it is ("not-normalised"); the table is in check_data.
        severity: "error": scales from these data are worthless; "warning": look at it, it may be meant.
        message: one sentence.
        expected: what would have been right, with units.
        got: what was found, with units: the evidence.
        do: the next step.
    """

    kind: str
    severity: str
    message: str
    expected: str
    got: str
    do: str


def refuse_errors(findings: Iterable[Finding], source: str) -> None:
    """Does nothing if no finding is an error.

    Raises:
        UsageError: the first error, with the number of further ones.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        first, more = errors[0], "".join(f"; also: {finding.message}" for finding in errors[1:])
        raise UsageError(first.message + more, where=source, expected=first.expected, got=first.got, do=first.do)
