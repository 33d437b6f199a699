"""Reads a calibration recipe: what a folder of images must become before it is fed, and what it should look like then.

    description, source, licence   text; where the data are from and under which terms
    count, digest                  optional: how many samples there are, and `Dataset.digest` of all of them
    [preprocess]                   only for images; in this order:
      resize_short_side = 256        scale until the shorter side is this long, or
      resize_to = [H, W] | "input"   stretch to exactly this size ("input": the size that the model's input has)
      interpolation                  nearest | bilinear | bicubic | lanczos (Pillow's, antialiased when it shrinks)
      rounding                       nearest (default) | torchvision: how odd sizes and margins are rounded
      center_crop = 224 | [H, W] | "input"
      color                          rgb | bgr | gray
      divide_by, mean, std           x = (pixel / divide_by - mean) / std, pixel 0..255; one number or one per channel
      layout                         NCHW | NHWC
      dtype                          float32 | float16 | uint8 (uint8: no arithmetic is allowed)
    [expect]                       optional, on the values as fed: range, mean, std, each [lowest, highest]
    [labels]                       from = none | stem | suffix | folder | csv, classes, names, file (see read_images)

A name is looked up in the data folder that comes with `hwc`: `calibration/` of a checkout, or share/hwc/calibration
of an installed wheel. Anything that ends in .toml or holds a separator is a path. Unknown keys are refused by name.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hwc.errors import UsageError

Size = tuple[int, int] | str  # (height, width) in pixels, or "input"
Interval = tuple[float, float]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
COLORS = ("rgb", "bgr", "gray")
LAYOUTS = ("NCHW", "NHWC")
LABEL_SOURCES = ("none", "stem", "suffix", "folder", "csv")
_FOLDERS = (Path(__file__).parents[2] / "calibration", Path(sys.prefix) / "share" / "hwc" / "calibration")


@dataclass(frozen=True)
class Preprocess:
    """From a decoded photo to one sample; `mean` and `std` hold one number per channel, in the order of `color`."""

    resize_short_side: int | None = None
    resize_to: Size | None = None
    interpolation: str = "bilinear"
    rounding: str = "nearest"
    center_crop: Size | None = None
    color: str = "rgb"
    divide_by: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: str = "NCHW"
    dtype: str = "float32"

    @property
    def channels(self) -> int:
        return 1 if self.color == "gray" else 3

    @property
    def value_range(self) -> Interval:
        """Lowest and highest value that a pixel of 0..255 can become, over all channels."""
        ends = [(p / self.divide_by - m) / s for p in (0.0, 255.0) for m, s in zip(self.mean, self.std)]
        return min(ends), max(ends)


@dataclass(frozen=True)
class Expect:
    """What all samples together should look like as fed; None is "not stated"."""

    range: Interval | None = None
    mean: Interval | None = None
    std: Interval | None = None


@dataclass(frozen=True)
class Labels:
    """Where the class index of a sample comes from. `classes` is their number, 0 if unknown; indices start at 0.

    `names` orders the class folders ("folder"); empty means sorted by name. `file` is the table ("csv").
    """

    origin: str = "none"
    classes: int = 0
    names: tuple[str, ...] = ()
    file: str = "labels.csv"


@dataclass(frozen=True)
class Recipe:
    """A calibration recipe; `preprocess` is None where the arrays come ready to be fed."""

    name: str
    description: str
    source: str
    licence: str
    count: int = 0
    digest: str = ""
    preprocess: Preprocess | None = None
    expect: Expect = field(default_factory=Expect)
    labels: Labels = field(default_factory=Labels)

    @property
    def content_digest(self) -> str:
        """sha256 of all that changes what is fed; a better description does not."""
        parts = [self.preprocess and asdict(self.preprocess), asdict(self.labels)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with `hwc`, sorted."""
    return tuple(sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.toml")}))


def read_recipe(name_or_path: str) -> Recipe:
    """The recipe of that name, or in that file.

    Raises:
        UsageError: no such recipe, not TOML, an unknown key, or a value that makes no sense; names the field.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path or "\\" in name_or_path:
        path = Path(name_or_path)
    else:
        found = [folder / f"{name_or_path}.toml" for folder in _FOLDERS]
        path = next((candidate for candidate in found if candidate.is_file()), Path())
        if path == Path():
            close = difflib.get_close_matches(name_or_path, recipe_names(), n=3, cutoff=0.4)
            raise UsageError(
                f"no calibration recipe is called '{name_or_path}'",
                expected=", ".join(close or recipe_names()) or "a path, for no recipe was installed",
                do="name one of these, or give the path of a .toml file (calibration/README.md says how to write one)",
            )
    try:
        data = _parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path}", got=error.strerror or str(error)) from None
    except ValueError as error:
        raise UsageError(f"{path} is not TOML", got=str(error), do="mend the line it names") from None
    return recipe_from_dict(data, name=path.stem, where=str(path))


def recipe_from_dict(data: Mapping[str, Any], *, name: str, where: str) -> Recipe:
    """The recipe that a parsed file describes.

    Raises:
        UsageError: as `read_recipe`; `where` names the file in messages.
    """
    keys = ("description", "source", "licence", "count", "digest", "preprocess", "expect", "labels")
    top = _Table(data, where, keys)
    prep = data.get("preprocess")
    return Recipe(
        name=name,
        description=top.text("description"),
        source=top.text("source"),
        licence=top.text("licence"),
        count=top.integer("count", 0, least=0) or 0,
        digest=str(data.get("digest", "")),
        preprocess=None if prep is None else _preprocess(prep, f"{where}: [preprocess]"),
        expect=_expect(data.get("expect", {}), f"{where}: [expect]"),
        labels=_labels(data.get("labels", {}), f"{where}: [labels]"),
    )


def _preprocess(data: Any, where: str) -> Preprocess:
    table = _Table(data, where, tuple(Preprocess.__dataclass_fields__))
    color = table.choice("color", COLORS, "rgb")
    channels = 1 if color == "gray" else 3
    prep = Preprocess(
        resize_short_side=table.integer("resize_short_side", None, least=1),
        resize_to=table.size("resize_to"),
        interpolation=table.choice("interpolation", INTERPOLATIONS, "bilinear"),
        rounding=table.choice("rounding", ("nearest", "torchvision"), "nearest"),
        center_crop=table.size("center_crop"),
        color=color,
        divide_by=table.number("divide_by", 1.0),
        mean=table.per_channel("mean", 0.0, channels),
        std=table.per_channel("std", 1.0, channels),
        layout=table.choice("layout", LAYOUTS, "NCHW"),
        dtype=table.choice("dtype", ("float32", "float16", "uint8"), "float32"),
    )
    if prep.resize_short_side is not None and prep.resize_to is not None:
        table.refuse("resize_to", "one of resize_short_side and resize_to", "both")
    if prep.divide_by <= 0:
        table.refuse("divide_by", "a number above 0", repr(prep.divide_by))
    if min(prep.std) <= 0:
        table.refuse("std", "numbers above 0", repr(prep.std))
    if prep.dtype == "uint8" and (prep.divide_by != 1 or any(prep.mean) or set(prep.std) != {1.0}):
        table.refuse("dtype", "float32 or float16 where pixels are normalised", "uint8")
    return prep


def _expect(data: Any, where: str) -> Expect:
    table = _Table(data, where, ("range", "mean", "std"))
    return Expect(range=table.interval("range"), mean=table.interval("mean"), std=table.interval("std"))


def _labels(data: Any, where: str) -> Labels:
    table = _Table(data, where, ("from", "classes", "names", "file"))
    names = data.get("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) != len(names):
        table.refuse("names", "a list of different texts", repr(names)[:80])
    classes = table.integer("classes", 0, least=0) or 0
    if names and classes not in (0, len(names)):
        table.refuse("classes", f"{len(names)}, the number of names", str(classes))
    return Labels(
        origin=table.choice("from", LABEL_SOURCES, "none"),
        classes=classes or len(names),
        names=tuple(names),
        file=str(data.get("file", "labels.csv")),
    )


class _Table:
    """One TOML table, read field by field; every complaint names the field."""

    def __init__(self, data: Any, where: str, keys: tuple[str, ...]) -> None:
        if not isinstance(data, Mapping):
            raise UsageError("a table was expected", where=where, got=repr(data)[:80])
        self.data, self.where = data, where
        unknown = sorted(set(data) - set(keys))
        if unknown:
            close = difflib.get_close_matches(unknown[0], keys, n=1)
            raise UsageError(
                f"unknown key '{unknown[0]}'", where=where, expected=", ".join(keys),
                do=f"did you mean '{close[0]}'?" if close else "leave it out",
            )  # fmt: skip

    def refuse(self, key: str, expected: str, got: str) -> None:
        raise UsageError(f"'{key}' makes no sense", where=self.where, expected=expected, got=got)

    def text(self, key: str) -> str:
        value = self.data.get(key)
        if not isinstance(value, str) or not value.strip():
            self.refuse(key, "a text that is not empty", repr(value))
        return str(value)

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        value = self.data.get(key, default)
        if value not in choices:
            self.refuse(key, " or ".join(choices), repr(value))
        return str(value)

    def integer(self, key: str, default: int | None, *, least: int) -> int | None:
        value = self.data.get(key, default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            self.refuse(key, f"a whole number from {least}", repr(value))
        return value

    def number(self, key: str, default: float) -> float:
        return self._finite(key, self.data.get(key, default))

    def _finite(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self.refuse(key, "a finite number", repr(value))
        return float(value)

    def per_channel(self, key: str, default: float, channels: int) -> tuple[float, ...]:
        value = self.data.get(key, default)
        numbers = value if isinstance(value, list) else [value] * channels
        if len(numbers) != channels:
            self.refuse(key, f"one number, or {channels}, one per channel", repr(value))
        return tuple(self._finite(key, number) for number in numbers)

    def size(self, key: str) -> Size | None:
        value = self.data.get(key)
        if value is None or value == "input":
            return value
        sides = value if isinstance(value, list) else [value, value]
        if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
            self.refuse(key, "pixels, [height, width] or \"input\"", repr(value))
        return int(sides[0]), int(sides[1])

    def interval(self, key: str) -> Interval | None:
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 2:
            self.refuse(key, "[lowest, highest]", repr(value))
        low, high = (self._finite(key, end) for end in value)
        if low > high:
            self.refuse(key, "[lowest, highest]", repr(value))
        return low, high


def _parse_toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib as reader
    else:
        import tomli as reader
    return reader.loads(text)
