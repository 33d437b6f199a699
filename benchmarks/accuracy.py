"""The task metric of each network in the suite, written so that it can judge any engine.

Each function takes `run`, which maps one set of inputs by name (batch 1) to the outputs by name, and returns a
fraction, 1.0 the best. Output names differ between engines and exporters, so an output is found by its place or its
shape. The samples are few or made by construction: they show a drop between two engines, not an accuracy to publish.

| function        | data                                              | FP32, torch or onnxruntime |
|-----------------|---------------------------------------------------|----------------------------|
| classify_photos | 20 labelled ImageNet photos (foolbox)             | 18/20                      |
| find_faces      | 100 faces, 100 other crops (scikit-image)         | 200/200, R-Net and O-Net   |
| track_pitch     | 200 tones of known pitch in loud noise            | 0.97, CREPE tiny           |
| read_words      | 40 drawn words, english_g2                        | 1.0                        |
| read_lines      | 40 drawn words, PP-OCRv4 rec                      | 0.85                       |
| turn_lines      | 40 drawn words, each both ways up, PP-OCRv4 cls   | 0.94                       |
| find_cuts       | 3 clips of photos with known cuts                 | F1 1.0                     |
| outline_brain   | one head made by construction, Dice               | 0.85, and 0.98 at 128^3    |
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

WORDS = 40


def first_output(run: Run, name: str, value: np.ndarray) -> np.ndarray:
    return next(iter(run({name: value}).values()))


def classify_photos(run: Run) -> float:
    """Top-1 on the 20 photos, EfficientNet-Lite0."""
    from benchmarks.models.efficientnet_lite0 import prepare_photos

    images, labels = prepare_photos()
    best = [int(first_output(run, "inputs", image[None]).argmax()) for image in images]
    return float(np.mean(best == labels))


def find_faces(run: Run, side: int = 48) -> float:
    """Faces told from other crops at probability 0.5; O-Net at side 48, R-Net at side 24."""
    from benchmarks.models.mtcnn import prepare_faces

    crops, labels = prepare_faces(side)
    right = 0
    for crop, label in zip(crops, labels):
        # Boxes have four columns, landmarks ten, the two probabilities two.
        (probability,) = (out for out in run({"x": crop[None]}).values() if out.shape == (1, 2))
        right += int((probability[0, 1] > 0.5) == bool(label))
    return right / len(labels)


def track_pitch(run: Run, count: int = 200, noise: float = 0.5) -> float:
    """Raw pitch accuracy: share of tones whose loudest bin lies within 50 cents, CREPE."""
    from benchmarks.models.crepe import CENTS_PER_BIN, LOWEST_CENTS, make_tones

    frames, pitches = make_tones(count, noise=noise)
    bins = np.array([first_output(run, "x", frame[None]).argmax() for frame in frames])
    error = bins * CENTS_PER_BIN + LOWEST_CENTS - 1200 * np.log2(pitches / 10.0)
    return float(np.mean(np.abs(error) < 50))


def read_words(run: Run) -> float:
    """Words read exactly, english_g2."""
    from benchmarks.models.english_g2 import prepare_word, read_text
    from benchmarks.samples import make_words

    words = make_words(WORDS)
    read = [read_text(first_output(run, "image", prepare_word(word, seed))[0]) for seed, word in enumerate(words)]
    return float(np.mean([a == b for a, b in zip(read, words)]))


def read_lines(run: Run) -> float:
    """Words read exactly, PP-OCRv4 rec."""
    from benchmarks.models.pp_ocrv4 import REC_WIDTH, load_characters, prepare_line
    from benchmarks.samples import make_words, merge_ctc

    characters, words = load_characters(), make_words(WORDS)
    right = 0
    for seed, word in enumerate(words):
        indices = merge_ctc(first_output(run, "x", prepare_line(word, REC_WIDTH, seed))[0])
        # The empty width after the word is often read as one space.
        right += "".join(characters[index] for index in indices).strip() == word
    return right / len(words)


def turn_lines(run: Run) -> float:
    """Lines told upright from upside down, PP-OCRv4 cls."""
    from benchmarks.models.pp_ocrv4 import CLS_WIDTH, prepare_line
    from benchmarks.samples import make_words

    right = 0
    for seed, word in enumerate(make_words(WORDS)):
        line = prepare_line(word, CLS_WIDTH, seed)
        for turned, image in enumerate((line, np.ascontiguousarray(line[..., ::-1, ::-1]))):
            right += int(first_output(run, "x", image).argmax()) == turned
    return right / (2 * WORDS)


def find_cuts(run: Run, clips: int = 3) -> float:
    """F1 of the frames called "last of a shot" at probability 0.5, TransNetV2."""
    from benchmarks.models.transnetv2 import make_clip

    hits = found = known = 0
    for seed in range(clips):
        clip, cuts = make_clip(seed)
        # A logit above 0 is a probability above 0.5.
        called = np.flatnonzero(first_output(run, "frames", clip[None])[0, :, 0] > 0)
        hits += len(np.intersect1d(called, cuts))
        found += len(called)
        known += len(cuts)
    return 2 * hits / (found + known)


def outline_brain(run: Run, side: int = 64) -> float:
    """Dice overlap with the inside of a head made by construction, LinkNet3D."""
    from benchmarks.models.linknet3d import make_head

    head, inside = make_head(side)
    called = first_output(run, "volume", head[None, None])[0, 1] > 0.5
    return float(2 * np.sum(called & inside) / (np.sum(called) + np.sum(inside)))
