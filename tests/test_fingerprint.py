"""An engine's fingerprint changes with everything that decides the engine, and says what changed."""

from __future__ import annotations

import dataclasses

import pytest

from hwc.fingerprint import AHEAD, UNKNOWN, Fingerprint, Wanted, find_changes, take_fingerprint
from hwc.serialize import from_json, to_json
from tests.fake_board import xavier_facts, xavier_target

WANTED = Wanted("a" * 64, "fp16", "x:float32:1x3", {"workspace_bytes": "1", "dla_core": "0"}, ("b" * 64,))


def take(module: str = "tensorrt", wanted: Wanted = WANTED, **changed: object) -> Fingerprint:
    return take_fingerprint(xavier_target(), module, xavier_facts(**changed), wanted)


@pytest.mark.parametrize(
    ("fact", "value", "field"),
    [
        ("software__tensorrt", "8.6.1", "runtime"),
        ("software__cuda", "12.2", "cuda"),
        ("software__l4t", "35.4.1", "l4t"),
        ("gpu__name", "Orin", "gpu"),
        ("gpu__compute_capability", "8.7", "compute_capability"),
        ("gpu__sm_count", 4, "sm_count"),
        ("jetson__power_mode", "MODE_15W", "power_mode"),
        ("jetson__power_mode", None, "power_mode"),
    ],
)
def test_each_fact_of_the_machine_counts(fact, value, field):
    before, after = take(), take(**{fact: value})
    assert before.key != after.key
    (change,) = find_changes(before, after)
    assert change.field == field and change.now == (UNKNOWN if value is None else str(value))
    assert str(change) == f"{field}: {change.stored} -> {change.now}"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "c" * 64}, "model"),
        ({"precision": "fp32"}, "precision"),
        ({"shapes": "x:float32:2x3"}, "shapes"),
        ({"options": {"workspace_bytes": "1"}}, "options"),
        ({"plugins": ()}, "plugins"),
    ],
)
def test_each_part_of_the_request_counts(change, field):
    changes = find_changes(take(), take(wanted=dataclasses.replace(WANTED, **change)))
    assert [found.field for found in changes] == [field]


def test_what_does_not_decide_an_engine_does_not_count():
    assert take().key == take(software__python="3.9.2", jetson__clocks_locked=False, machine__hostname="other").key
    turned = dataclasses.replace(WANTED, options=dict(reversed(list(WANTED.options.items()))))
    assert take().key == take(wanted=turned).key
    assert find_changes(take(), take()) == ()


def test_digests_are_shown_short_and_lists_in_words():
    changed = dataclasses.replace(WANTED, model="c" * 64, options={}, plugins=())
    shown = {change.field: str(change) for change in find_changes(take(), take(wanted=changed))}
    assert shown["model"] == f"model: {'a' * 12} -> {'c' * 12}"
    assert shown["options"] == "options: dla_core=0, workspace_bytes=1 -> none"


def test_an_engine_built_ahead_of_time_belongs_to_the_target_and_not_to_the_machine():
    here = take("tensorrt_rtx", software__tensorrt_rtx="1.7.1")
    there = take("tensorrt_rtx", software__tensorrt_rtx="1.7.1", gpu__name=None, jetson__power_mode=None)
    assert here == there and here.gpu == AHEAD and here.compute_capability == "7.2" and here.runtime == "1.7.1"


def test_it_survives_a_file():
    assert from_json(Fingerprint, to_json(take())) == take()
