"""A folder of images as samples: found by name, decoded by Pillow, preprocessed by a recipe, labelled by its rule.

    folder              all images in it and below it, by relative path; hidden ones (".x") are left out
    folder/val_*.jpg    those that fit the pattern, in that folder only

Labels, as the recipe says:
    stem     the name is the class index: 0123.jpg is class 123
    suffix   what follows the last "_", or the whole name if there is none: cat_00_281.png is class 281
    folder   the first folder below the root; its place in `names`, or among the sorted folders
    csv      two columns "file,label" of the table `file` in the root; a header row may stand first
A stem or suffix of more than six digits is a running number (ILSVRC2012_val_00000293.JPEG) and no class: such a sample
has no label, rather than a wrong one.

Limits: EXIF orientation is not applied, as in torchvision and Keras. Alpha is dropped. Images of 16 or 32 bits per
channel are refused, because Pillow would clip them to 255 without a word.
"""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from hwc.artifacts import TensorSpec
from hwc.calibrate.read_recipe import Labels, Preprocess, Size
from hwc.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
_MOST_DIGITS = 6
_EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")


class ImageFolder:
    """The images of a folder, sorted by relative path with "/". Reads one at a time.

    Args:
        root: the folder.
        pattern: a glob within it; "" means everything below it.
        spec: the model's input; one sample is that shape without its first axis, if the recipe fits the model.

    Raises:
        UsageError: no image found, or a label table that cannot be read.
    """

    def __init__(self, root: Path, pattern: str, prep: Preprocess, labels: Labels, spec: TensorSpec) -> None:
        self.root, self.prep, self.labels, self.spec = root, prep, labels, spec
        found = root.glob(pattern) if pattern else root.rglob("*")
        relative = sorted(path.relative_to(root).as_posix() for path in found if path.suffix.lower() in SUFFIXES)
        self.names = [name for name in relative if not any(part.startswith(".") for part in name.split("/"))]
        if not self.names:
            raise UsageError(
                "no image was found", where=str(root / pattern) if pattern else str(root),
                expected="files that end in " + ", ".join(SUFFIXES), do="check the path",
            )  # fmt: skip
        self._label = _label_rule(root, self.names, labels)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def label(self, index: int) -> int | None:
        return self._label(self.names[index])

    def read(self, index: int) -> dict[str, np.ndarray]:
        """One sample, CxHxW or HxWxC as the recipe's layout says.

        Raises:
            UsageError: the file is no image, is cut off, or does not suit the recipe.
        """
        path = self.root / self.names[index]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as image:
                    return {self.spec.name: prepare_image(image, self.prep, self.spec)}
        except UsageError as error:
            raise UsageError(error.what, where=str(path), expected=error.expected, got=error.got, do=error.do) from None
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError,
                Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # fmt: skip
            raise UsageError(
                "an image cannot be decoded", where=str(path), got=str(error).splitlines()[0] if str(error) else "",
                do="replace or remove that file: a sample that is left out without a word would change the scales",
            ) from None

    def digest(self, index: int) -> str:
        """sha256 of the file's bytes."""
        return hashlib.sha256((self.root / self.names[index]).read_bytes()).hexdigest()


def prepare_image(image: Image.Image, prep: Preprocess, spec: TensorSpec | None = None) -> np.ndarray:
    """What the recipe makes of one image, without a batch axis.

    Args:
        spec: the model's input, needed where a size is "input".

    Raises:
        UsageError: more than 8 bits per channel, or a crop larger than the image.
    """
    if image.mode not in _EIGHT_BITS:
        raise UsageError(
            f"an image of mode {image.mode} has more than 8 bits per channel", expected="8 bits",
            got=image.mode, do="convert it, or feed arrays (.npz)",
        )  # fmt: skip
    image = image.convert("L" if prep.color == "gray" else "RGB")
    image = _resize(image, prep, spec)
    if prep.center_crop is not None:
        image = _center_crop(image, prep, spec)
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if prep.color == "bgr":
        pixels = pixels[..., ::-1]
    if prep.dtype != "uint8":
        pixels = normalize(pixels, prep)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if prep.layout == "NCHW" else pixels)


def normalize(pixels: np.ndarray, prep: Preprocess) -> np.ndarray:
    """x = (pixel / divide_by - mean) / std in float32, channels last; steps that change nothing are left out."""
    values = pixels.astype(np.float32)
    if prep.divide_by != 1:
        values = values / np.float32(prep.divide_by)
    values = np.divide(values - np.asarray(prep.mean, np.float32), np.asarray(prep.std, np.float32))
    return values.astype(np.dtype(prep.dtype))


def _resize(image: Image.Image, prep: Preprocess, spec: TensorSpec | None) -> Image.Image:
    method = Image.Resampling[prep.interpolation.upper()]
    if prep.resize_to is not None:
        height, width = _pixels(prep.resize_to, prep, spec)
        return image.resize((width, height), method)
    if prep.resize_short_side is None:
        return image
    short = min(image.size)
    if prep.rounding == "torchvision":
        # Resize(int): the long side is cut down to whole pixels (torchvision, transforms/functional.py,
        # _compute_resized_output_size).
        sides = [prep.resize_short_side if s == short else int(prep.resize_short_side * s / short) for s in image.size]
    else:
        scale = prep.resize_short_side / short
        sides = [round(side * scale) for side in image.size]
    return image.resize((sides[0], sides[1]), method)


def _center_crop(image: Image.Image, prep: Preprocess, spec: TensorSpec | None) -> Image.Image:
    assert prep.center_crop is not None
    height, width = _pixels(prep.center_crop, prep, spec)
    spare_x, spare_y = image.width - width, image.height - height
    if spare_x < 0 or spare_y < 0:
        # Pillow would fill the missing border with black.
        raise UsageError(
            "the crop is larger than the image", expected=f"at least {height}x{width} (height x width) after resizing",
            got=f"{image.height}x{image.width}", do="resize first: resize_short_side in the recipe",
        )  # fmt: skip
    if prep.rounding == "torchvision":
        left, top = round(spare_x / 2), round(spare_y / 2)
    else:
        left, top = spare_x // 2, spare_y // 2
    return image.crop((left, top, left + width, top + height))


def _pixels(size: Size, prep: Preprocess, spec: TensorSpec | None) -> tuple[int, int]:
    if not isinstance(size, str):
        return size
    if spec is None or len(spec.shape) != 4:
        raise UsageError(
            'the recipe says "input" for a size, and the model\'s input is no image',
            expected=f"four dimensions, {prep.layout}", got="unknown" if spec is None else str(spec.shape),
            do="state the size in the recipe",
        )  # fmt: skip
    shape = spec.at("opt")
    return (shape[2], shape[3]) if prep.layout == "NCHW" else (shape[1], shape[2])


def _label_rule(root: Path, names: list[str], labels: Labels) -> Callable[[str], int | None]:
    """The function from a relative path to its class index, or to None."""
    if labels.origin == "none":
        return lambda name: None
    if labels.origin == "stem":
        return lambda name: _index(Path(name).stem)
    if labels.origin == "suffix":
        return lambda name: _index(Path(name).stem.rpartition("_")[2])
    if labels.origin == "csv":
        return _read_table(root / labels.file).get
    folders = list(labels.names) or sorted({name.split("/")[0] for name in names if "/" in name})
    places = {folder: place for place, folder in enumerate(folders)}
    return lambda name: places.get(name.split("/")[0]) if "/" in name else None


def _index(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def _read_table(path: Path) -> dict[str, int]:
    table: dict[str, int] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if not row or (number == 1 and [cell.strip() for cell in row] == ["file", "label"]):
                    continue
                if len(row) != 2 or not row[1].strip().isdecimal():
                    raise UsageError(
                        "a row of the label table makes no sense", where=f"{path}:{number}",
                        expected="file,label with a class index from 0", got=",".join(row)[:80],
                    )  # fmt: skip
                table[row[0].strip()] = int(row[1])
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "the label table cannot be read", where=str(path), got=str(error),
            do='write it, or set another [labels] "from" in the recipe',
        ) from None  # fmt: skip
    return table
