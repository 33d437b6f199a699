"""Keeps one set of samples in one .npz file, so that programs of other environments read the very same arrays.

Keys: `feed:<input>` holds all samples of that input, stacked along a new first axis; `truth:<number>` the decision that
is right for one sample; `constant` what the task needs besides (see int8_tasks.py); `task` its name. No pickles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Samples:
    """Feeds of batch 1 and the right decision of each sample."""

    task: str
    feeds: dict[str, np.ndarray]
    truths: tuple[np.ndarray, ...]
    constant: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.truths)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: stack[index] for name, stack in self.feeds.items()}

    def take(self, places: list[int]) -> Samples:
        """The samples at these places."""
        feeds = {name: stack[places] for name, stack in self.feeds.items()}
        return Samples(self.task, feeds, tuple(self.truths[place] for place in places), self.constant)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return (self[index] for index in range(len(self)))


def make_samples(
    task: str, rows: list[tuple[dict[str, np.ndarray], np.ndarray]], constant: np.ndarray | None = None
) -> Samples:
    """From pairs of feeds and truth; all feeds of one input have the same shape."""
    feeds = {name: np.stack([row[name] for row, _ in rows]) for name in rows[0][0]}
    return Samples(task, feeds, tuple(np.asarray(truth) for _, truth in rows), constant)


def write_samples(path: Path, samples: Samples) -> None:
    arrays = {f"feed:{name}": stack for name, stack in samples.feeds.items()}
    arrays.update({f"truth:{number}": truth for number, truth in enumerate(samples.truths)})
    if samples.constant is not None:
        arrays["constant"] = samples.constant
    with open(path, "wb") as stream:
        np.savez(stream, task=np.array(samples.task), **arrays)  # type: ignore[arg-type]


def read_samples(path: Path) -> Samples:
    with np.load(path, allow_pickle=False) as stored:
        feeds = {key[len("feed:") :]: stored[key] for key in stored.files if key.startswith("feed:")}
        count = sum(key.startswith("truth:") for key in stored.files)
        truths = tuple(stored[f"truth:{number}"] for number in range(count))
        return Samples(str(stored["task"]), feeds, truths, stored["constant"] if "constant" in stored.files else None)
