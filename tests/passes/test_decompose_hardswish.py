import pytest

from hwc.passes.decompose_hardswish import decompose_hardswish
from tests.passes.check import ops
from tests.passes.for_dla import graph, rewrite


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("y = HardSwish(x)", ["Mul", "Add", "Clip", "Mul"]),
        ("y = HardSigmoid(x)", ["Mul", "Add", "Clip"]),
        ("y = HardSigmoid<alpha=0.3, beta=-0.1>(x)", ["Mul", "Add", "Clip"]),
    ],
)
def test_forms(body, left) -> None:
    after, _, _ = rewrite(decompose_hardswish, graph(body, "2,3,5,7", "2,3,5,7"))
    assert ops(after) == left


def test_another_rank_is_a_near_miss() -> None:
    _, _, report = rewrite(decompose_hardswish, graph("y = HardSwish(x)", "2,3", "2,3"), rewrites=0)
    assert "rank 2" in report.misses[0].reason


def test_wrong_constants_would_be_seen(monkeypatch) -> None:
    monkeypatch.setitem(__import__("hwc.passes.decompose_hardswish", fromlist=["_GATE"])._GATE, "HardSwish", (0.2, 0.5))
    with pytest.raises(AssertionError, match="Not equal"):
        rewrite(decompose_hardswish, graph("y = HardSwish(x)", "2,3,5,7", "2,3,5,7"))
