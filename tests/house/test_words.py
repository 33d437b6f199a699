"""Tracked files name no machine's own folders and no package registry: those belong to whoever runs the code."""

import pytest

from tests.house.repository import shown, tracked

# Put together from pieces, so that this file obeys its own rule.
FORBIDDEN = (
    "/wo" + "rk/",
    "/tmp/ba" + "sh_jobs",
    "/ro" + "ot/",
    "/ho" + "me/" + "ubuntu",
    "py" + "pi.org",
    "python" + "hosted.org",
    "anaconda" + ".org/simple",
)


def words_in(data: bytes) -> list[str]:
    return [word for word in FORBIDDEN if word.encode() in data]


def test_tracked_files_hold_none_of_the_forbidden_words():
    files = tracked()
    if not files:
        pytest.skip("this is no git checkout, so which files are tracked is not known")
    assert {shown(path): found for path in files if (found := words_in(path.read_bytes()))} == {}


def test_the_rule_bites():
    for word in FORBIDDEN:
        assert words_in(f"see {word}x for more".encode()) == [word]
    assert words_in(b"see https://onnx.ai") == []
