"""`docker/build.sh` builds each target named, hands flags on, and stops at the first failure."""

import os
import subprocess

from tests.house.repository import ROOT


def run(tmp_path, *words, script="exit 0") -> tuple[int, list[str]]:
    fake = tmp_path / "hwc"
    fake.write_text(f'#!/bin/sh\necho "$*" >> "{tmp_path}/calls"\n{script}\n')
    fake.chmod(0o755)
    calls = tmp_path / "calls"
    calls.write_text("")
    env = {**os.environ, "HWC": str(fake)}
    done = subprocess.run(["sh", ROOT / "docker/build.sh", *words], env=env, capture_output=True, check=False)
    return done.returncode, calls.read_text().splitlines()


def test_each_target_is_built_with_the_flags(tmp_path):
    code, calls = run(tmp_path, "agx-xavier", "t4", "--", "--dry-run", "--push")
    assert (code, calls) == (
        0,
        ["docker build --target agx-xavier --dry-run --push", "docker build --target t4 --dry-run --push"],
    )
    assert run(tmp_path, "agx-orin") == (0, ["docker build --target agx-orin"])


def test_the_first_failure_ends_it_with_its_code(tmp_path):
    code, calls = run(tmp_path, "tx2", "t4", script="exit 3")
    assert (code, calls) == (3, ["docker build --target tx2"])


def test_no_target_is_a_usage_error(tmp_path):
    assert run(tmp_path) == (2, [])
