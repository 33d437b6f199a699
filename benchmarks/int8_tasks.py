"""Scores one output of one network: what the INT8 benchmark counts as right, with numpy alone.

A task turns the outputs of one sample into a decision, and compares a decision with another one. Compared with the
truth it gives the accuracy; compared with the decision of the FP32 engine it gives the agreement. Both are fractions
per sample, 1.0 the best, so that two engines can be judged on the same samples, pair by pair.

| task     | decision                              | score                                     |
|----------|---------------------------------------|-------------------------------------------|
| class    | index of the largest value            | equal                                     |
| face     | probability of a face above one half  | equal                                     |
| pitch    | cents of the loudest bin              | within 50 cents                           |
| text     | the indices that CTC reads            | all equal, spaces at the ends left out    |
| boxes    | K x 4 boxes (left, top, right, bottom)| F1 of boxes matched at IoU 0.5            |
| mask     | voxels above one half                 | Dice overlap                              |
| probe    | best line of a probe on the mean word | equal                                     |
| speech   | frames with probability above one half| share of equal frames                     |

Programs of other environments read this file too (the accuracy control of a peer needs the metric), so it imports
nothing but numpy. Sources: CTC, Graves et al., "Connectionist Temporal Classification" (2006); boxes from CRAFT's maps
as in Baek et al., "Character Region Awareness for Text Detection" (2019); boxes from a probability map as in Liao et
al., "Real-time Scene Text Detection with Differentiable Binarization" (2020), with upright boxes only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Arrays = Mapping[str, np.ndarray]
# Outputs in their order, the feeds, and the constant array of the task, if it has one.
Decide = Callable[[list[np.ndarray], Arrays, "np.ndarray | None"], np.ndarray]
Score = Callable[[np.ndarray, np.ndarray], float]

CENTS_PER_BIN = 20
LOWEST_CENTS = 1997.3794084376191  # of bin 0 of CREPE, above 10 Hz
SPACE = 6624  # the last character of PP-OCRv4 rec


@dataclass(frozen=True)
class Task:
    decide: Decide
    score: Score


def equal(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.array_equal(a, b))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else 1.0


def match_boxes(found: np.ndarray, known: np.ndarray) -> float:
    """F1 of K x 4 and L x 4 boxes, each matched once, best overlap first, at an overlap of at least one half."""
    if not len(found) or not len(known):
        return float(len(found) == len(known))
    low, high = np.maximum(found[:, None, :2], known[None, :, :2]), np.minimum(found[:, None, 2:], known[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1) for boxes in (found, known)]
    overlap = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)
    hits = 0
    while overlap.max() >= 0.5:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        overlap[row], overlap[:, column] = 0, 0
        hits += 1
    return 2 * hits / (len(found) + len(known))


def label_regions(mask: np.ndarray) -> np.ndarray:
    """Regions of H x W bool that touch at their sides: 0 outside, else a number of the region's own."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        spread = labels.copy()
        # The largest number of a region wins; it travels one step per turn in each direction.
        np.maximum(spread[1:], labels[:-1], out=spread[1:])
        np.maximum(spread[:-1], labels[1:], out=spread[:-1])
        np.maximum(spread[:, 1:], labels[:, :-1], out=spread[:, 1:])
        np.maximum(spread[:, :-1], labels[:, 1:], out=spread[:, :-1])
        spread *= mask
        if np.array_equal(spread, labels):
            return labels
        labels = spread


def region_boxes(labels: np.ndarray, smallest: int = 10) -> list[tuple[np.ndarray, tuple[int, int, int, int]]]:
    """Each region of at least `smallest` pixels: its mask and its box (left, top, right, bottom), ends excluded."""
    result = []
    for number, count in zip(*np.unique(labels[labels > 0], return_counts=True)):
        if count >= smallest:
            region = labels == number
            rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
            result.append((region, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)))
    return result


def _grown(box: tuple[int, int, int, int], by: float, scale: float) -> list[float]:
    left, top, right, bottom = box
    return [scale * (left - by), scale * (top - by), scale * (right + by), scale * (bottom + by)]


def boxes_of_craft(outputs: list[np.ndarray], feeds: Arrays, constant: np.ndarray | None) -> np.ndarray:
    """1 x h x w x 2 scores at half size: characters or gaps above 0.4, kept where a character is above 0.7."""
    text, link = outputs[0][0, ..., 0], outputs[0][0, ..., 1]
    boxes = []
    for region, box in region_boxes(label_regions((text > 0.4) | (link > 0.4))):
        if text[region].max() >= 0.7:
            width, height = box[2] - box[0], box[3] - box[1]
            by = int(np.sqrt(region.sum() * min(width, height) / (width * height)) * 2)
            # Upstream dilates with a square of side 1 + by, so by half of it on each side.
            boxes.append(_grown(box, by / 2, 2.0))
    return np.array(boxes, np.float32).reshape(-1, 4)


def boxes_of_map(outputs: list[np.ndarray], feeds: Arrays, constant: np.ndarray | None) -> np.ndarray:
    """1 x 1 x H x W probability: above 0.3, kept at a mean of 0.5, grown by 1.6 areas over the perimeter."""
    chance = outputs[0][0, 0]
    boxes = []
    for region, box in region_boxes(label_regions(chance > 0.3)):
        if chance[region].mean() >= 0.5:
            width, height = box[2] - box[0], box[3] - box[1]
            boxes.append(_grown(box, 1.6 * width * height / (2 * (width + height)), 1.0))
    return np.array(boxes, np.float32).reshape(-1, 4)


def read_indices(outputs: list[np.ndarray], feeds: Arrays, constant: np.ndarray | None) -> np.ndarray:
    """1 x T x C scores of characters, 0 the blank: the greedy reading, without spaces at its ends."""
    best = outputs[0][0].argmax(1)
    before = np.concatenate([[0], best[:-1]])
    read = best[(best != 0) & (best != before)]
    inner = np.flatnonzero(read != SPACE)
    return read[inner[0] : inner[-1] + 1] if len(inner) else read[:0]


def pick_class(outputs: list[np.ndarray], feeds: Arrays, constant: np.ndarray | None) -> np.ndarray:
    return np.array(outputs[0].argmax())


def is_face(outputs: list[np.ndarray], feeds: Arrays, constant: np.ndarray | None) -> np.ndarray:
    # Boxes have four columns, landmarks ten, the two probabilities two.
    (chance,) = (out for out in outputs if out.shape == (1, 2))
    return np.array(chance[0, 1] > 0.5)


def find_pitch(outputs: list[np.ndarray], feeds: Arrays, constant: np.ndarray | None) -> np.ndarray:
    return np.array(outputs[0].argmax() * CENTS_PER_BIN + LOWEST_CENTS)


def find_inside(outputs: list[np.ndarray], feeds: Arrays, constant: np.ndarray | None) -> np.ndarray:
    return outputs[0][0, 1] > 0.5


def mean_word(outputs: list[np.ndarray], feeds: Arrays) -> np.ndarray:
    """The sentence vector: the mean of 1 x S x C over the unmasked positions."""
    mask = feeds["attention_mask"][0].astype(bool)
    return outputs[0][0][mask].mean(0)


def pick_topic(outputs: list[np.ndarray], feeds: Arrays, constant: np.ndarray | None) -> np.ndarray:
    """`constant` is topics x (C + 1): the weights of a linear probe, and its bias last."""
    assert constant is not None
    return np.array((constant[:, :-1] @ mean_word(outputs, feeds) + constant[:, -1]).argmax())


def hear_speech(outputs: list[np.ndarray], feeds: Arrays, constant: np.ndarray | None) -> np.ndarray:
    return outputs[0].reshape(-1) > 0.5


TASKS: dict[str, Task] = {
    "class": Task(pick_class, equal),
    "face": Task(is_face, equal),
    "pitch": Task(find_pitch, lambda a, b: float(abs(float(a) - float(b)) < 50)),
    "text": Task(read_indices, equal),
    "craft": Task(boxes_of_craft, match_boxes),
    "boxes": Task(boxes_of_map, match_boxes),
    "mask": Task(find_inside, dice),
    "probe": Task(pick_topic, equal),
    "speech": Task(hear_speech, lambda a, b: float(np.mean(a == b))),
}


def sqnr_db(reference: list[np.ndarray], got: list[np.ndarray], limit: float = 120.0) -> float:
    """10 log10 of signal over noise of one sample: the mean over the float outputs, each held to +- `limit`.

    NaN where the reference is finite counts as all noise, -`limit`; outputs of another shape as well.
    """
    values = []
    for a, b in zip(reference, got):
        if a.dtype.kind != "f":
            continue
        if a.shape != b.shape or not np.isfinite(b).all():
            values.append(-limit)
            continue
        signal = float(np.sum(np.square(a, dtype=np.float64)))
        noise = float(np.sum(np.square(np.subtract(a, b, dtype=np.float64))))
        ratio = 10 * np.log10(max(signal, 1e-300) / noise) if noise > 0 else limit
        values.append(float(np.clip(ratio, -limit, limit)))
    return float(np.mean(values))
