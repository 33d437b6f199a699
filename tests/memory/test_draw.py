"""The drawing of a plan is as agreed."""

from hwc.artifacts_memory import Buffer
from hwc.memory.csv_file import read_problem
from hwc.memory.draw import draw_plan, format_bytes
from hwc.memory.planners import plan
from tests.golden.compare_golden import compare_with_golden
from tests.memory.problems import instance


def test_the_drawing_is_as_agreed():
    text = "\n".join(draw_plan(plan(read_problem(instance("example")[0])), columns=24))
    big = plan((Buffer("in", 3 << 20, 0, 2), Buffer("scratch", 1 << 20, 1, 5, "copy"), Buffer("out", 512 << 10, 2, 40)))
    text += "\n\n" + "\n".join(draw_plan(big, columns=60, rows=3, names=2)) + "\n"
    compare_with_golden("memory_plan.txt", text)


def test_every_row_is_as_wide_as_asked_and_rows_are_limited():
    made = plan(tuple(Buffer(f"b{k}", 7 + k, k, k + 3) for k in range(100)))
    lines = draw_plan(made, columns=33, rows=10, names=4)
    drawn = [line.split("|")[1] for line in lines if "|" in line]
    assert len(drawn) <= 10 and {len(row) for row in drawn} == {33}
    assert lines[-1].endswith("96 smaller ones")


def test_nothing_stored():
    assert draw_plan(plan(())) == ("nothing is stored",)


def test_bytes_in_words():
    assert [format_bytes(n) for n in (0, 10239, 10240, 1 << 20, 3 << 30)] == [
        "0 B", "10239 B", "10.000 KiB", "1.000 MiB", "3.000 GiB",
    ]  # fmt: skip
