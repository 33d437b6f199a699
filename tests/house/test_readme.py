"""What the README tells people to type exists, and what it points at is there."""

import re
import shlex
from pathlib import Path

import click
import pytest

from hwc.cli import main
from hwc.cli.command import normalize_args
from tests.house.repository import ROOT, shown

README = ROOT / "README.md"
SHELLS = ("", "sh", "bash", "shell", "console", "text")
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)")


@pytest.fixture(scope="module")
def readme() -> str:
    assert README.is_file(), "the repository has no README.md"
    return README.read_text(encoding="utf-8")


def commands_in(text: str) -> list[str]:
    """Every command of `hwc`, `make` or `python -m benchmarks` in shell blocks and in inline code."""
    lines = []
    for language, block in FENCE.findall(text):
        if language in SHELLS:
            lines += block.replace("\\\n", " ").splitlines()
    lines += INLINE.findall(FENCE.sub("", text))
    found = []
    for line in lines:
        for part in re.split(r"&&|\|\||[|;]", line):
            command = re.sub(r"^(\$ +)?([A-Z_]+=\S+ +)*", "", part.strip())
            if re.match(r"(hwc|make|python3? -m benchmarks)\b(?!\.)", command):
                found.append(command)
    return found


def faults_of(command: str) -> list[str]:
    """What the command names that does not exist: a verb, a flag, a make target or a module."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError as error:
        return [f"cannot be split: {error}"]
    if words[0] == "make":
        known = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        asked = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        return [f"no make target '{word}'" for word in asked if word not in known]
    if words[0].startswith("python"):
        place = ROOT / words[2].replace(".", "/")
        return [] if place.with_suffix(".py").is_file() or place.is_dir() else [f"no module '{words[2]}'"]
    return cli_faults(words[1:])


def cli_faults(words: list[str]) -> list[str]:
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(click.Context(command), words[0])
        if inner is None:
            # A bare placeholder in prose, as in `hwc VERB --help`, names no verb.
            return [] if words[0].isupper() or words[0].startswith("<") else [f"no verb '{words[0]}'"]
        command, words = inner, words[1:]
    flags = {"-h", "--help", *(flag for param in command.params for flag in (*param.opts, *param.secondary_opts))}
    asked = [word.partition("=")[0] for word in normalize_args(words) if re.match(r"--?[a-zA-Z]", word)]
    return [f"no flag '{flag}'" for flag in asked if flag not in flags and flag[:2] not in flags]


def anchor_of(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def broken_links(text: str, folder: Path) -> list[str]:
    """Relative links that lead nowhere: no such file, or no such heading here."""
    prose = FENCE.sub("", text)
    anchors = {anchor_of(heading) for heading in re.findall(r"^#+ +(.*)$", prose, re.MULTILINE)}
    broken = []
    for link in LINK.findall(prose):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        if (path and not (folder / path).exists()) or (not path and anchor not in anchors):
            broken.append(link)
    return broken


def test_every_command_in_the_readme_exists(readme):
    commands = commands_in(readme)
    assert any(command.startswith("hwc compile") for command in commands)
    assert any(command.startswith("make") for command in commands)
    assert {command: found for command in commands if (found := faults_of(command))} == {}


def test_every_link_in_the_readme_leads_somewhere(readme):
    assert broken_links(readme, ROOT) == []


DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")} - {README})


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_other_documents_name_what_exists(path):
    text = path.read_text(encoding="utf-8")
    assert broken_links(text, path.parent) == []
    assert {command: found for command in commands_in(text) if (found := faults_of(command))} == {}


@pytest.mark.parametrize(
    ("command", "faults"),
    [
        ("hwc", []),
        ("hwc --help", []),
        ("hwc targets list", []),
        ("hwc compile net.onnx -t cpu -o out", []),
        ("hwc compile net.onnx -tcpu --minShapes=x:1x3 --output out  # a comment", []),
        ("hwc --version", []),
        ("hwc VERB --help", []),
        ("hwc compress net.onnx", ["no verb 'compress'"]),
        ("hwc targets shew cpu", ["no verb 'shew'"]),
        ("hwc compile net.onnx --ouput out", ["no flag '--ouput'"]),
        ("hwc compile net.onnx -q", ["no flag '-q'"]),
        ("make test", []),
        ("make bench-int8", []),
        ("make demo OUT=here", []),
        ("make tset", ["no make target 'tset'"]),
        ("python -m benchmarks.demo --out x", []),
        ("python -m benchmarks.dmeo", ["no module 'benchmarks.dmeo'"]),
        ("hwc compile 'net.onnx", ["cannot be split: No closing quotation"]),
    ],
)
def test_what_does_not_exist_is_found(command, faults):
    assert faults_of(command) == faults


def test_commands_are_found_wherever_a_reader_would_copy_them_from():
    text = """
Run `make test`, or `hwc inspect out`; `hwc.pyz` is a file.

```sh
$ hwc compile net.onnx \\
    -o out && hwc run out | tee log
HWC_CACHE_DIR=/x hwc targets list
cd out; make demo
```

```python
hwc.compile_model()
```
"""
    in_blocks = ["hwc compile net.onnx -o out", "hwc run out", "hwc targets list", "make demo"]
    assert [" ".join(c.split()) for c in commands_in(text)] == [*in_blocks, "make test", "hwc inspect out"]


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "there.md").write_text("")
    text = "# A `b` head\n[1](there.md) [2](absent.md) ![3](gone.png) [4](#a-b-head) [5](#other) [6](https://onnx.ai)\n"
    assert broken_links(text, tmp_path) == ["absent.md", "gone.png", "#other"]
