"""`jetson/run.sh` verifies, builds and profiles in that order, stops at the first failure and keeps its exit code."""

import json
import os
import subprocess

import pytest

from tests.house.repository import ROOT

SCRIPT = ROOT / "jetson/run.sh"
# A stand-in for hwc.pyz: writes down its words, fails at the verb in FAIL, and refuses flags that the verb lacks.
FAKE = """
import json, os, sys
FLAGS = {"verify": set(), "build": {"--store"}, "profile": {"--store", "-o", "--duration"},
         "run": {"--store", "--save-outputs"}}
verb, words = sys.argv[1], sys.argv[2:]
unknown = {word for word in words if word.startswith("-")} - FLAGS[verb]
if unknown:
    sys.exit(2)
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([verb, *words]) + "\\n")
name, _, code = os.environ.get("FAIL", "").partition("=")
if name == verb:
    sys.exit(int(code))
if verb == "profile":
    with open(words[words.index("-o") + 1], "w") as file:
        file.write("{}")
"""


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "a bundle"
    folder.mkdir()
    (folder / "hwc.pyz").write_text(FAKE, encoding="utf-8")
    return folder


def run(bundle, out, *words, **environment):
    calls = out.parent / "calls"
    done = subprocess.run(
        ["sh", SCRIPT, bundle, out, *words],
        env={**os.environ, "CALLS": str(calls), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = calls.read_text().splitlines() if calls.exists() else []
    return done, [json.loads(line) for line in lines]


def test_a_profile_is_verified_built_and_linked_as_the_latest(bundle, tmp_path):
    out = tmp_path / "out"
    done, calls = run(bundle, out, "profile", "--duration", "9")
    assert done.returncode == 0, done.stderr
    assert [call[0] for call in calls] == ["verify", "build", "profile"]
    assert calls[1] == ["build", str(bundle), "--store", str(out / "engines")]
    assert calls[2][-2:] == ["--duration", "9"]
    latest = out / "reports/latest.json"
    assert latest.is_symlink()
    assert latest.read_text() == "{}"
    assert done.stdout == f"report {out / 'reports' / os.readlink(latest)}\n"
    assert run(bundle, out)[0].returncode == 0, "a link that is there already is replaced"


def test_run_saves_its_outputs(bundle, tmp_path):
    out = tmp_path / "out"
    done, calls = run(bundle, out, "run")
    assert done.returncode == 0
    assert calls[-1] == [
        "run",
        str(bundle),
        "--store",
        str(out / "engines"),
        "--save-outputs",
        str(out / "outputs.npz"),
    ]


@pytest.mark.parametrize(("verb", "code", "reached"), [("verify", 1, 1), ("build", 3, 2), ("profile", 4, 3)])
def test_the_first_failure_ends_it_with_its_own_code(bundle, tmp_path, verb, code, reached):
    out = tmp_path / "out"
    done, calls = run(bundle, out, FAIL=f"{verb}={code}")
    assert done.returncode == code
    assert len(calls) == reached
    assert not (out / "reports/latest.json").exists()


def test_another_program_can_be_named(bundle, tmp_path):
    program = bundle.parent / "other.pyz"
    (bundle / "hwc.pyz").rename(program)
    assert run(bundle, tmp_path / "out")[0].returncode == 2
    assert run(bundle, tmp_path / "out", HWC_PYZ=str(program))[0].returncode == 0


def test_wrong_words_are_refused_before_anything_runs(bundle, tmp_path):
    done, calls = run(bundle, tmp_path / "out", "prune")
    assert done.returncode == 2
    assert "profile or run" in done.stderr
    assert calls == []
    assert subprocess.run(["sh", SCRIPT, bundle], capture_output=True, check=False).returncode == 2
