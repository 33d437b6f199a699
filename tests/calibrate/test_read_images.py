import numpy as np
import pytest
from PIL import Image

from benchmarks.samples import crop_photo, planes
from hwc.artifacts import DynamicDim, TensorSpec
from hwc.calibrate.read_images import ImageFolder, prepare_image
from hwc.calibrate.read_recipe import Labels, Preprocess, read_recipe
from hwc.errors import UsageError
from tests.calibrate.photos import make_photo, write_photos

SPEC = TensorSpec("x", "float32", (1, 3, 224, 224))


def labels_of(folder, labels, pattern=""):
    images = ImageFolder(folder, pattern, Preprocess(), labels, SPEC)
    return {images.name(i): images.label(i) for i in range(len(images))}


@pytest.mark.parametrize("size", [(300, 400), (401, 300), (257, 256), (256, 256), (500, 333)])
def test_lite0_is_equal_to_the_benchmark_s_own_preprocessing(size):
    photo = Image.fromarray(make_photo(1, *size))
    expected = planes(crop_photo(photo, 256, 224), 127.0, 128.0)[0]
    got = prepare_image(photo, read_recipe("imagenet_lite").preprocess, SPEC)
    assert got.dtype == expected.dtype and got.flags.c_contiguous and np.array_equal(got, expected)


def test_grey_recipe_is_equal_to_the_benchmark_s_own():
    grey = make_photo(2, 64, 320)[..., 0]
    spec = TensorSpec("image", "float32", (1, 1, 64, DynamicDim(100, 320, 640)))
    got = prepare_image(Image.fromarray(grey), read_recipe("gray_crnn").preprocess, spec)
    assert np.array_equal(got, (grey / np.float32(127.5) - 1)[None])


SIDES = {(300, 401): (256, 342), (401, 300): (342, 256), (300, 403): (256, 343)}


@pytest.mark.parametrize(("size", "sides"), SIDES.items())
def test_torchvision_rounds_its_own_way(size, sides):
    """torchvision cuts the long side down and rounds the margin half to even; computed here by hand."""
    photo = Image.fromarray(make_photo(3, *size))
    resized = photo.resize((sides[1], sides[0]), Image.Resampling.BILINEAR)
    top, left = round((sides[0] - 224) / 2), round((sides[1] - 224) / 2)
    cut = np.asarray(resized)[top : top + 224, left : left + 224].astype(np.float64) / 255
    expected = (cut - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    got = prepare_image(photo, read_recipe("imagenet_torchvision").preprocess, SPEC)
    assert np.abs(got - expected.transpose(2, 0, 1)).max() < 1e-5


def test_colors_layout_and_dtype():
    photo = Image.fromarray(make_photo(4))
    rgb = prepare_image(photo, Preprocess(dtype="uint8"))
    assert rgb.shape == (3, 80, 96) and rgb.dtype == np.uint8
    assert np.array_equal(prepare_image(photo, Preprocess(dtype="uint8", color="bgr")), rgb[::-1])
    assert np.array_equal(prepare_image(photo, Preprocess(dtype="uint8", layout="NHWC")), rgb.transpose(1, 2, 0))
    bgr = prepare_image(photo, Preprocess(color="bgr", mean=(1.0, 2.0, 3.0)))
    assert np.array_equal(bgr[0], rgb[2] - np.float32(1)) and bgr.dtype == np.float32
    assert prepare_image(photo, Preprocess(dtype="float16")).dtype == np.float16
    assert prepare_image(photo.convert("RGBA"), Preprocess()).shape == (3, 80, 96)
    assert prepare_image(photo.convert("L"), Preprocess()).shape == (3, 80, 96)


def test_what_pillow_would_do_quietly_is_refused():
    with pytest.raises(UsageError, match="larger than the image"):
        prepare_image(Image.fromarray(make_photo(0)), Preprocess(center_crop=(81, 80)))
    with pytest.raises(UsageError, match="8 bits"):
        prepare_image(Image.fromarray(np.zeros((4, 4), np.uint16)), Preprocess())
    with pytest.raises(UsageError, match="input"):
        prepare_image(Image.fromarray(make_photo(0)), Preprocess(resize_to="input"), TensorSpec("x", "float32", (1, 9)))


def test_names_are_sorted_and_hidden_files_left_out(tmp_path):
    write_photos(tmp_path / "b", 2, height=8, width=8)
    write_photos(tmp_path / "a", 1, height=8, width=8)
    write_photos(tmp_path / ".trash", 1, height=8, width=8)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    assert list(labels_of(tmp_path, Labels())) == ["a/0000.png", "b/0000.png", "b/0001.png"]
    assert list(labels_of(tmp_path / "b", Labels(), "*1.png")) == ["0001.png"]
    with pytest.raises(UsageError, match="no image"):
        labels_of(tmp_path / "b", Labels(), "*.jpg")


def test_labels_from_names(tmp_path):
    for name in ("0123.png", "imagenet_00_243.png", "ILSVRC2012_val_00000293.png", "cat.png"):
        Image.fromarray(make_photo(0, 8, 8)).save(tmp_path / name)
    assert labels_of(tmp_path, Labels("stem"))["0123.png"] == 123
    assert labels_of(tmp_path, Labels("stem"))["imagenet_00_243.png"] is None
    assert labels_of(tmp_path, Labels("suffix")) == {
        "0123.png": 123, "imagenet_00_243.png": 243, "cat.png": None,
        "ILSVRC2012_val_00000293.png": None,  # a running number
    }
    assert set(labels_of(tmp_path, Labels()).values()) == {None}


def test_labels_from_folders(tmp_path):
    for folder in ("zebra", "ant"):
        write_photos(tmp_path / folder, 1, height=8, width=8)
    write_photos(tmp_path, 1, height=8, width=8)
    assert labels_of(tmp_path, Labels("folder")) == {"0000.png": None, "ant/0000.png": 0, "zebra/0000.png": 1}
    named = Labels("folder", 2, ("zebra", "bee"))
    assert labels_of(tmp_path, named) == {"0000.png": None, "ant/0000.png": None, "zebra/0000.png": 0}


def test_labels_from_a_table(tmp_path):
    write_photos(tmp_path, 3, height=8, width=8)
    (tmp_path / "labels.csv").write_text("file,label\n0000.png,7\n0002.png, 9\n")
    assert labels_of(tmp_path, Labels("csv")) == {"0000.png": 7, "0001.png": None, "0002.png": 9}
    (tmp_path / "labels.csv").write_text("0000.png,7\n0001.png,cat\n")
    with pytest.raises(UsageError, match="labels.csv:2"):
        labels_of(tmp_path, Labels("csv"))
    with pytest.raises(UsageError, match="cannot be read"):
        labels_of(tmp_path, Labels("csv", file="other.csv"))


def test_a_broken_image_is_named(tmp_path):
    write_photos(tmp_path, 2)
    whole = (tmp_path / "0001.png").read_bytes()
    images = ImageFolder(tmp_path, "", Preprocess(), Labels(), SPEC)
    for bad in (whole[: len(whole) // 2], b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 40):
        (tmp_path / "0001.png").write_bytes(bad)
        with pytest.raises(UsageError, match=r"0001\.png"):
            images.read(1)
    images.read(0)
