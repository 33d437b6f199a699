"""Arrays come back from a file by name, bit for bit, and nothing is unpickled."""

from __future__ import annotations

import numpy as np
import pytest

from hwc.array_file import load_arrays, load_inputs, save_arrays
from hwc.errors import UsageError


def test_any_name_and_dtype_comes_back(tmp_path):
    grid, nothing = np.arange(6, dtype=np.int8).reshape(2, 3), np.zeros((0, 2), np.float16)
    arrays = {"a/b:c": grid, "": np.float64(1.5), "é": nothing}
    save_arrays(tmp_path / "x.npz", arrays)
    found = load_arrays(tmp_path / "x.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == np.asarray(array).dtype and np.array_equal(found[name], array)


def test_equal_arrays_give_equal_bytes(tmp_path):
    for name in ("one.npz", "two.npz"):
        save_arrays(tmp_path / name, {"x": np.arange(5)})
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_pickled_objects_are_refused(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="cannot read the input file"):
        load_inputs([f"x:{tmp_path / 'evil.npy'}"])


def test_inputs_come_from_single_files_or_from_one(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3))
    np.savez(tmp_path / "both.npz", y=np.arange(2), z=np.arange(4))
    found = load_inputs([f"x:{tmp_path / 'x.npy'}", str(tmp_path / "both.npz")])
    assert {name: array.size for name, array in found.items()} == {"x": 3, "y": 2, "z": 4}
