"""A ledger in words, and where it is found."""

import dataclasses

import pytest

from hwc.artifacts import Attempt, Ledger, Verdict
from hwc.errors import UsageError
from hwc.explain import LEDGER, describe_attempt, describe_ledger, describe_verdict, ledger_beside, read_ledger
from hwc.serialize import to_json
from tests.golden.compare_golden import compare_with_golden

FAILED = Verdict(
    "top1", 50, 100.0, 8.0, 92.0, 61.39, 99.39, 0.95, 3.0, "absolute", "failed", "verified", 0.08, 0.2,
    "plain after 50 of 200 samples; the rest was not run",
)  # fmt: skip
PASSED = Verdict("top1", 200, 100.0, 99.5, 0.5, -0.2, 2.57, 0.95, 3.0, "absolute", "passed", "likely", 0.995, 39.4)
BROKEN = Attempt(
    "int8", "int8", "rolled back", "top1 drops by 92.00 of at most 3 (absolute): over the limit", verdict=FAILED,
    size_bytes=98_304, seconds=4.31, effects={"equalize_layers_db": 1.25, "correct_bias_db": -0.0312},
)  # fmt: skip
MENDED = Attempt(
    "int8 with 1 fusion groups in fp16", "int8", "kept", "put back after 2 trials on 100 calibration samples: g4",
    high=("g4",), verdict=PASSED, latency_ms=0.158, size_bytes=101_000, seconds=5.6,
)  # fmt: skip
FLOAT = Attempt("fp16", "fp16", "rolled back", "slower", latency_ms=0.25)
STORY = Ledger(
    "classifier", "cpu", "auto", (BROKEN, MENDED, FLOAT),
    ("calibration: 100 samples from samples.npz", "validation: 200 samples from samples.npz"),
)  # fmt: skip


def test_the_whole_story():
    compare_with_golden("ledger.txt", "\n".join(describe_ledger(STORY)) + "\n")


def test_nothing_passed():
    nothing = dataclasses.replace(STORY, attempts=(BROKEN,))
    assert describe_ledger(nothing)[-1] == "result: nothing passed, so no engine was written"


def test_an_attempt_that_was_never_built():
    refused = Attempt("int8", "int8", "refused", "no INT8 convolution")
    assert describe_attempt(1, refused) == [
        "1. int8: refused, because no INT8 convolution", "   cost: 0.0 s to make and judge",
    ]  # fmt: skip


def test_the_unit_of_a_relative_drop_and_what_was_not_measured():
    relative = dataclasses.replace(PASSED, drop_type="relative", agreement=None, sqnr_db=None)
    (line,) = describe_verdict(relative)
    assert line.endswith("limit 3 % of the baseline") and "guard: passed (likely)" in line


@pytest.mark.parametrize("name", [LEDGER, "other.json"])
def test_a_ledger_is_read_from_its_file(tmp_path, name):
    (tmp_path / name).write_text(to_json(STORY))
    assert read_ledger(tmp_path / name) == STORY


def test_a_ledger_is_read_from_the_folder_of_a_bundle(tmp_path):
    (tmp_path / LEDGER).write_text(to_json(STORY))
    assert read_ledger(tmp_path) == STORY


def test_where_nothing_passed_the_ledger_lies_beside_the_folder_that_was_not_written(tmp_path):
    out = tmp_path / "out.v2"
    assert ledger_beside(out) == tmp_path / "out.v2.ledger.json"
    ledger_beside(out).write_text(to_json(STORY))
    assert read_ledger(out) == STORY


def test_a_refusal_is_told_before_the_bundle_that_was_there(tmp_path):
    """The bundle in the folder is an older one: a compile that succeeds takes the refusal away."""
    out = tmp_path / "out"
    out.mkdir()
    (out / LEDGER).write_text(to_json(STORY))
    refusal = dataclasses.replace(STORY, attempts=(BROKEN,))
    ledger_beside(out).write_text(to_json(refusal))
    assert read_ledger(out) == refusal


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": "m"}', "\udcff"])
def test_what_is_no_ledger_is_refused(tmp_path, text):
    (tmp_path / LEDGER).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError):
        read_ledger(tmp_path)


def test_a_folder_without_one_is_refused_with_a_next_step(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match=r"has no ledger\.json") as caught:
            read_ledger(path)
        assert "--calibration-data" in caught.value.do
