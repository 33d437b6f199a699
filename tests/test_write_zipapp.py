"""hwc.pyz: the device half and nothing else, the same bytes every time, and it runs with numpy alone."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hwc import targets, write_zipapp
from hwc.errors import InternalError
from hwc.write_zipapp import device_files, zipapp_bytes
from tests.fake_board import plant_xavier, write_bundle

PACKAGE = Path(write_zipapp.__file__).parent
# Refuses every import that is not numpy's, the zipapp's own or the standard library's.
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in ALLOWED and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ImportError("blocked: " + name, name=name)
        return None
ALLOWED = {"numpy", "hwc"}
sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[1])
"""
IMPORT_ALL = BLOCKER + """
import importlib, json, zipfile
names = [n[:-3].replace("/", ".") for n in zipfile.ZipFile(sys.argv[1]).namelist() if n.endswith(".py")]
for name in names:
    if name != "__main__":
        importlib.import_module(name[:-9] if name.endswith(".__init__") else name)
print(json.dumps(sorted({m.split(".")[0] for m in sys.modules})))
"""


@pytest.fixture(scope="module")
def pyz(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pyz") / "hwc.pyz"
    digest = write_zipapp.write_zipapp(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    return path


def run(*words: object, **environment: str) -> subprocess.CompletedProcess:
    # Started elsewhere and without PYTHONPATH: nothing but the file itself may be found.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "HWC_"))}
    return subprocess.run([sys.executable, *map(str, words)], cwd="/", env={**kept, **environment},
                          capture_output=True, text=True, check=False)  # fmt: skip


def test_it_says_its_version(pyz):
    done = run(pyz, "--version")
    assert done.returncode == 0 and re.match(r"hwc \d+\.\d+\.\d+, device half\n", done.stdout)


def test_every_module_imports_with_numpy_alone(pyz):
    done = run("-c", IMPORT_ALL, pyz)
    assert done.returncode == 0, done.stderr
    assert {"numpy", "hwc"} <= set(json.loads(done.stdout))


def test_the_blocker_bites(pyz):
    done = run("-c", BLOCKER + "import click", pyz)
    assert done.returncode == 1 and "blocked: click" in done.stderr


def test_doctor_needs_not_even_numpy(pyz, tmp_path):
    root = plant_xavier(tmp_path / "root")
    code = BLOCKER.replace('{"numpy", "hwc"}', '{"hwc"}') + "from hwc.device_cli import main; main(['doctor'])"
    done = run("-c", code, pyz, HWC_BOARD_ROOT=str(root))
    assert "fail" not in done.stdout.replace("FAILED", "") or "numpy" in done.stdout, done.stderr
    assert "power_mode           MAXN" in done.stdout


def test_equal_sources_give_equal_bytes(pyz):
    zipapp_bytes.cache_clear()
    assert zipapp_bytes() == pyz.read_bytes()
    with zipfile.ZipFile(pyz) as archive:
        infos = archive.infolist()
    assert [info.filename for info in infos] == sorted(info.filename for info in infos)
    assert {(info.date_time, info.compress_type) for info in infos} == {((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED)}
    assert os.access(pyz, os.X_OK) and pyz.read_bytes().startswith(b"#!/usr/bin/env python3\n")


def test_it_holds_the_device_half_and_no_more(pyz):
    with zipfile.ZipFile(pyz) as archive:
        names = set(archive.namelist())
    assert {"__main__.py", "hwc/device_cli.py", "hwc/deploy.py", "hwc/engines/tensorrt_rtx.py"} <= names
    assert {"hwc/engines/tensorrt_child.py", "hwc/targets/ask_cuda.py", "hwc/targets/data.json"} <= names
    hosts = ("graph", "passes", "frontend", "cost", "calibrate", "precision", "cli/", "compile", "build.py", "capture")
    assert [name for name in names if name.startswith(tuple(f"hwc/{host}" for host in hosts))] == []


def test_targets_are_read_from_it_as_from_their_files(pyz):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from hwc import targets; from hwc.serialize import to_json\n"
        "assert targets.__file__.startswith(sys.argv[1]) and 'tomllib' not in sys.modules\n"
        "print(targets.resolve_name('agx-xavier'), len(targets.names()))\n"
        "print(to_json(targets.load('agx-xavier')))"
    )
    done = run("-c", code, pyz)
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition("\n")
    assert first == f"agx-xavier-32gb {len(targets.names())}"
    from hwc.serialize import to_json

    assert json.loads(rest) == json.loads(to_json(targets.load("agx-xavier")))


def test_without_data_the_message_says_so(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "hwc", ignore=shutil.ignore_patterns("__pycache__", "data"))
    code = "import sys; sys.path.insert(0, sys.argv[1]); from hwc import targets; targets.names()"
    done = run("-c", code, tmp_path)
    assert "the targets' data are missing" in done.stderr


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("import torch", "torch"),
        ("def f():\n    from onnx import helper", "onnx"),
        ("from hwc.cli import options", "click"),
        ("def g():\n    import hwc.graph.model", "onnx_ir"),
    ],
)
def test_an_import_that_no_board_has_is_refused(tmp_path, line, word):
    shutil.copytree(PACKAGE, tmp_path / "hwc", ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "hwc" / "profile" / "measure.py", "a") as source:
        source.write(f"\n{line}\n")
    with pytest.raises(InternalError, match=f"imports {word}"):
        device_files(tmp_path / "hwc")


def test_an_old_python_gets_a_message_and_no_traceback(pyz):
    """Read by any Python: no syntax that 3.4 lacks stands before the check."""
    with zipfile.ZipFile(pyz) as archive:
        text = archive.read("__main__.py").decode()
    ast.parse(text, feature_version=(3, 4))
    before = text[: text.index("from hwc.device_cli")]
    assert 'f"' not in before and "version_info < (3, 8)" in before
    code = (
        "import sys, types\n"
        "class Old(tuple): pass\n"
        "fake = types.SimpleNamespace(version_info=(3, 6, 15), version='3.6.15 (x)', stderr=sys.stderr,\n"
        "    stdout=sys.stdout, exit=sys.exit)\n"
        f"exec({before.replace('import sys', '')!r}, {{'sys': fake}})"
    )
    done = run("-c", code)
    assert done.returncode == 3 and done.stdout == "&&&& FAILED hwc\n"
    assert done.stderr.startswith("TargetError: hwc.pyz needs Python 3.8") and "Python 3.6.15" in done.stderr


def test_it_verifies_a_bundle_on_a_fake_board(pyz, tmp_path):
    root, bundle = plant_xavier(tmp_path / "root"), write_bundle(tmp_path / "bundle")
    done = run(pyz, "verify", bundle, HWC_BOARD_ROOT=str(root))
    assert done.returncode == 0 and "6 files intact" in done.stdout, done.stderr
