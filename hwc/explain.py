"""The ledger of a bundle: read from its folder, and told in words.

`ledger.json` holds the `Ledger` noun: every recipe that was tried on the way to the engine. A bundle that was compiled
without calibration data has none, because nothing was tried.
"""

from __future__ import annotations

from pathlib import Path

from hwc.artifacts import Attempt, Ledger, Verdict
from hwc.errors import UsageError
from hwc.serialize import from_json

LEDGER = "ledger.json"


def ledger_beside(out: Path) -> Path:
    """Where the ledger goes when no bundle is written, because nothing passed the guard."""
    return out.with_name(out.name + ".ledger.json")


def read_ledger(path: Path) -> Ledger:
    """The ledger of a bundle folder, or of a ledger file.

    A refusal beside the folder is newer than the bundle in it: a compile that succeeds takes the refusal away.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    places = [path] if path.is_file() else [ledger_beside(path), path / LEDGER]
    for place in places:
        if place.is_file():
            try:
                return from_json(Ledger, place.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{place} cannot be read", got=str(error)) from None
    raise UsageError(
        f"{path} has no {LEDGER}", expected="a bundle that was compiled with --calibration-data",
        do="compile with --precision int8 or auto and --calibration-data; without it no precision is weighed",
    )


def describe_ledger(ledger: Ledger) -> list[str]:
    """The whole story, one attempt a paragraph, the result last."""
    lines = [f"{ledger.model} for {ledger.target}, precision asked: {ledger.asked}"]
    lines += [f"note: {note}" for note in ledger.notes]
    for number, attempt in enumerate(ledger.attempts, 1):
        lines += ["", *describe_attempt(number, attempt)]
    kept = ledger.kept
    if kept is None:
        lines += ["", "result: nothing passed, so no engine was written"]
    else:
        lines += ["", f"result: {kept.name} ({kept.precision}) ships"]
    return lines


def describe_attempt(number: int, attempt: Attempt) -> list[str]:
    """One attempt: what it was, what it cost, what the guard said, what became of it and why."""
    lines = [f"{number}. {attempt.name}: {attempt.outcome}, because {attempt.reason}"]
    if attempt.verdict is not None:
        lines += [f"   {line}" for line in describe_verdict(attempt.verdict)]
    figures = []
    if attempt.latency_ms is not None:
        figures.append(f"{attempt.latency_ms:.3f} ms")
    if attempt.size_bytes is not None:
        figures.append(f"{attempt.size_bytes / 1e6:.2f} MB")
    figures.append(f"{attempt.seconds:.1f} s to make and judge")
    lines.append(f"   cost: {', '.join(figures)}")
    if attempt.high:
        lines.append(f"   kept out of INT8: {', '.join(attempt.high)}")
    lines += [f"   {name}: {value:.4g}" for name, value in attempt.effects.items()]
    return lines


def describe_verdict(verdict: Verdict) -> list[str]:
    """The guard's words: scores, drop with its interval against the limit, agreement, noise."""
    unit = "points" if verdict.drop_type == "absolute" else "% of the baseline"
    lines = [
        f"guard: {verdict.decision} ({verdict.judged}): {verdict.metric} {verdict.baseline:.2f} -> "
        f"{verdict.candidate:.2f} on {verdict.samples} samples; drop {verdict.drop:.2f} "
        f"[{verdict.drop_low:.2f}, {verdict.drop_high:.2f}] at {verdict.confidence:.0%}, limit {verdict.limit:g} {unit}"
    ]
    more = []
    if verdict.agreement is not None:
        more.append(f"same answer as FP32 on {verdict.agreement:.2%}")
    if verdict.sqnr_db is not None:
        more.append(f"outputs {verdict.sqnr_db:.1f} dB above the noise")
    if more:
        lines.append("; ".join(more))
    if verdict.note:
        lines.append(verdict.note)
    return lines
