import pytest

from hwc.passes.shift_clip import shift_clip
from tests.passes.check import ops
from tests.passes.for_dla import graph, rewrite


def clip(low: str, high: str):
    given = [f"l = Constant<value_float={low}>()"] if low else []
    given += [f"h = Constant<value_float={high}>()"] if high else []
    body = " ".join([*given, f"y = Clip(x, {'l' if low else ''}{', h' if high else ''})"])
    return graph(body, "2,3,5,7", "2,3,5,7")


@pytest.mark.parametrize(
    ("low", "high", "left"),
    [
        ("-1.0", "1.0", ["Sub", "Clip", "Add"]),
        ("0.0", "0.5", ["Mul", "Clip", "Mul"]),
        ("0.25", "0.5", ["Sub", "Mul", "Clip", "Mul", "Add"]),
        ("0.0", "255.0", ["Mul", "Clip", "Mul"]),
        ("-3.0", "3.0", ["Sub", "Clip", "Add"]),
    ],
)
def test_forms(low, high, left) -> None:
    after, _, _ = rewrite(shift_clip, clip(low, high))
    assert ops(after) == left


@pytest.mark.parametrize(
    ("low", "high", "misses"),
    [("0.0", "6.0", 0), ("0.0", "127.0", 0), ("0.0", "", 1), ("", "6.0", 1), ("2.0", "1.0", 1)],
)
def test_what_stays(low, high, misses) -> None:
    _, _, report = rewrite(shift_clip, clip(low, high), rewrites=0)
    assert len(report.misses) == misses
