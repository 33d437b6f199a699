"""The import contracts of pyproject.toml hold, and a tree that breaks one is caught."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.house.repository import PACKAGE, ROOT

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
BAD = (("artifacts", "hwc.graph.model"), ("profile.report", "torch"), ("passes.base", "hwc.engines.base"))


def lint(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", LINT, "--no-cache"]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False
    )


def test_the_contracts_hold():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_contracts_bite(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "hwc", ignore=shutil.ignore_patterns("__pycache__", "data"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, wrong in BAD:
        with open(tmp_path / "hwc" / f"{module.replace('.', '/')}.py", "a") as source:
            source.write(f"\nimport {wrong}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    for module, wrong in BAD:
        assert f"hwc.{module} -> {wrong}" in done.stdout, done.stdout
