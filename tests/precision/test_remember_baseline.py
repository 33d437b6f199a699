"""The model runs once per content of the feeds, whatever the budget, and a damaged file is no answer."""

import logging

import numpy as np
import pytest

from hwc.errors import UsageError
from hwc.precision.remember_baseline import Baseline


def feeds(value):
    return {"x": np.full((1, 4), value, np.float32)}


class Model:
    """Hands out one buffer again and again, as engines do."""

    def __init__(self):
        self.buffer = np.zeros(4, np.float32)

    def __call__(self, given):
        self.buffer[:] = given["x"][0] * 2
        return {"a/b": self.buffer, "n": np.array(7)}


@pytest.mark.parametrize("memory_bytes", [1 << 20, 30, 0])
def test_each_content_runs_once(memory_bytes):
    baseline = Baseline(Model(), memory_bytes=memory_bytes)
    for _ in range(3):
        for value in (1, 2, 3):
            got = baseline(feeds(value))
            np.testing.assert_array_equal(got["a/b"], np.full(4, 2.0 * value, np.float32))
            assert got["n"] == 7 and got["n"].shape == ()
    assert baseline.runs == 3


def test_other_names_dtypes_or_shapes_are_other_feeds():
    baseline = Baseline(lambda given: given)
    for given in ({"x": np.zeros(4, np.float32)}, {"y": np.zeros(4, np.float32)}, {"x": np.zeros(4, np.int32)},
                  {"x": np.zeros((2, 2), np.float32)}, {"x": np.float32(0)}):  # fmt: skip
        baseline({key: np.asarray(value) for key, value in given.items()})
    assert baseline.runs == 5


def test_a_folder_outlives_the_process_under_its_key(tmp_path):
    Baseline(Model(), folder=tmp_path, key="model 1")(feeds(1))
    again = Baseline(Model(), folder=tmp_path, key="model 1")
    assert again(feeds(1))["a/b"][0] == 2 and again.runs == 0
    other = Baseline(Model(), folder=tmp_path, key="model 2")
    other(feeds(1))
    assert other.runs == 1
    with pytest.raises(UsageError, match="digest"):
        Baseline(Model(), folder=tmp_path)


def test_a_damaged_file_is_said_and_computed_again(tmp_path, caplog):
    Baseline(Model(), folder=tmp_path, key="k")(feeds(1))
    (path,) = tmp_path.glob("*.npz")
    for damage in (path.read_bytes()[:50], b"", b"no archive"):
        path.write_bytes(damage)
        baseline = Baseline(Model(), folder=tmp_path, key="k")
        with caplog.at_level(logging.WARNING):
            assert baseline(feeds(1))["a/b"][0] == 2
        assert baseline.runs == 1 and "damaged" in caplog.text
        caplog.clear()
