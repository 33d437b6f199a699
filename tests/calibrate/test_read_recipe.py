import re
import shutil
import sys

import pytest

from hwc.calibrate import read_recipe as module
from hwc.calibrate.read_recipe import read_recipe, recipe_from_dict, recipe_names
from hwc.errors import UsageError

HEAD = {"description": "d", "source": "s", "licence": "l"}


def recipe(**tables):
    return recipe_from_dict({**HEAD, **tables}, name="r", where="r.toml")


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_named_in_the_readme(name):
    shipped = read_recipe(name)
    assert shipped.name == name
    folder = next(folder for folder in module._FOLDERS if (folder / f"{name}.toml").is_file())
    assert f"`{name}`" in (folder / "README.md").read_text()


def test_the_promised_recipes_are_there():
    assert {"imagenet_lite", "imagenet_torchvision", "gray_crnn", "mtcnn_faces"} <= set(recipe_names())


def test_the_readme_s_example_is_a_valid_recipe(tmp_path):
    text = (module._FOLDERS[0] / "README.md").read_text()
    (tmp_path / "mine.toml").write_text(re.search(r"```toml\n(.*?)```", text, re.S)[1])
    mine = read_recipe(str(tmp_path / "mine.toml"))
    assert mine.preprocess.std == (128.0, 128.0, 128.0) and mine.expect.range == (-1.0, 1.0) and mine.count == 500


def test_values():
    lite = read_recipe("imagenet_lite")
    assert lite.preprocess.resize_short_side == 256 and lite.preprocess.center_crop == (224, 224)
    assert lite.preprocess.value_range == (-127 / 128, 1.0)
    assert lite.labels.origin == "suffix" and lite.labels.classes == 1000
    assert read_recipe("gray_crnn").preprocess.value_range == (-1.0, 1.0)
    assert read_recipe("crepe_frames").preprocess is None


@pytest.mark.parametrize(
    ("tables", "word"),
    [
        ({"preproces": {}}, "preproces"),
        ({"preprocess": {"color": "rgb", "crop": 3}}, "'crop'"),
        ({"preprocess": {"color": "grey"}}, "'color'"),
        ({"preprocess": {"interpolation": "cubic"}}, "'interpolation'"),
        ({"preprocess": {"layout": "CHW"}}, "'layout'"),
        ({"preprocess": {"mean": [1.0, 2.0]}}, "'mean'"),
        ({"preprocess": {"mean": float("nan")}}, "'mean'"),
        ({"preprocess": {"mean": True}}, "'mean'"),
        ({"preprocess": {"std": 0}}, "'std'"),
        ({"preprocess": {"divide_by": -1}}, "'divide_by'"),
        ({"preprocess": {"dtype": "uint8", "mean": 127}}, "'dtype'"),
        ({"preprocess": {"resize_to": [1, 2, 3]}}, "'resize_to'"),
        ({"preprocess": {"resize_to": 8, "resize_short_side": 8}}, "'resize_to'"),
        ({"preprocess": {"resize_short_side": 0}}, "'resize_short_side'"),
        ({"preprocess": {"center_crop": "model"}}, "'center_crop'"),
        ({"preprocess": 3}, "table"),
        ({"expect": {"range": [1, 0]}}, "'range'"),
        ({"expect": {"mean": 1}}, "'mean'"),
        ({"expect": {"max": 1}}, "'max'"),
        ({"labels": {"from": "name"}}, "'from'"),
        ({"labels": {"names": ["a", "a"]}}, "'names'"),
        ({"labels": {"names": ["a", "b"], "classes": 3}}, "'classes'"),
        ({"count": -1}, "'count'"),
        ({"licence": " "}, "'licence'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tables, word):
    with pytest.raises(UsageError, match=word):
        recipe(**tables)


def test_a_near_miss_is_suggested():
    with pytest.raises(UsageError, match="did you mean 'preprocess'"):
        recipe(preproces={})
    with pytest.raises(UsageError, match="imagenet_lite"):
        read_recipe("imagenet_light")


def test_paths(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        read_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(UsageError, match="not TOML"):
        read_recipe(str(tmp_path / "bad.toml"))


def test_an_installed_hwc_finds_its_recipes(tmp_path, monkeypatch):
    shutil.copytree(module._FOLDERS[0], tmp_path / "share" / "hwc" / "calibration")
    monkeypatch.setattr(module, "_FOLDERS", (tmp_path / "absent", tmp_path / "share" / "hwc" / "calibration"))
    assert read_recipe("imagenet_lite").name == "imagenet_lite"
    assert str(sys.prefix) not in str(module._FOLDERS)


def test_the_content_digest_is_of_what_changes_the_data():
    plain = recipe(preprocess={"mean": 1.0})
    assert plain.content_digest == recipe_from_dict(
        {**HEAD, "description": "other", "preprocess": {"mean": 1}}, name="x", where=""
    ).content_digest
    assert plain.content_digest != recipe(preprocess={"mean": 2.0}).content_digest
    assert plain.content_digest != recipe(preprocess={"mean": 1.0}, labels={"from": "stem"}).content_digest
