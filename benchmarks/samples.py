"""The real photos and the data made by construction that feed the networks, as numpy arrays with fixed seeds.

Photos are the 20 labelled ImageNet samples inside the foolbox wheel; the label is in the file name. They measure a
drop in accuracy between two engines. They are too few to measure an accuracy.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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


def draw_word(word: str, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Dark text on light grey with noise, in Pillow's own font: height x width uint8."""
    image = Image.new("L", (width, height), 225)
    font = ImageFont.load_default(size=round(height * 0.62))
    ImageDraw.Draw(image).text((height // 6, height // 10), word, fill=30, font=font)
    noise = np.random.default_rng(seed).normal(0, 6, (height, width))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


def draw_sign(side: int) -> np.ndarray:
    """The first photo with two words written on it: side x side x 3 uint8."""
    photo = read_photos()[0][0].resize((side, side), Image.Resampling.BICUBIC)
    pen, font = ImageDraw.Draw(photo), ImageFont.load_default(size=side // 8)
    for top, word in ((side // 8, "HARDWARE"), (side * 5 // 8, "aware")):
        pen.text((side // 10, top), word, fill=(255, 255, 255), font=font, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(photo)


def make_words(count: int, seed: int = 0) -> list[str]:
    """Short strings of letters. Left out: digits, and letters drawn alike, such as I, l and C, c."""
    rng = np.random.default_rng(seed)
    letters = list("ABDEFGHJLMNPRTYabdefghjmnqrty")
    return ["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(count)]


def merge_ctc(scores: np.ndarray) -> list[int]:
    """Greedy reading of TxC scores: the best index of each step, repeats merged, blanks (0) dropped."""
    best = scores.argmax(1)
    before = np.concatenate([[0], best[:-1]])
    return [int(index) for index in best[(best != 0) & (best != before)]]


def draw_varied_word(word: str, height: int, width: int, seed: int) -> np.ndarray:
    """As `draw_word`, but size, place, ink, paper, slant and noise differ with the seed: height x width uint8."""
    rng = np.random.default_rng((7, seed))
    paper, ink = rng.integers(150, 245), rng.integers(10, 90)
    image = Image.new("L", (width, height), int(paper))
    size = round(height * rng.uniform(0.45, 0.62))
    # Size and place keep the longest word of `make_words` inside the narrowest line.
    place = (rng.uniform(0.08, 0.2) * height, rng.uniform(0.04, 0.16) * height)
    ImageDraw.Draw(image).text(place, word, fill=int(ink), font=ImageFont.load_default(size=size))
    slant = image.rotate(rng.uniform(-1.5, 1.5), Image.Resampling.BILINEAR, fillcolor=int(paper))
    noise = rng.normal(0, rng.uniform(3, 14), (height, width))
    return np.clip(np.asarray(slant) + noise, 0, 255).astype(np.uint8)


def draw_page(photo: Image.Image, side: int, seed: int, words: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A photo with words written on it, one below the other.

    Returns:
        page: side x side x 3 uint8.
        boxes: words x 4 float32, left, top, right, bottom in pixels.
    """
    rng = np.random.default_rng((11, seed))
    page = photo.resize((side, side), Image.Resampling.BICUBIC)
    pen, boxes = ImageDraw.Draw(page), []
    band = side // words
    for row, word in enumerate(make_words(words, seed=1000 + seed)):
        font = ImageFont.load_default(size=int(rng.integers(side // 11, side // 7)))
        left, top = rng.integers(side // 32, side // 8), row * band + rng.integers(side // 32, band // 3)
        dark = bool(rng.integers(0, 2))
        colours = ((0, 0, 0), (255, 255, 255)) if dark else ((255, 255, 255), (0, 0, 0))
        style = {"font": font, "stroke_width": 2}
        pen.text((left, top), word, fill=colours[0], stroke_fill=colours[1], **style)
        boxes.append(pen.textbbox((left, top), word, **style))
    return np.asarray(page), np.array(boxes, np.float32)
