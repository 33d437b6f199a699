"""Flags that several verbs take are read in one way, and what cannot be read is refused with an example."""

from pathlib import Path

import numpy as np
import pytest

from hwc.artifacts import DynamicDim
from hwc.cli import options
from hwc.errors import UsageError
from hwc.optimize import Normalization


def test_shape_flags_may_be_given_several_times():
    shapes = options.parse_input_shapes(("a:1x2", "b:[3]"), ("x:1x8",), ("x:2x8",), ("x:4x8",)).shapes
    assert shapes == {"a": (1, 2), "b": (3,), "x": (DynamicDim(1, 2, 4), 8)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x:127/128", Normalization("x", (127.0,), (128.0,))),
        ("x:1,2,3/4,5,6:uint8", Normalization("x", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), True)),
        ("input:0:-1.5/2e-1", Normalization("input:0", (-1.5,), (0.2,))),
    ],
)
def test_normalization_is_read(text, expected):
    assert options.parse_normalization((text,)) == (expected,)


@pytest.mark.parametrize("text", ["", "x", "x:1", "x:1/0", "x:1,2/3", "x:a/b", ":1/2", "x:1/2/3", "x:/", "1/2"])
def test_normalization_that_cannot_be_read_is_refused(text):
    with pytest.raises(UsageError, match="--normalize cannot be read") as caught:
        options.parse_normalization((text,))
    assert "127,127,127/128,128,128:uint8" in caught.value.expected


def test_pass_names_and_pairs_are_read():
    assert options.parse_pass_names(("-a,-b", "-c")) == ("a", "b", "c")
    assert options.parse_pairs(("a=1", "b=c=d"), "--engine-option") == {"a": "1", "b": "c=d"}
    for bad in ("a", "=1"):
        with pytest.raises(UsageError, match="--engine-option wants NAME=VALUE"):
            options.parse_pairs((bad,), "--engine-option")
    with pytest.raises(UsageError) as caught:
        options.parse_pass_names(("-a,b",))
    assert caught.value.expected == "--passes=-b"


def test_inputs_come_from_npy_and_npz(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "b.npz", b=np.ones(2), c=np.zeros(1))
    feeds = options.load_inputs((f"in:put:{tmp_path / 'a.npy'}", str(tmp_path / "b.npz")))
    assert {name: array.shape for name, array in feeds.items()} == {"in:put": (3,), "b": (2,), "c": (1,)}


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04cut", b"text"])
def test_a_damaged_input_file_is_refused(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(UsageError, match="cannot read the input file"):
        options.load_inputs((f"x:{tmp_path / 'x.npy'}",))


def test_the_cache_folder_is_taken_from_the_environment_else_home(monkeypatch):
    monkeypatch.setenv("HWC_CACHE_DIR", "/somewhere/else")
    assert options.default_cache() == Path("/somewhere/else")
    for unset in (lambda: monkeypatch.setenv("HWC_CACHE_DIR", ""), lambda: monkeypatch.delenv("HWC_CACHE_DIR")):
        unset()
        assert options.default_cache() == Path.home() / ".cache" / "hwc"


def test_without_a_cache_the_store_goes_away(tmp_path):
    with options.open_store(tmp_path / "cache", no_cache=True) as store:
        with store.put("step", "key") as folder:
            (folder / "file").write_text("x")
        assert store.get("step", "key") is not None
    assert not store.root.exists() and not (tmp_path / "cache").exists()
    with options.open_store(tmp_path / "cache", no_cache=False) as store:
        assert store.root == tmp_path / "cache"


def test_no_bar_is_drawn_into_a_log(capsys):
    with options.progress_bar("compile") as progress:
        progress("capturing", 0.5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("text", "size"), [("512MiB", 512 << 20), ("1.5GB", 1_500_000_000), ("7B", 7), ("2kB", 2000)])
def test_a_size_has_a_unit(text, size):
    assert options.parse_bytes(text, "--memory-budget") == size


@pytest.mark.parametrize("text", ["512", "MiB", "-1MiB", "0MiB", "1e999GB", "nanMiB", "5 apples"])
def test_a_size_without_a_unit_or_a_sense_is_refused(text):
    with pytest.raises(UsageError, match="--memory-budget cannot be read"):
        options.parse_bytes(text, "--memory-budget")
