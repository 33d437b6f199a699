"""Builds the fake libnvidia-ml of fake_nvml.c; skips where there is no C compiler."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "fake_nvml.c"


@functools.cache
def build_fake_nvml(*flags: str) -> str:
    """Path of the shared library, compiled once for each set of flags."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here to build the fake libnvidia-ml with")
    library = Path(tempfile.mkdtemp(prefix="hwc-fake-nvml-")) / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *flags, str(SOURCE), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(library)
