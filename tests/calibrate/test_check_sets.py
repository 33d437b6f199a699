"""Two sets of one kind are alike; preprocessing that differs is seen in the first few samples of each."""

import numpy as np
import pytest

from hwc.artifacts import TensorSpec
from hwc.calibrate.check_sets import check_likeness
from hwc.calibrate.dataset import open_dataset

IMAGE = TensorSpec("image", "float32", (1, 3, 8, 8))
IDS = TensorSpec("ids", "int64", (1, 4))


def draw(seed, count=40):
    return np.random.default_rng(seed).normal(0.1, 1.0, (count, 3, 8, 8))


def dataset(folder, name, inputs=(IMAGE,), **arrays):
    types = {spec.name: spec.dtype for spec in inputs}
    np.savez(folder / name, **{key: np.asarray(array, types[key]) for key, array in arrays.items()})
    return open_dataset(str(folder / name), inputs=inputs, limit=None)


def likeness(folder, first, second):
    return check_likeness(dataset(folder, "a.npz", image=first), dataset(folder, "b.npz", image=second))


@pytest.mark.parametrize("seed", range(5))
def test_two_draws_of_one_kind_are_alike(tmp_path, seed):
    assert likeness(tmp_path, draw(seed), draw(seed + 100)) == ()


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x * 255, lambda x: x / 255, lambda x: x * 2, lambda x: x / 1.7, lambda x: x + 1, lambda x: x - 1,
        lambda x: np.clip(np.rint(x * 57 + 124), 0, 255), np.zeros_like,
    ],
)  # fmt: skip
def test_another_scale_or_origin_is_named_from_either_side(tmp_path, fault):
    for first, second in ((draw(1), fault(draw(2))), (fault(draw(1)), draw(2))):
        (finding,) = likeness(tmp_path, first, second)
        assert (finding.kind, finding.severity) == ("unlike", "warning") and "'image'" in finding.message
        assert finding.got.endswith("(calibration)") and finding.expected.endswith("(validation)")


def test_the_figures_are_those_of_each_set(tmp_path):
    (finding,) = likeness(tmp_path, np.full((3, 3, 8, 8), 2.0), np.full((3, 3, 8, 8), 5.0))
    assert finding.got == "2..2, mean 2, deviation 0 (calibration)"
    assert finding.expected == "5..5, mean 5, deviation 0 (validation)"


def test_only_the_first_samples_are_read(tmp_path):
    read = []

    class Endless:
        def __iter__(self):
            for sample in dataset(tmp_path, "c.npz", image=draw(3)):
                read.append(sample.name)
                yield sample

    check_likeness(Endless(), Endless())
    assert len(read) == 2 * 32


def test_indices_have_no_scale_and_each_input_is_judged_alone(tmp_path):
    inputs = (IMAGE, IDS)
    small = dataset(tmp_path, "a.npz", inputs, image=draw(1), ids=np.zeros((40, 4)))
    large = dataset(tmp_path, "b.npz", inputs, image=draw(2), ids=np.full((40, 4), 9))
    assert check_likeness(small, large) == ()


def test_samples_that_are_not_finite_are_left_to_the_check_of_values(tmp_path):
    broken = draw(1)
    broken[0, 0, 0, 0] = np.inf
    assert likeness(tmp_path, broken, draw(2)) == ()
    assert likeness(tmp_path, np.full_like(broken, np.nan), draw(2)) == ()
    assert likeness(tmp_path, draw(2), np.full_like(broken, np.nan)) == ()
