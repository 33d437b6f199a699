"""The real photos and the data made by construction that feed the networks, as numpy arrays with fixed seeds.

Photos are the 20 labelled ImageNet samples inside the foolbox wheel; the label is in the file name. They measure a
drop in accuracy between two engines. They are too few to measure an accuracy.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmarks.fetch import model_dir


def read_photos() -> list[tuple[Image.Image, int]]:
    """The 20 photos, 512x512 RGB, each with its ImageNet-1k class index, in file order."""
    paths = sorted(model_dir("foolbox").glob("imagenet_*.jpg"))
    return [(Image.open(path).convert("RGB"), int(path.stem.rsplit("_", 1)[1])) for path in paths]


def crop_photo(photo: Image.Image, short_side: int, crop: int) -> np.ndarray:
    """Resizes the short side (bicubic) and cuts the centre: uint8, crop x crop x 3."""
    scale = short_side / min(photo.size)
    width, height = (round(side * scale) for side in photo.size)
    left, top = (width - crop) // 2, (height - crop) // 2
    resized = photo.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))


def planes(image: np.ndarray, mean: float, scale: float) -> np.ndarray:
    """HxWx3 uint8 to 1x3xHxW float32, (rgb - mean) / scale."""
    return ((image.astype(np.float32) - mean) / scale).transpose(2, 0, 1)[None].copy()
