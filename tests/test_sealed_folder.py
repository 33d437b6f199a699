"""A sealed folder tells every change of its files, and a seal that is none."""

from __future__ import annotations

import pytest

from hwc.sealed_folder import SEAL, find_damage, seal_folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    seal_folder(tmp_path)
    return tmp_path


def test_a_folder_as_it_was_sealed_is_whole(folder):
    assert find_damage(folder) == ""
    seal_folder(folder)
    assert find_damage(folder) == ""


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("sub/a", "A", "sub/a was changed"),
        ("sub/c", "c", "sub/c is not in the manifest"),
        (SEAL, "{", "Expecting"),
        (SEAL, "[]", "not a table"),
        (SEAL, "{}", "is not in the manifest"),
    ],
)
def test_every_change_is_told(folder, name, text, word):
    (folder / name).write_text(text)
    assert word in find_damage(folder)


def test_what_is_missing_is_told(folder):
    (folder / "b").unlink()
    assert find_damage(folder) == "b is missing"
    (folder / SEAL).unlink()
    assert "No such file" in find_damage(folder)
