"""Pictures that look like photos to a statistic: smooth, dark to bright, a little redder than blue."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_photo(seed: int, height: int = 80, width: int = 96) -> np.ndarray:
    """height x width x 3 uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 7, 3))
    grey = coarse.mean(2, keepdims=True)
    mixed = np.clip(grey + 0.7 * (coarse - grey) + [12, 0, -12], 0, 255)
    mixed[0, 0], mixed[-1, -1] = 0, 255
    image = Image.fromarray(np.uint8(mixed)).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.normal(0, 3, (height, width, 3))
    return np.uint8(np.clip(np.asarray(image) + noise, 0, 255))


def write_photos(folder: Path, count: int, name: str = "{:04d}.png", **size: int) -> Path:
    """`count` photos named by their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(make_photo(number, **size)).save(folder / name.format(number))
    return folder
