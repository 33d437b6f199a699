"""Errors carry fields, map to exit codes, print in one layout and cross a process border whole."""

import pickle

import pytest

from hwc import errors
from hwc.errors import AccuracyError, EngineError, HwcError, InternalError, TargetError, UsageError

KINDS = {AccuracyError: 1, UsageError: 2, TargetError: 3, EngineError: 4, InternalError: 70}
FULL = {"where": "node 'a'", "expected": "1 axis", "got": "2 axes", "source": "a page", "do": "drop one"}


def test_there_are_five_kinds_and_each_says_who_must_act_by_its_exit_code():
    found = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, HwcError) and k is not HwcError]
    assert {kind: kind.exit_code for kind in found} == KINDS


def test_exit_code_one_means_that_the_verdict_is_no_so_only_the_guard_has_it():
    assert [kind for kind in KINDS if kind.exit_code in (0, 1)] == [AccuracyError]


def test_the_layout_is_fixed_and_leaves_out_what_is_not_set():
    assert str(UsageError("no such axis")) == "UsageError: no such axis"
    assert str(TargetError("no such axis", **FULL)).splitlines() == [
        "TargetError: no such axis",
        "  where:     node 'a'",
        "  expected:  1 axis",
        "  got:       2 axes",
        "  source:    a page",
        "  do:        drop one",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_kind_and_fields_when_it_crosses_from_a_child_process(kind):
    error = pickle.loads(pickle.dumps(kind("it broke", **FULL)))
    assert type(error) is kind
    assert (error.what, dict(error.fields())) == ("it broke", FULL)


def test_the_json_form_says_what_the_text_says():
    data = EngineError("it broke", got="2").to_dict()
    assert data == {"error": "EngineError", "exit_code": 4, "what": "it broke", "got": "2"}
