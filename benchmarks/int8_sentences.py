"""Sentences of known topic, made by construction, for a sentence encoder.

Each sentence names four things of one topic and two of another one, so the topic is the majority's; the words around
them say nothing. All words are whole words of BERT's list. A linear probe that was fitted to the sentence vectors of
the FP32 network must name the topic from the vectors of another engine.
"""

from __future__ import annotations

import numpy as np

TOPICS = {
    "food": "bread butter cheese soup rice sugar salt apple cake kitchen dinner meat fish tea coffee chicken",
    "music": "guitar piano drum song choir opera melody concert band album singer violin jazz rhythm chorus orchestra",
    "sport": "football goal tennis player coach league stadium match racing team cricket champion medal baseball",
    "war": "army soldier battle rifle tank general weapon invasion troops fortress enemy navy bomb attack defense",
    "sea": "ocean ship wave island harbor sailor beach boat storm coast shark anchor tide captain bay",
    "law": "court judge lawyer trial jury crime police prison evidence witness statute verdict prosecutor sheriff",
    "medicine": "doctor hospital nurse patient disease surgery drug blood heart cancer clinic virus therapy pain bone",
    "school": "teacher student lesson classroom exam book pencil university professor homework library pupil degree",
}
FRAMES = (
    "we talked about the {} and the {} , then the {} and a {} , but not the {} or the {}",
    "there was a {} near the {} , and a {} with the {} after the {} and the {}",
    "some people like the {} more than the {} , others want a {} , a {} , the {} or a {}",
    "the {} came before the {} ; later a {} and the {} were seen with a {} and some {}",
)


def make_sentences(count: int, seed: int) -> list[tuple[str, int]]:
    """`count` sentences, each with the number of its topic."""
    rng = np.random.default_rng(seed)
    lists = [words.split() for words in TOPICS.values()]
    made = []
    for _ in range(count):
        topic, other = rng.choice(len(lists), 2, replace=False)
        words = [*rng.choice(lists[topic], 4, replace=False), *rng.choice(lists[other], 2, replace=False)]
        frame = FRAMES[rng.integers(len(FRAMES))]
        made.append((frame.format(*rng.permutation(words)), int(topic)))
    return made


def fit_probe(vectors: np.ndarray, topics: np.ndarray, ridge: float = 1e-2) -> np.ndarray:
    """Least squares with a ridge on one-hot topics: N x C vectors -> topics x (C + 1), the bias last.

    The vectors are centred first, so that the ridge does not bear on their mean.
    """
    mean = vectors.mean(0)
    centred = vectors - mean
    wanted = np.eye(len(TOPICS))[topics] - 1 / len(TOPICS)
    square = centred.T @ centred + ridge * len(vectors) * np.mean(centred**2) * np.eye(vectors.shape[1])
    weights = np.linalg.solve(square, centred.T @ wanted).T
    return np.concatenate([weights, -(weights @ mean)[:, None]], 1).astype(np.float32)
