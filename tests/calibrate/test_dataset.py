import tracemalloc

import numpy as np
import pytest

from hwc.artifacts import DynamicDim, TensorSpec
from hwc.calibrate.dataset import open_dataset, same_samples
from hwc.calibrate.read_recipe import recipe_from_dict
from hwc.errors import UsageError
from tests.calibrate.photos import write_photos

SPEC = TensorSpec("x", "float32", (1, 3, 8, 8))
HEAD = {"description": "d", "source": "s", "licence": "l"}


def recipe(**prep):
    data = {**HEAD, "preprocess": {"resize_to": "input", **prep}, "labels": {"from": "stem"}}
    return recipe_from_dict(data, name="r", where="")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "photos", 20, height=12, width=12)


def images(source, **more):
    return open_dataset(str(source), **{"inputs": (SPEC,), "recipe": recipe(), **more})


def names(dataset):
    return [sample.name for sample in dataset]


def arrays(path, save=np.savez, **content):
    save(path, **content)
    return str(path)


# ---- folders, order and selection


def test_a_folder_gives_the_same_samples_again(photos):
    dataset = images(photos)
    first, second = list(dataset), list(dataset)
    assert len(dataset) == len(first) == 20
    for a, b in zip(first, second):
        assert a.name == b.name and a.label == b.label == int(a.name[:4]) and a.labels == ()
        assert a.feeds["x"].shape == (1, 3, 8, 8) and np.array_equal(a.feeds["x"], b.feeds["x"])
    assert sorted(names(dataset)) == [f"{i:04d}.png" for i in range(20)] != names(dataset)


def test_it_goes_on_from_the_middle(photos):
    dataset = images(photos)
    assert [s.name for s in dataset.samples(13)] == names(dataset)[13:]
    assert list(dataset.samples(20)) == []


def test_slices_share_nothing_and_limits_take_a_prefix(photos):
    every = names(images(photos))
    head, tail = images(f"{photos}@0:12"), images(f"{photos}@12:")
    assert names(head) == every[:12] and names(tail) == every[12:]
    assert same_samples(head, tail) == ()
    assert names(images(photos, limit=5)) == every[:5]
    assert names(images(photos, limit=5, offset=3)) == every[3:8]
    assert names(images(f"{photos}@:12", limit=5)) == every[:12]  # an end counts, a limit is for those without
    assert names(images(f"{photos}@12:", limit=5)) == every[12:17]
    assert names(images(photos, seed=1)) != every and sorted(names(images(photos, seed=1))) == sorted(every)


def test_a_new_file_moves_no_other(photos, tmp_path):
    bigger = write_photos(tmp_path / "bigger", 25, height=12, width=12)
    order = names(images(bigger))
    assert [name for name in order if int(name[:4]) < 20] == names(images(photos))


@pytest.mark.parametrize("part", ["@20:", "@0:21", "@5:5", "@7:3"])
def test_a_slice_past_the_end_is_refused(photos, part):
    with pytest.raises(UsageError, match="slice"):
        images(f"{photos}{part}")


def test_a_path_with_a_slice_s_name_wins(tmp_path):
    folder = write_photos(tmp_path / "photos@0:2", 3, height=8, width=8)
    assert len(images(folder)) == 3


def test_pattern(photos):
    assert sorted(names(images(photos / "000[1-3].png"))) == ["0001.png", "0002.png", "0003.png"]


def test_digest(photos, tmp_path):
    digest = images(photos).digest
    assert digest == images(photos).digest and len(digest) == 64
    copy = write_photos(tmp_path / "copy", 20, height=12, width=12)
    assert images(copy).digest == digest  # content, not place
    others = [images(photos, limit=19), images(photos, seed=1), images(photos, recipe=recipe(mean=1.0)),
              images(photos, inputs=(TensorSpec("x", "float32", (1, 3, 9, 9)),))]  # fmt: skip
    (copy / "0003.png").write_bytes((copy / "0004.png").read_bytes())
    assert len({digest, images(copy).digest, *(other.digest for other in others)}) == 6


def test_same_samples(photos, tmp_path):
    twin = tmp_path / "twin"
    twin.mkdir()
    (twin / "other_name.png").write_bytes((photos / "0007.png").read_bytes())
    assert same_samples(images(photos), images(twin)) == (("0007.png", "other_name.png"),)
    fed = next(sample for sample in images(photos) if sample.name == "0005.png").feeds["x"]
    for stack in (fed, fed[None]):  # one element, or one whole input
        file = arrays(tmp_path / "a.npz", x=stack)
        assert same_samples(images(photos), images(file)) == (("0005.png", "a.npz[0]"),)


def test_folders_need_a_recipe_and_one_input(photos):
    with pytest.raises(UsageError, match="needs a recipe"):
        images(photos, recipe=None)
    with pytest.raises(UsageError, match="2"):
        images(photos, inputs=(SPEC, TensorSpec("y", "float32", (1, 1))))


@pytest.mark.parametrize("source", ["nowhere", "nowhere/*.png", "x.py:f", "@:3"])
def test_no_data(source):
    with pytest.raises(UsageError, match="no data"):
        images(source)


def test_a_file_of_no_known_kind(tmp_path):
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(UsageError, match="suffix"):
        images(tmp_path / "data.csv")
    with pytest.raises(UsageError, match="limit"):
        images(tmp_path, limit=0)


def test_describe(photos):
    text = images(f"{photos}@5:17").describe()
    assert "12 samples" in text and "12 of 20" in text and "recipe r" in text


# ---- arrays


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_with_labels(tmp_path, save, order):
    x = np.asarray(np.random.default_rng(0).normal(size=(9, 3, 8, 8)).astype(np.float32), order=order)
    dataset = open_dataset(arrays(tmp_path / "a.npz", save, x=x, labels=np.arange(9)), inputs=(SPEC,))
    samples = list(dataset)
    assert len(dataset) == 9 and sorted(sample.label for sample in samples) == list(range(9))
    for sample in samples:
        assert np.array_equal(sample.feeds["x"], x[sample.label][None]) and sample.name == f"a.npz[{sample.label}]"
        assert not isinstance(sample.feeds["x"], np.memmap)


def test_npz_of_several_inputs_some_without_batch_axis(tmp_path):
    shapes = {"ids": (1, 6), "state": (2, 1, 4), "rate": ()}
    specs = tuple(TensorSpec(name, "int64", shape) for name, shape in shapes.items())
    content = {"ids": np.arange(18).reshape(3, 6), "state": np.ones((3, 2, 1, 4), int), "rate": np.array([8, 8, 8])}
    (sample,) = open_dataset(arrays(tmp_path / "a.npz", **content), inputs=specs, limit=1)
    assert {name: array.shape for name, array in sample.feeds.items()} == shapes


def test_npy_and_positional_npz(tmp_path):
    x = np.zeros((4, 3, 8, 8), np.float32)
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", x)
    for file in ("a.npy", "b.npz"):
        assert len(open_dataset(str(tmp_path / file), inputs=(SPEC,))) == 4
    with pytest.raises(UsageError, match="feeds one input"):
        open_dataset(str(tmp_path / "a.npy"), inputs=(SPEC, TensorSpec("y", "float32", (1,))))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"y": np.zeros((4, 3, 8, 8))}, "no array for input 'x'"),
        ({"x": np.zeros((4, 3, 8, 8)), "z": np.zeros(4)}, "belongs to no input"),
        ({"x": np.zeros((4, 3, 8, 8)), "labels": np.zeros(3, int)}, "different numbers"),
        ({"x": np.zeros((4, 3, 8, 8)), "labels": np.zeros(4)}, "one class index"),
        ({"x": np.zeros((0, 3, 8, 8))}, "or none"),
        ({"x": np.float32(3)}, "or none"),
        ({"x": np.array([{}, {}], object)}, "cannot read"),
        ({"x": np.array(["a", "b"])}, "cannot read"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, content, word):
    with pytest.raises(UsageError, match=word):
        open_dataset(arrays(tmp_path / "a.npz", **content), inputs=(SPEC,))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_cut_or_hostile_file(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, x=np.random.default_rng(0).normal(size=(4, 3, 8, 8)))
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    cuts = [whole[:n] for n in (0, 3, 100, len(whole) // 2, len(whole) - 3)]
    noise = []
    for _ in range(60):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        noise.append(bytes(data))
    for bad in (*cuts, *noise):
        path.write_bytes(bad)
        try:
            for _ in open_dataset(str(path), inputs=(SPEC,)):
                pass
        except UsageError as error:
            assert "a.npz" in str(error)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_samples(tmp_path, save):
    x = np.zeros((60, 3, 100, 100), np.float32)  # 7 MB
    dataset_file = arrays(tmp_path / "a.npz", save, x=x)
    spec = TensorSpec("x", "float32", (1, 3, 100, 100))
    tracemalloc.start()
    for sample in open_dataset(dataset_file, inputs=(spec,)):
        assert sample.feeds["x"].nbytes == 120_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


# ---- batches


def test_a_fixed_batch_groups_samples_and_says_so(photos):
    dataset = images(photos, inputs=(TensorSpec("x", "float32", (3, 3, 8, 8)),))
    samples = list(dataset)
    assert len(dataset) == len(samples) == 6 and "batch of 3, the last 2 left out" in dataset.describe()
    singles = list(images(photos))
    assert samples[1].label is None and samples[1].labels == tuple(sample.label for sample in singles[3:6])
    assert np.array_equal(samples[1].feeds["x"], np.concatenate([sample.feeds["x"] for sample in singles[3:6]]))
    assert [s.name for s in dataset.samples(4)] == [s.name for s in samples[4:]]
    with pytest.raises(UsageError, match="one batch"):
        images(photos, inputs=(TensorSpec("x", "float32", (21, 3, 8, 8)),))


def test_a_dynamic_batch_is_one(photos):
    (sample,) = images(photos, inputs=(TensorSpec("x", "float32", (DynamicDim(1, 4, 8), 3, 8, 8)),), limit=1)
    assert sample.feeds["x"].shape == (1, 3, 8, 8)
    sample = next(iter(images(photos, inputs=(TensorSpec("x", "float32", (DynamicDim(2, 4, 8), 3, 8, 8)),))))
    assert sample.feeds["x"].shape == (2, 3, 8, 8)


def test_inputs_that_share_no_batch_axis(tmp_path):
    specs = (TensorSpec("a", "float32", (2, 4)), TensorSpec("b", "float32", (3, 4)))
    file = arrays(tmp_path / "a.npz", a=np.zeros((6, 4)), b=np.zeros((6, 4)))
    with pytest.raises(UsageError, match="batch axis"):
        open_dataset(file, inputs=specs)


# ---- generators


def generator(tmp_path, body, name="make"):
    path = tmp_path / "feeds.py"
    path.write_text(f"import numpy as np\nX = np.zeros((3, 8, 8), np.float32)\nSTATE = []\ndef {name}():\n{body}\n")
    return f"{path}:{name}"


BODIES = {
    "arrays": "    return [X + i for i in range(5)]",
    "whole arrays": "    for i in range(5): yield X[None] + i",
    "dicts": "    for i in range(5): yield {'x': X + i}",
    "pairs": "    for i in range(5): yield {'x': X + i}, i",
    "array and label": "    for i in range(5): print('noise'); yield X + i, np.int64(i)",
}


@pytest.mark.parametrize("kind", BODIES)
def test_generator(tmp_path, kind, capsys):
    dataset = open_dataset(generator(tmp_path, BODIES[kind]), inputs=(SPEC,))
    for samples in (list(dataset), list(dataset)):
        assert [float(sample.feeds["x"].max()) for sample in samples] == [0, 1, 2, 3, 4]
        assert all(sample.feeds["x"].shape == (1, 3, 8, 8) for sample in samples)
        labels = list(range(5)) if kind in ("pairs", "array and label") else [None] * 5
        assert [sample.label for sample in samples] == labels
    assert len(dataset) == 5 and samples[2].name == "feeds.py:make[2]"
    assert capsys.readouterr().out == ""


def test_generator_slices_limits_and_goes_on(tmp_path):
    source = generator(tmp_path, "    i = 0\n    while True: yield X + i; i += 1")  # without end
    def values(dataset):
        return [float(sample.feeds["x"].max()) for sample in dataset]
    assert values(open_dataset(source, inputs=(SPEC,), limit=3)) == [0, 1, 2]
    tail = open_dataset(f"{source}@3:7", inputs=(SPEC,))
    assert values(tail) == [3, 4, 5, 6] and values(tail.samples(2)) == [5, 6] and len(tail) == 4
    head = open_dataset(f"{source}@0:3", inputs=(SPEC,))
    assert same_samples(head, tail) == () and len(same_samples(head, head)) == 3
    assert head.digest == open_dataset(source, inputs=(SPEC,), limit=3).digest != tail.digest
    short = open_dataset(generator(tmp_path, "    yield X") + "@0:2", inputs=(SPEC,))
    with pytest.raises(UsageError, match="past the samples"):
        list(short)


def test_a_generator_that_changes_is_caught(tmp_path):
    source = generator(tmp_path, "    STATE.append(1)\n    for i in range(3): yield X + i + 10 * len(STATE)")
    dataset = open_dataset(source, inputs=(SPEC,))
    assert sum(1 for _ in dataset) == 3
    with pytest.raises(UsageError, match="other samples in each pass"):
        for _ in dataset:
            pass


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("    yield X\n    yield X\n    1 / 0", r"at sample 2[\s\S]*feeds.py:7[\s\S]*ZeroDivisionError"),
        ("    1 / 0", "ZeroDivisionError"),
        ("    return 3", "before its first sample"),
        ("    yield {'y': X}", r"a dict with x[\s\S]*a dict with y"),
        ("    yield X, 'cat'", "something else than a sample"),
        ("    yield X, True", "something else than a sample"),
        ("    yield {'x': 'cat'}", "no numbers for 'x'"),
        ("    yield {'x': [[1], [1, 2]]}", "ValueError"),
        ("    return []", "there is no sample"),
    ],
)
def test_a_fault_in_the_user_s_code_is_a_usage_error(tmp_path, body, word):
    with pytest.raises(UsageError, match=word):
        list(open_dataset(generator(tmp_path, body), inputs=(SPEC,)))


def test_a_file_without_that_function(tmp_path):
    source = generator(tmp_path, "    yield X")
    with pytest.raises(UsageError, match="no function 'other'"):
        open_dataset(source.replace(":make", ":other"), inputs=(SPEC,))
    (tmp_path / "feeds.py").write_text("raise ValueError('no')")
    with pytest.raises(UsageError, match="while it was read"):
        open_dataset(source, inputs=(SPEC,))
