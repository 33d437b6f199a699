"""The command line answers before anything heavy is loaded."""

import json
import subprocess
import sys

import pytest

from tests.house.repository import ROOT

HEAVY = {
    *("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "pycuda"),
    *("numpy", "rich", "safetensors", "polygraphy", "PIL", "ml_dtypes", "numba"),
}
MOST_MODULES = 250  # click and what it needs; each further hundred costs some 20 ms
PRINT_MODULES = "\nimport json, sys; print(); print(json.dumps(sorted(sys.modules)))"


def modules_after(code: str) -> set[str]:
    """Names of all modules that a fresh interpreter has loaded after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code + PRINT_MODULES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def heavy_in(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules} & HEAVY


HELP = """
from hwc.cli import main
try:
    main({args!r})
except SystemExit as done:
    assert not done.code, done.code
"""


@pytest.mark.parametrize(
    "code",
    ["import hwc", "import hwc.cli", HELP.format(args=["--help"]), HELP.format(args=["--version"]),
     HELP.format(args=["compile", "--help"])],
    ids=["package", "command line", "--help", "--version", "compile --help"],
)  # fmt: skip
def test_nothing_heavy_is_loaded(code):
    modules = modules_after(code)
    assert heavy_in(modules) == set()
    assert len(modules) < MOST_MODULES


def test_the_rule_bites():
    assert heavy_in(modules_after("import numpy")) == {"numpy"}
    assert heavy_in({"hwc", "onnx.helper"}) == {"onnx"}
