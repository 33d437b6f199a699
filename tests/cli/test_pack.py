"""`hwc pack` and `hwc unpack` as a user types them."""

import json

from hwc.bundle import hash_files
from tests.e2e.fixtures import assert_refused, document


def test_there_and_back(hwc, cpu_bundle, tmp_path):
    result = hwc("pack", cpu_bundle, "-o", tmp_path / "net.hwc")
    assert result.exit_code == 0 and "sha256" in result.stdout
    assert result.stdout.splitlines()[-1] == "&&&& PASSED hwc.pack"
    result = hwc("unpack", tmp_path / "net.hwc", "-o", tmp_path / "out", "--verify")
    assert result.exit_code == 0 and "read back" in result.stdout
    assert hash_files(tmp_path / "out") == hash_files(cpu_bundle)


def test_what_is_no_bundle_is_not_packed(hwc, tmp_path):
    assert_refused(hwc("pack", tmp_path, "-o", tmp_path / "x.hwc"), 2, "is not a bundle")
    assert not (tmp_path / "x.hwc").exists()


def test_pack_in_json(hwc, cpu_bundle, tmp_path):
    shown = document(hwc("pack", cpu_bundle, "-o", tmp_path / "net.hwc", "--format", "json"))
    assert shown["size_bytes"] == (tmp_path / "net.hwc").stat().st_size and "manifest.json" in shown["files"]
    assert json.loads((cpu_bundle / "manifest.json").read_text())["name"] == shown["bundle"]
