"""Which tests run in a root that has the device half alone: by what they import, and nothing is lost on the way."""

import ast
import subprocess
import sys

from scripts import list_device_tests as lister
from tests.house.repository import ROOT
from tests.house.test_device_syntax import device_files


def why_not(folder, text: str, monkeypatch, **others: str) -> str:
    monkeypatch.setattr(lister, "ROOT", folder)
    (folder / "tests").mkdir(exist_ok=True)
    for name, content in {"__init__": "", "test_it": text, **others}.items():
        (folder / "tests" / f"{name}.py").write_text(content)
    (folder / "hwc").mkdir(exist_ok=True)
    for name in ("__init__", "errors", "quantize"):
        (folder / "hwc" / f"{name}.py").write_text("")
    device = {folder / "hwc/__init__.py", folder / "hwc/errors.py"}
    return lister.what_forbids(folder / "tests/test_it.py", device, {})


def test_what_a_board_has_is_allowed(tmp_path, monkeypatch):
    text = "import json\nimport numpy as np\nimport pytest\nfrom hypothesis import given\nfrom hwc.errors import X\n"
    assert why_not(tmp_path, text, monkeypatch) == ""


def test_what_it_lacks_keeps_a_test_out_wherever_it_is_imported(tmp_path, monkeypatch):
    for text, what in (
        ("import onnx", "imports onnx"),
        ("def test():\n    import torch", "imports torch"),
        ("from hwc import quantize", "imports hwc.quantize"),
        ("import pytest\nx = pytest.importorskip('click')", "imports click"),
    ):
        assert what in why_not(tmp_path, text, monkeypatch)


def test_what_a_helper_of_the_tests_imports_counts(tmp_path, monkeypatch):
    text = "from tests.models import x"
    assert "tests/models.py imports onnx" in why_not(tmp_path, text, monkeypatch, models="import onnx")
    assert why_not(tmp_path, text, monkeypatch, models="import numpy") == ""


def test_a_conftest_above_a_test_counts(tmp_path, monkeypatch):
    why_not(tmp_path, "", monkeypatch, conftest="import click")
    needed = lister.needed_files(tmp_path / "tests/test_it.py")
    assert tmp_path / "tests/conftest.py" in needed


def test_the_lists_hold_the_device_half_and_its_tests(tmp_path):
    lists = (tmp_path / "tests", tmp_path / "files")
    done = subprocess.run([sys.executable, ROOT / "scripts/list_device_tests.py", *lists], check=False)
    assert done.returncode == 0
    tests, files = (path.read_text().split() for path in lists)
    assert {"tests/test_errors.py", "tests/test_bundle.py", "tests/targets/test_probe.py"} <= set(tests)
    assert not any(name.startswith(("tests/passes", "tests/calibrate", "tests/cli")) for name in tests)
    assert {path.relative_to(ROOT).as_posix() for path in device_files()} <= set(files)
    assert set(tests) <= set(files)
    assert "tests/golden/profile.txt" in files


def test_relative_imports_would_not_be_seen_so_there_are_none():
    for path in (ROOT / "tests").rglob("*.py"):
        levels = [n.level for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ImportFrom)]
        assert not any(levels), path
