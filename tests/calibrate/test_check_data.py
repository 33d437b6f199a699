"""Each fault is made on purpose, in data that are clean otherwise, and only that fault may be found."""

import dataclasses

import numpy as np
import pytest

from hwc.artifacts import DynamicDim, TensorSpec
from hwc.calibrate.check_data import LEAST_SAMPLES, DataChecker, check_dataset
from hwc.calibrate.check_sets import check_identity, check_overlap
from hwc.calibrate.dataset import Sample, open_dataset
from hwc.calibrate.finding import refuse_errors
from hwc.calibrate.read_recipe import read_recipe, recipe_from_dict
from hwc.errors import UsageError
from tests.calibrate.photos import make_photo, write_photos

COUNT = 24
SPEC = TensorSpec("x", "float32", (1, 3, 64, 64))
RECIPES = ("imagenet_lite", "imagenet_torchvision", "rgb_plus_minus_one", "mtcnn_faces")
PIXELS = [np.float32(make_photo(seed, 64, 64)) for seed in range(COUNT)]


def normalized(pixels, recipe):
    prep = recipe.preprocess
    return ((pixels / prep.divide_by - np.array(prep.mean)) / np.array(prep.std)).astype(np.float32)


def check(arrays, recipe="imagenet_lite", spec=SPEC, *, least=COUNT, labels=None, **more):
    """Findings on arrays without batch axis."""
    recipe = read_recipe(recipe) if isinstance(recipe, str) else recipe
    checker = DataChecker((spec,), recipe, least=least, **more)
    for number, array in enumerate(arrays):
        checker.observe(Sample({spec.name: array[None]}, labels[number] if labels else None, f"s{number}"))
    return checker.findings()


def kinds(findings):
    return [(finding.kind, finding.severity) for finding in findings]


def clean(recipe="imagenet_lite", count=COUNT):
    return [normalized(p, read_recipe(recipe)).transpose(2, 0, 1) for p in PIXELS[:count]]


@pytest.mark.parametrize("recipe", RECIPES)
def test_clean_data_are_clean(recipe):
    assert check(clean(recipe), recipe) == ()


def test_clean_data_through_the_whole_path(tmp_path):
    folder = write_photos(tmp_path / "p", COUNT, "{:03d}.png", height=260, width=300)
    spec = TensorSpec("x", "float32", (1, 3, 224, 224))
    dataset = open_dataset(str(folder), inputs=(spec,), recipe=read_recipe("imagenet_lite"))
    assert check_dataset(dataset, least=COUNT, need_labels=True) == ()


def test_other_kinds_of_clean_input():
    tokens = TensorSpec("ids", "int64", (1, 8))
    assert check([np.arange(8) + i for i in range(COUNT)], None, tokens) == ()
    frames = TensorSpec("x", "float32", (1, 1024))
    rng = np.random.default_rng(0)
    assert check(rng.normal(size=(COUNT, 1024)).astype(np.float32), "crepe_frames", frames) == ()
    small = TensorSpec("x", "float32", (1, 8, 8, 8))
    assert check([volume(seed) for seed in range(COUNT)], None, small) == ()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("not-normalised", lambda p, r: p),
        ("only-divided", lambda p, r: p / 255),
        ("normalised-twice", lambda p, r: normalized(normalized(p, r), r)),
        ("divided-twice", lambda p, r: normalized(p / 255, r)),
        ("not-scaled", lambda p, r: p / r.preprocess.divide_by - np.array(r.preprocess.mean)),
        ("not-divided", lambda p, r: (p - np.array(r.preprocess.mean)) / np.array(r.preprocess.std)),
        ("other-normalisation", lambda p, r: normalized(p, read_recipe("imagenet_torchvision"))),
        ("other-normalisation", lambda p, r: p / 127.5 - 1),
    ],
)
def test_each_wrong_normalisation_is_told_apart(recipe, kind, fault):
    arrays = [fault(p, read_recipe(recipe)).astype(np.float32).transpose(2, 0, 1) for p in PIXELS]
    is_right = all(np.allclose(a, b, atol=0.05) for a, b in zip(arrays, clean(recipe)))
    assert kinds(check(arrays, recipe)) == ([] if is_right else [(kind, "error")])


def test_the_finding_carries_its_evidence():
    (finding,) = check([p.transpose(2, 0, 1) / 255 for p in PIXELS])
    assert "divided by 255" in finding.message and "(pixel / 1 - 127) / 128" in finding.expected
    assert finding.got.startswith("0..1, mean 0.") and finding.do
    assert all(isinstance(value, str) and value for value in dataclasses.asdict(finding).values())


def test_values_that_no_map_explains():
    assert kinds(check([a * 40 for a in clean()])) == [("range", "error")]
    assert kinds(check([a * 0.1 for a in clean()])) == [("low-contrast", "warning")]
    assert check([a * 1.05 for a in clean()]) == ()  # overshoot of interpolation
    assert check([a * 0.4 - 0.5 for a in clean()]) == ()  # dark pictures are no mistake


def test_expect_has_the_last_word():
    data = {"description": "d", "source": "s", "licence": "l", "preprocess": {"mean": 127.0, "std": 128.0}}

    def stated(**expect):
        return recipe_from_dict({**data, "expect": expect}, name="r", where="")

    divided = [p.transpose(2, 0, 1) / 255 for p in PIXELS]
    assert kinds(check(divided, stated())) == [("only-divided", "error")]
    assert check(divided, stated(range=[0, 1], mean=[0.2, 0.8])) == ()
    assert kinds(check(clean(), stated(mean=[0.5, 1]))) == [("mean", "error")]
    assert kinds(check(clean(), stated(std=[0, 0.01]))) == [("std", "error")]
    assert kinds(check(clean(), stated(range=[-0.5, 1]))) == [("range", "error")]


def test_frames_without_their_normalisation():
    spec = TensorSpec("x", "float32", (1, 1024))
    frames = np.random.default_rng(0).normal(size=(COUNT, 1024)).astype(np.float32)
    assert kinds(check(frames * 0.1, "crepe_frames", spec)) == [("std", "error")]
    assert kinds(check(frames + 1, "crepe_frames", spec)) == [("mean", "error")]
    assert kinds(check(frames * 99, "crepe_frames", spec)) == [("range", "error")]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_names_sample_and_input(value):
    arrays = clean()
    arrays[7] = arrays[7].copy()
    arrays[7][1, 2, 3] = value
    (finding,) = check(arrays)
    assert kinds([finding]) == [("not-finite", "error")] and "'x'" in finding.message
    assert "s7" in finding.got and ("1 NaN" if np.isnan(value) else "1 infinities") in finding.got


def test_constant_samples():
    grey = [np.full((3, 64, 64), i / 100, np.float32) for i in range(COUNT)]
    assert kinds(check(grey)) == [("constant", "error")]
    (finding,) = check([*clean()[:-1], grey[3]])
    assert kinds([finding]) == [("constant", "warning")] and "1 of 24: s23" in finding.got
    assert check([np.full(8, 3 + i) for i in range(COUNT)], None, TensorSpec("ids", "int64", (1, 8))) == ()


def test_one_dead_input_of_two_is_a_warning():
    specs = (TensorSpec("a", "float32", (1, 4)), TensorSpec("state", "float32", (1, 4)))
    checker = DataChecker(specs, least=2)
    for i in range(2):
        feeds = {"a": np.arange(4, dtype=np.float32)[None] + i, "state": np.zeros((1, 4), np.float32)}
        checker.observe(Sample(feeds, None, f"s{i}"))
    assert kinds(checker.findings()) == [("constant", "warning")]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("dtype", lambda a: a.astype(np.float64)),
        ("rank", lambda a: a[None]),
        ("rank", lambda a: a[0]),
        ("shape", lambda a: a[:, :60]),
        ("shape", lambda a: a[:2]),
        ("layout", lambda a: a.transpose(1, 2, 0)),
    ],
)
def test_what_no_engine_takes(kind, change):
    recipe = read_recipe("imagenet_lite")
    checker = DataChecker((SPEC,), recipe, least=COUNT)
    for number, array in enumerate(clean()):
        checker.observe(Sample({"x": change(array)[None]}, None, f"s{number}"))
    (finding,) = checker.findings()
    assert kinds([finding]) == [(kind, "error")] and checker.unusable.kind == kind
    assert "s0" in finding.got and "in 24 of 24 samples" in finding.got


def test_an_input_that_is_not_fed():
    checker = DataChecker((SPEC,), least=1)
    checker.observe(Sample({"y": np.zeros(3)}, None, "s"))
    assert kinds(checker.findings()) == [("inputs", "error")] and checker.unusable


def test_layout_of_a_channels_last_model():
    spec = TensorSpec("x", "float32", (DynamicDim(1, 1, 8), 64, 64, 3))
    recipe = read_recipe("imagenet_lite")
    recipe = dataclasses.replace(recipe, preprocess=dataclasses.replace(recipe.preprocess, layout="NHWC"))
    assert check([a.transpose(1, 2, 0) for a in clean()], recipe, spec) == ()
    (finding,) = check(clean(), recipe, spec)
    assert kinds([finding]) == [("layout", "error")] and "channels first" in finding.message


def test_a_recipe_of_the_other_layout_is_found_by_the_shape():
    spec = TensorSpec("x", "float32", (1, 64, 64, 3))
    assert kinds(check(clean(), "imagenet_lite", spec)) == [("layout", "error")]
    assert check([a.transpose(1, 2, 0) for a in clean()], "imagenet_lite", spec) == ()


@pytest.mark.parametrize("is_grey", [False, True])
def test_a_reshape_in_place_of_a_transpose(is_grey):
    pixels = [np.repeat(p[..., :1], 3, 2) if is_grey else p for p in PIXELS]
    arrays = [normalized(p, read_recipe("imagenet_lite")) for p in pixels]
    (finding,) = check([a.reshape(3, 64, 64) for a in arrays])
    assert kinds([finding]) == [("layout", "error")] and "interleaved" in finding.message
    assert check([a.transpose(2, 0, 1) for a in arrays]) == ()


def volume(seed):
    """8 independent smooth maps of 8x8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:8, :8] / 8
    a, b, c = rng.normal(size=(3, 8, 1, 1))
    return (a + b * y + c * x).astype(np.float32) * 2


def test_swapped_axes_where_the_shape_fits_both():
    spec = TensorSpec("x", "float32", (1, 8, 8, 8))
    (finding,) = check([volume(seed).transpose(1, 2, 0) for seed in range(COUNT)], None, spec)
    assert kinds([finding]) == [("layout", "error")] and "fits both" in finding.message


def test_red_and_blue_swapped_is_a_hint():
    photos = [make_photo(seed, 64, 64) for seed in range(60)]
    arrays = [normalized(p, read_recipe("imagenet_lite")).transpose(2, 0, 1) for p in photos]
    assert check(arrays) == ()
    (finding,) = check([a[::-1] for a in arrays])
    assert kinds([finding]) == [("channel-order", "warning")] and "of 60 samples" in finding.got
    assert check([a[::-1] for a in arrays[:49]]) == ()  # too few to say
    recipe = read_recipe("imagenet_lite")
    bgr = dataclasses.replace(recipe, preprocess=dataclasses.replace(recipe.preprocess, color="bgr"))
    assert check([a[::-1] for a in arrays], bgr) == ()
    assert kinds(check(arrays, bgr)) == [("channel-order", "warning")]


def test_duplicates():
    arrays = clean()
    arrays[3] = arrays[9] = arrays[1]
    (finding,) = check(arrays)
    assert kinds([finding]) == [("duplicates", "warning")] and "2 repeat an earlier one: s3, s9" in finding.got
    assert kinds(check([arrays[0]] * COUNT)) == [("duplicates", "error")]


def test_few_samples():
    assert kinds(check(clean(), least=COUNT + 1)) == [("few-samples", "warning")]
    (finding,) = check(clean(), least=LEAST_SAMPLES)
    assert str(LEAST_SAMPLES) in finding.expected and finding.got == str(COUNT)


def test_labels():
    right = list(range(COUNT))
    assert check(clean(), labels=right, need_labels=True) == ()
    assert check(clean()) == ()  # unlabelled, and nobody asked
    (finding,) = check(clean(), labels=[None, None, *right[2:]], need_labels=True)
    assert kinds([finding]) == [("unlabelled", "error")] and "2 without: s0, s1" in finding.got
    (finding,) = check(clean(), labels=[*right[:-1], 1000], need_labels=True)
    assert kinds([finding]) == [("label-range", "error")] and "1000 of s23" in finding.got
    assert kinds(check(clean(), labels=right, need_labels=True, classes=10)) == [("label-range", "error")]
    assert kinds(check(clean(), labels=[-1, *right[1:]], need_labels=True)) == [("label-range", "error")]


def test_example_inputs_stand_in_for_a_recipe():
    examples = {"x": clean()[0][None]}
    assert check(clean(), None, examples=examples) == ()
    for fault in ([p.transpose(2, 0, 1) for p in PIXELS], [p.transpose(2, 0, 1) / 255 for p in PIXELS]):
        assert kinds(check(fault, None, examples=examples)) == [("example-range", "warning")]
    assert check([p.transpose(2, 0, 1) for p in PIXELS], None) == ()  # nothing to compare with


def test_a_recipe_for_another_kind_of_model():
    with pytest.raises(UsageError, match="1 channels"):
        check(clean(), "gray_crnn")
    with pytest.raises(UsageError, match="for one input"):
        DataChecker((SPEC, dataclasses.replace(SPEC, name="y")), read_recipe("imagenet_lite"))
    with pytest.raises(UsageError, match="for one input"):
        DataChecker((TensorSpec("x", "int64", (1, 4)),), read_recipe("crepe_frames"))


def test_sets(tmp_path):
    folder = write_photos(tmp_path / "p", 6, height=70, width=70)
    recipe = read_recipe("rgb_plus_minus_one")

    def part(text, recipe=recipe):
        return open_dataset(f"{folder}{text}", inputs=(SPEC,), recipe=recipe)

    assert check_overlap(part("@0:3"), part("@3:")) == ()
    (finding,) = check_overlap(part("@0:4"), part("@3:"))
    assert kinds([finding]) == [("overlap", "error")] and finding.got.startswith("1 in both")
    digest = part("").digest
    assert check_identity(part("", dataclasses.replace(recipe, count=6, digest=digest))) == ()
    wrong = part("@0:5", dataclasses.replace(recipe, count=6, digest=digest))
    assert kinds(check_identity(wrong)) == [("count", "warning"), ("digest", "error")]


def test_errors_are_raised_and_warnings_are_not():
    refuse_errors(check(clean(), least=999), "data")
    with pytest.raises(UsageError, match="divided by 255") as caught:
        refuse_errors(check([p.transpose(2, 0, 1) / 255 for p in PIXELS]), "data")
    assert caught.value.where == "data"


def test_findings_may_be_asked_for_at_any_time():
    checker = DataChecker((SPEC,), read_recipe("imagenet_lite"))
    assert kinds(checker.findings()) == [("few-samples", "warning")]


@pytest.mark.suite
def test_the_twenty_photos_of_the_demo_are_clean():
    from benchmarks.fetch import model_dir
    from benchmarks.models.efficientnet_lite0 import prepare_photos

    spec = TensorSpec("inputs", "float32", (1, 3, 224, 224))
    source = str(model_dir("foolbox") / "imagenet_*.jpg")
    dataset = open_dataset(source, inputs=(spec,), recipe=read_recipe("imagenet_lite"))
    assert check_dataset(dataset, least=20, need_labels=True) == ()
    images, labels = prepare_photos()
    for sample, image, label in zip(sorted(dataset, key=lambda s: s.name), images, labels, strict=True):
        assert np.array_equal(sample.feeds["inputs"][0], image) and sample.label == label


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_no_picture_in_the_wrong_layout(seed):
    rng = np.random.default_rng(seed)
    noise = [rng.standard_normal((3, 64, 64)).astype(np.float32) for _ in range(3)]
    assert "layout" not in [finding.kind for finding in check(noise, recipe=None)]
