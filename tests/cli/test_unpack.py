"""`hwc unpack`: what it asks for, what it refuses, and that checking alone writes nothing."""

import os

import pytest

from tests.e2e.fixtures import assert_refused, document


@pytest.fixture
def packed(hwc, cpu_bundle, tmp_path):
    assert hwc("pack", cpu_bundle, "-o", tmp_path / "net.hwc").exit_code == 0
    return tmp_path / "net.hwc"


def test_checking_writes_nothing(hwc, packed, tmp_path):
    result = hwc("unpack", packed, "--verify")
    assert result.exit_code == 0 and "is whole" in result.stdout and os.listdir(tmp_path) == ["net.hwc"]
    shown = document(hwc("unpack", packed, "--verify", "--format", "json"))
    assert shown["output"] is None and shown["verified"] is True and "manifest.json" in shown["files"]


def test_neither_output_nor_verify_is_refused(hwc, packed):
    assert_refused(hwc("unpack", packed), 2, "nothing to do")


def test_a_cut_archive_is_refused_and_nothing_is_left(hwc, packed, tmp_path):
    packed.write_bytes(packed.read_bytes()[:-100])
    assert_refused(hwc("unpack", packed, "-o", tmp_path / "out"), 2, "this archive is refused", "cut off")
    assert os.listdir(tmp_path) == ["net.hwc"]


def test_a_bundle_over_the_users_limit_is_refused(hwc, packed, tmp_path):
    assert_refused(hwc("unpack", packed, "-o", tmp_path / "out", "--max-bytes", 10), 2, "too large", "--max-bytes")


def test_a_folder_of_the_users_own_is_not_replaced(hwc, packed, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("dear")
    assert_refused(hwc("unpack", packed, "-o", tmp_path / "photos"), 2, "not empty and not a bundle")
    assert (tmp_path / "photos" / "one.jpg").read_text() == "dear"
