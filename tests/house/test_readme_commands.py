"""The commands of the README work as they stand there, in their order, in a folder that holds only `benchmarks`."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.repository import ROOT

README = ROOT / "README.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def lines_of(text: str) -> list[str]:
    """The lines of all `sh` blocks that start with `hwc` or `make`, continued lines joined."""
    lines = [line.strip() for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.split(" ")[0] in ("hwc", "make")]


def run_line(line: str, folder: Path) -> subprocess.CompletedProcess:
    """`hwc` is run by the script that was installed; of `make` only the target is looked up."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        # A make that runs these tests must not pass its flags on.
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        return subprocess.run(
            ["make", "-n", *words[1:]], cwd=ROOT, env=clean, capture_output=True, text=True, check=False
        )
    script = Path(sys.executable).with_name("hwc")
    env = {**os.environ, "HWC_CACHE_DIR": str(folder / "cache")}
    return subprocess.run([script, *words[1:]], cwd=folder, env=env, capture_output=True, text=True, check=False)


def first_failure(text: str, folder: Path) -> str:
    """The first line that does not end with exit code 0, and what it said; empty if all do."""
    for line in lines_of(text):
        ended = run_line(line, folder)
        if ended.returncode != 0:
            return f"{line}\nexit code {ended.returncode}\n{ended.stdout[-1000:]}{ended.stderr[-1000:]}"
    return ""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    return tmp_path


def test_every_command_of_the_readme_works(folder):
    text = README.read_text(encoding="utf-8")
    lines = lines_of(text)
    assert "make test" in lines and any(line.startswith("hwc compile") for line in lines)
    if "rtx" in text:
        pytest.importorskip("tensorrt_rtx")
    assert first_failure(text, folder) == ""


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("hwc targets list --fromat json", "No such option"),
        ("hwc targets show rtx-4091", "no target is called"),
        ("hwc run nowhere", "is not a bundle"),
        ("make tset", "tset"),
    ],
)
def test_a_readme_with_a_wrong_line_is_found(folder, bad, said):
    text = f"# A\n\n```sh\nhwc --version\nmake test\n{bad}\n```\n"
    found = first_failure(text, folder)
    assert found.startswith(f"{bad}\nexit code ") and said in found
    assert first_failure(text.replace(bad, "# " + bad), folder) == ""


def test_only_commands_in_sh_blocks_are_run():
    text = "`hwc a`\n```sh\nhwc b \\\n  --c\ncd d\nmake e  # f\nhwcx\n```\n```text\nhwc g\n```\n"
    assert [" ".join(line.split()) for line in lines_of(text)] == ["hwc b --c", "make e # f"]
