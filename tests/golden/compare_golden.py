"""Compares a text with a golden file of this folder.

With HWC_REGENERATE set the file is written and the test fails: a comparison of what was just written with itself would
pass whatever the code does.
"""

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def compare_with_golden(name: str, text: str, *, folder: Path = FOLDER) -> None:
    path = folder / name
    if os.environ.get("HWC_REGENERATE"):
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{name} was written anew; read its diff, then run again without HWC_REGENERATE")
    assert path.is_file(), f"there is no golden file {name}; run once with HWC_REGENERATE=1"
    assert text == path.read_text(encoding="utf-8")
