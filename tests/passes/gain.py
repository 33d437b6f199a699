"""Stand-ins for the estimate, so that a test can say what the gate hears."""

import pytest

import hwc.passes.require_gain as gate
from hwc.cost.roofline import Estimate


def pretend(monkeypatch: pytest.MonkeyPatch, before_us: float, after_us: float) -> None:
    """The next two estimates: first the nodes as they are, then the candidates."""
    answers = iter([before_us, after_us] * 50)
    monkeypatch.setattr(gate, "estimate_nodes", lambda *_: Estimate(next(answers) * 1e-6, 0, 0, "memory", 1))


def always_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 2.0, 1.0)
