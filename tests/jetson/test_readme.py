"""`jetson/README.md` names verbs, flags, files and versions that exist: a new user has nothing else to go by.

The commands of the host and the links are judged by `tests/house/test_readme.py`.
"""

import re
import shlex
import subprocess
import sys

from hwc import targets
from tests.house.repository import ROOT

README = ROOT / "jetson/README.md"
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Column of the table -> fact.
COLUMNS = {2: "software.tensorrt", 3: "software.cuda", 4: "software.python", 5: "software.ubuntu"}


def lines_of(text: str, start: str) -> list[list[str]]:
    """The words of each command in a block that starts with `start`."""
    lines = (line for block in BLOCK.findall(text) for line in block.splitlines() if line.startswith(start))
    return [shlex.split(line.removeprefix(start)) for line in lines]


def unknown_flags(words: list[str], help_text: str) -> list[str]:
    return [w for w in words if w.startswith("-") and not re.search(rf"(^|[\s,]){re.escape(w)}\b", help_text)]


def faults_of_table(text: str) -> list[str]:
    """Numbers in the first table that are not those of the targets it names."""
    faults = []
    for line in re.findall(r"^\| .*\(\d+\.\d+\.\d+\).*$", text, re.MULTILINE):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = [
            name for name in re.findall(r"`([a-z0-9-]+)`", cells[-1]) if name in {*targets.names(), *targets.ALIASES}
        ]
        for name in names:
            target = targets.load(name)
            jetpack, l4t = (str(target.fact(f"software.{n}").value) for n in ("jetpack", "l4t"))
            if not cells[1].startswith(f"{jetpack} ({l4t})"):
                faults.append(f"{name}: JetPack {cells[1]}")
            for at, fact in COLUMNS.items():
                if not str(target.fact(fact).value).startswith(cells[at]):
                    faults.append(f"{name}: {fact} {cells[at]}")
    return faults


def test_the_verbs_and_flags_of_the_board_exist():
    lines = lines_of(README.read_text(encoding="utf-8"), "python3 hwc.pyz ")
    assert {words[0] for words in lines} == {"verify", "doctor", "build", "run", "profile"}
    for verb, *words in lines:
        help_text = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from hwc.device_cli import main; sys.exit(main(sys.argv[1:]))",
                verb,
                "-h",
            ],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
        assert unknown_flags(words, help_text) == [], verb


def test_the_versions_in_the_table_are_those_of_the_facts():
    text = README.read_text(encoding="utf-8")
    assert faults_of_table(text) == []
    rows = {name for name in targets.names() if targets.load(name).family == "jetson"}
    for name in rows:
        board = re.sub(r"-(\d+gb|super|t4000)", "", name)
        assert board in text, name


def test_the_files_it_hands_out_are_here():
    text = README.read_text(encoding="utf-8")
    for name in ("run.sh", "setup.sh", "hwc.service"):
        assert name in text
        assert (ROOT / "jetson" / name).is_file()


def test_each_rule_bites():
    assert unknown_flags(["x", "--fly", "-o"], "  -o FILE, --store S") == ["--fly"]
    good = "| AGX | 5.1.6 (35.6.4) | 8.5.2 | 11.4 | 3.8 | 20.04 | `agx-xavier` |\n"
    assert faults_of_table(good) == []
    assert faults_of_table(good.replace("8.5.2", "8.6")) == ["agx-xavier: software.tensorrt 8.6"]
    assert faults_of_table(good.replace("35.6.4", "35.4.1")) == ["agx-xavier: JetPack 5.1.6 (35.4.1)"]
