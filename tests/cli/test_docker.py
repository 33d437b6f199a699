"""`hwc docker` prints the exact command, and refuses what no image is recorded for."""

import pytest

from hwc import targets
from tests.e2e.fixtures import assert_refused, document
from tests.house.repository import ROOT

GOLDEN = ROOT / "tests/golden/docker_commands.txt"


def test_the_dry_runs_are_the_golden_ones(hwc):
    lines = []
    for name in ("agx-xavier", "xavier-nx-16gb", "agx-orin", "orin-nano-super", "agx-thor", "t4", "rtx-4090"):
        result = hwc("docker", "build", "--target", name, "--dry-run")
        assert result.exit_code == 0
        source, command, last = result.stdout.splitlines()
        assert last == "&&&& PASSED hwc.docker.build"
        assert source.startswith("# base image from ")
        lines.append(f"{name}: {command}\n")
    assert "".join(lines) == GOLDEN.read_text(encoding="utf-8")


def test_flags_reach_the_command_and_json_is_one_document(hwc):
    shown = document(
        hwc("docker", "build", "-t", "agx-xavier", "--base-image", "local/stand-in:1", "--platform", "linux/arm64",
            "--tag", "reg.local/hwc:7", "--push", "--dry-run", "--format", "json")
    )  # fmt: skip
    assert shown["command"][-4:] == ["--tag", "reg.local/hwc:7", "--push", "."]
    assert "BASE_IMAGE=local/stand-in:1" in shown["command"]
    assert shown["source"] == "--base-image"
    assert shown["is_dry_run"] is True


@pytest.mark.parametrize(("name", "word"), [("cpu", "family 'cpu'"), ("tx2", "L4T 32.7.6")])
def test_a_target_without_an_image_is_refused(hwc, name, word):
    assert_refused(hwc("docker", "build", "-t", name, "--dry-run"), 3, word)


def test_a_missing_docker_is_one_clear_error(hwc, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = hwc("docker", "build", "-t", "agx-xavier", "--context", ROOT)
    assert_refused(result, 4, "docker is not installed", "--dry-run")


def test_the_list_has_every_target(hwc):
    result = hwc("docker", "list")
    assert [line.split()[0] for line in result.stdout.splitlines()[:-1]] == list(targets.names())
    rows = document(hwc("docker", "list", "--format", "json"))
    refused = {row["target"] for row in rows if "refused" in row}
    assert refused == {"cpu", "jetson-nano", "tx2"}
