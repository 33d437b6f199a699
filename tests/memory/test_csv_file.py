"""Problems and solutions as files: what is written reads back, and a bad line is named."""

import pytest

from hwc.artifacts_memory import Buffer
from hwc.errors import UsageError
from hwc.memory.csv_file import read_problem, read_solution, write_solution
from hwc.memory.planners import plan
from tests.memory.problems import instance


def test_the_example_of_minimalloc(tmp_path):
    buffers = read_problem(instance("example")[0])
    assert buffers[0] == Buffer("b1", 4, 0, 3) and len(buffers) == 5
    made = plan(buffers, 12)
    write_solution(tmp_path / "out.csv", made)
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "id,lower,upper,size,offset"
    assert read_solution(tmp_path / "out.csv") == (buffers, made.offsets)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_lanes_and_alignments_travel(tmp_path):
    buffers = (Buffer("a", 3, 0, 2, "copy", 4), Buffer("b", 5, 0, 2))
    made = plan(buffers)
    write_solution(tmp_path / "out.csv", made)
    assert read_solution(tmp_path / "out.csv") == (buffers, made.offsets)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "columns"),
        ("id,lower,upper\na,0,1\n", "columns"),
        ("id,lower,upper,size,gaps\na,0,1,2,3\n", "columns"),
        ("id,lower,upper,size\na,0,1\n", "cells"),
        ("id,lower,upper,size\na,0,1,x\n", "line is no buffer"),
        ("id,lower,upper,size\na,0,1,\n", "line is no buffer"),
        ("id,lower,upper,size\na,1,1,3\n", "start < end"),
        ("id,lower,upper,size\na,0,1,3\na,0,1,3\n", "used before"),
    ],
)
def test_a_bad_line_is_refused_by_place(tmp_path, text, word):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_problem(path)
    assert word in str(caught.value) and "p.csv" in caught.value.where


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        read_problem(tmp_path / "absent.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot read"):
        read_problem(tmp_path / "bytes.csv")
    with pytest.raises(UsageError, match="cannot write"):
        write_solution(tmp_path / "no" / "out.csv", plan(()))
    with pytest.raises(UsageError, match="has no offset"):
        read_solution(instance("example")[0])
