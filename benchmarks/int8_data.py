"""Calibration and validation samples of each network whose accuracy can be measured, from disjoint seeds or files.

| network            | calibration                   | validation                         | truth                   |
|--------------------|-------------------------------|------------------------------------|-------------------------|
| efficientnet_lite0 | 300 photos of a folder        | the other photos of it             | number in the file name |
|   without a folder | 8 foolbox photos              | the other 12                       | likewise                |
| english_g2         | 100 drawn words               | 200 others                         | the word                |
| craft              | 24 pages on 6 foolbox photos  | 42 pages on the other 14           | the boxes drawn         |
| crepe_*            | 200 tones in noise            | 300 others                         | the pitch               |
| rnet, onet         | 60 crops of lfw_subset        | 140 others and their mirror images | face or not             |
| linknet3d          | 16 heads by construction      | 40 others                          | the inside              |
| pp_ocrv4_det       | 24 pages on 6 foolbox photos  | 42 pages on the other 14           | the boxes drawn         |
| pp_ocrv4_rec       | 100 drawn words               | 300 others                         | the word                |
| pp_ocrv4_cls       | 100 drawn words, half turned  | 300 others, half turned            | turned or not           |
| minilm             | 128 sentences by construction | 400 others                         | the topic               |

The foolbox photos, the faces and all that is drawn come with the packages of `python -m benchmarks.fetch all`. A folder
of photos (JPEG or PNG, file name = ImageNet-1k class index) is named by `--photos` or by HWC_PHOTOS. The mirror images
and the pages that share a photo are not independent samples: intervals over them are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.int8_feeds import Samples, make_samples
from benchmarks.int8_tasks import mean_word
from benchmarks.samples import crop_photo, draw_page, draw_varied_word, make_words, planes, read_photos
from hwc.errors import UsageError

Row = tuple[dict[str, np.ndarray], np.ndarray]
# Runs the FP32 network on one set of feeds; the probe of the sentence encoder is fitted to it.
Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
CALIBRATION_PHOTOS = 300


@dataclass(frozen=True)
class Data:
    """Both sets, and a word about them that belongs under the table."""

    calibration: Samples
    validation: Samples
    note: str = ""


def photos_of(folder: Path) -> list[tuple[Path, int]]:
    """The photos of a folder with the class index in their names, in the order of their names.

    Raises:
        UsageError: no such folder, a name that is no class index, or too few photos.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    bad = [path.name for path in paths if not path.stem.isdecimal() or int(path.stem) > 999]
    if bad or len(paths) < CALIBRATION_PHOTOS + 50:
        raise UsageError(
            "this folder cannot calibrate and judge an ImageNet network",
            where=str(folder),
            expected=f"at least {CALIBRATION_PHOTOS + 50} photos named by their class index, as 0207.jpg",
            got=f"{len(paths)} photos, {len(bad)} of another name" + (f" ({bad[0]})" if bad else ""),
        )
    return [(path, int(path.stem)) for path in paths]


def classify(run: Run, photos: Path | None) -> Data:
    from benchmarks.models.efficientnet_lite0 import prepare_photos

    if photos is None:
        images, labels = prepare_photos()
        rows: list[Row] = [({"inputs": image[None]}, label) for image, label in zip(images, labels)]
        split, note = 8, "the 20 foolbox photos only, because no folder of photos was named: far too few to judge"
    else:
        rows = []
        for path, label in photos_of(photos):
            image = crop_photo(Image.open(path).convert("RGB"), 256, 224)
            rows.append(({"inputs": planes(image, 127.0, 128.0)}, np.array(label)))
        split, note = CALIBRATION_PHOTOS, "photos of the folder named by the user"
    # Names are class indices, so the first in order would be animals only.
    order = np.random.default_rng(0).permutation(len(rows))
    return _split("class", [rows[index] for index in order], split, note)


def read_g2(run: Run, photos: Path | None) -> Data:
    from benchmarks.models.english_g2 import CHARACTERS, HEIGHT, WIDTH

    def row(word: str, seed: int) -> Row:
        drawn = draw_varied_word(word, HEIGHT, WIDTH, seed) / np.float32(127.5) - 1
        return {"image": drawn[None, None]}, np.array([CHARACTERS.index(letter) + 1 for letter in word])

    return _split("text", [row(word, seed) for seed, word in enumerate(make_words(300, seed=1))], 100)


def _line(word: str, width: int, seed: int) -> np.ndarray:
    from benchmarks.models.pp_ocrv4 import HEIGHT

    return planes(np.repeat(draw_varied_word(word, HEIGHT, width, seed)[..., None], 3, 2), 127.5, 127.5)


def read_lines(run: Run, photos: Path | None) -> Data:
    from benchmarks.models.pp_ocrv4 import REC_WIDTH, load_characters

    index = {character: place for place, character in enumerate(load_characters())}
    rows = [
        ({"x": _line(word, REC_WIDTH, seed)}, np.array([index[letter] for letter in word]))
        for seed, word in enumerate(make_words(400, seed=2))
    ]
    return _split("text", rows, 100)


def turn_lines(run: Run, photos: Path | None) -> Data:
    from benchmarks.models.pp_ocrv4 import CLS_WIDTH

    rows: list[Row] = []
    for seed, word in enumerate(make_words(400, seed=3)):
        line = _line(word, CLS_WIDTH, seed)
        turned = seed % 2
        rows.append(({"x": np.ascontiguousarray(line[..., ::-1, ::-1]) if turned else line}, np.array(turned)))
    return _split("class", rows, 100)


def _pages(side: int, prepare: Callable[[np.ndarray], dict[str, np.ndarray]]) -> list[Row]:
    """24 pages on the first 6 photos, then 42 on the other 14."""
    pictures = [photo for photo, _ in read_photos()]
    plan = [*(number % 6 for number in range(24)), *(6 + number % 14 for number in range(42))]
    pages = (draw_page(pictures[place], side, seed) for seed, place in enumerate(plan))
    return [(prepare(page), boxes) for page, boxes in pages]


def find_text(run: Run, photos: Path | None) -> Data:
    from benchmarks.models.craft import DEVIATION, MEAN, SIDE

    def prepare(page: np.ndarray) -> dict[str, np.ndarray]:
        image = (page / np.float32(255) - MEAN) / DEVIATION
        return {"image": np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)}

    return _split("craft", _pages(SIDE, prepare), 24)


def find_lines(run: Run, photos: Path | None) -> Data:
    from benchmarks.models.pp_ocrv4 import DET_SIDE

    return _split("boxes", _pages(DET_SIDE, lambda page: {"x": planes(page, 127.5, 127.5)}), 24)


def track_pitch(run: Run, photos: Path | None) -> Data:
    from benchmarks.models.crepe import make_tones

    def rows(count: int, seed: int) -> list[Row]:
        frames, pitches = make_tones(count, seed=seed, noise=0.5)
        return [({"x": frame[None]}, 1200 * np.log2(hz / 10.0)) for frame, hz in zip(frames, pitches)]

    return Data(make_samples("pitch", rows(200, 101)), make_samples("pitch", rows(300, 102)))


def find_faces(side: int) -> Callable[[Run, Path | None], Data]:
    def make(run: Run, photos: Path | None) -> Data:
        from benchmarks.models.mtcnn import prepare_faces

        crops, labels = prepare_faces(side)
        order = np.random.default_rng(0).permutation(100)
        # As many faces as other crops on each side; the first 100 are faces.
        calibrate, judge = (np.concatenate([part, part + 100]) for part in (order[:30], order[30:]))
        rows = [({"x": crops[index][None]}, labels[index] == 1) for index in calibrate]
        for index in judge:
            mirrored = np.ascontiguousarray(crops[index][None, ..., ::-1])
            rows += [({"x": crops[index][None]}, labels[index] == 1), ({"x": mirrored}, labels[index] == 1)]
        return _split("face", rows, len(calibrate), "half of the judged crops are mirror images of the other half")

    return make


def outline_brain(run: Run, photos: Path | None) -> Data:
    from benchmarks.models.linknet3d import TEST_SIDE, make_head

    heads = (make_head(TEST_SIDE, seed) for seed in range(1, 57))
    return _split("mask", [({"volume": head[None, None]}, inside) for head, inside in heads], 16)


def tell_topics(run: Run, photos: Path | None) -> Data:
    from benchmarks.int8_sentences import fit_probe, make_sentences
    from benchmarks.models import WORDS
    from benchmarks.models.minilm import encode

    def rows(count: int, seed: int) -> list[Row]:
        return [(dict(zip(WORDS, encode(text))), np.array(topic)) for text, topic in make_sentences(count, seed)]

    fitted = rows(400, 201)
    vectors = np.stack([mean_word(run(feeds), feeds) for feeds, _ in fitted])
    probe = fit_probe(vectors, np.array([topic for _, topic in fitted]))
    sets = (make_samples("probe", rows(count, seed), probe) for count, seed in ((128, 202), (400, 203)))
    return Data(*sets, "the probe was fitted to 400 other sentences in FP32")


def _split(task: str, rows: list[Row], calibration: int, note: str = "") -> Data:
    """The first `calibration` rows, and the rest."""
    return Data(make_samples(task, rows[:calibration]), make_samples(task, rows[calibration:]), note)


DATA: dict[str, Callable[[Run, Path | None], Data]] = {
    "efficientnet_lite0": classify,
    "english_g2": read_g2,
    "craft": find_text,
    "crepe_tiny": track_pitch,
    "crepe_full": track_pitch,
    "rnet": find_faces(24),
    "onet": find_faces(48),
    "linknet3d": outline_brain,
    "pp_ocrv4_det": find_lines,
    "pp_ocrv4_rec": read_lines,
    "pp_ocrv4_cls": turn_lines,
    "minilm": tell_topics,
}
