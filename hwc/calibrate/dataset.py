"""Data for calibration and validation: one sample at a time, in one order, as often as asked.

SOURCE is one of

    folder, folder/val_*.jpg    images, made into tensors by a recipe (read_images)
    data.npz, data.npy          arrays, ready to be fed (read_arrays)
    file.py:generator           the user's code, which yields feeds (call_generator)

and may end in a slice of whole numbers, `photos@0:300` or `photos@300:`; a path that has this very name wins.

Order. The samples of a folder or an array file are sorted by sha256("seed:name"). So every prefix is spread over the
whole set, `photos@0:300` and `photos@300:` share nothing, a new file moves no other, and no random generator's version
matters. A generator's samples come as they are yielded.

Selection. A slice with an end means exactly those samples: too few is an error. Without an end, at most `limit` are
taken. `offset` counts from the start of the slice.

Batch. An array with one axis less than the input is one element of a batch; with as many axes it is fed as it is. Where
the model's first dimension is fixed at N > 1 (or starts above 1), N elements make one sample, whose classes are in
`labels`; a rest that does not fill a batch is left out, and `describe` says so.

Limit: what has the same content but was encoded anew, scaled or cropped is not recognised as the same sample.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from hwc.artifacts import TensorSpec
from hwc.calibrate.call_generator import Generator
from hwc.calibrate.form_batch import batch_size, stack
from hwc.calibrate.read_arrays import ArrayFile, digest_arrays
from hwc.calibrate.read_images import ImageFolder
from hwc.calibrate.read_recipe import Recipe
from hwc.errors import UsageError

DEFAULT_LIMIT = 500  # what NVIDIA recommends for ImageNet classifiers (TensorRT developer guide 8.4, INT8 calibration)
_SLICE = re.compile(r"(?P<path>.+)@(?P<start>\d*):(?P<stop>\d*)")
_FORMS = "a folder of images, data.npz, data.npy or file.py:generator"


@dataclass(frozen=True)
class Sample:
    """What one inference is fed.

    Args:
        feeds: input name -> array of the model's own shape, batch axis included.
        label: class index; None where there is none, or where the batch holds more than one element.
        name: file or row it came from, for messages.
        labels: class index of each element of a batch of more than one.
    """

    feeds: dict[str, np.ndarray]
    label: int | None
    name: str
    labels: tuple[int | None, ...] = field(default=())


class RowSource(Protocol):
    """Samples that can be read in any order."""

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def label(self, index: int) -> int | None: ...
    def read(self, index: int) -> dict[str, np.ndarray]: ...
    def digest(self, index: int) -> str: ...


Item = tuple[str, int | None, dict[str, np.ndarray]]


class Dataset:
    """The selected samples of one source; made by `open_dataset`. Iterating again gives the same samples."""

    def __init__(
        self, source: str, rows: RowSource | Generator, inputs: Sequence[TensorSpec], recipe: Recipe | None, *,
        start: int, stop: int | None, limit: int | None, seed: int,
    ) -> None:  # fmt: skip
        self.source, self.inputs, self.recipe = source, tuple(inputs), recipe
        self._rows, self._start, self._stop, self._limit, self._seed = rows, start, stop, limit, seed
        self._pass: tuple[int, str] | None = None  # of a generator: items in one pass, and their digest
        self._order = [] if isinstance(rows, Generator) else self._select(rows)
        first = next(self._items(0), None)
        if first is None:
            raise UsageError("there is no sample", where=source, do="check the path and the slice")
        self.batch = batch_size(first[2], self.inputs, first[0])
        if not isinstance(rows, Generator) and len(self._order) < self.batch:
            raise UsageError(
                "too few samples for one batch", where=source, expected=f"at least {self.batch}, the model's own batch",
                got=str(len(self._order)), do="give more samples, or a model with batch 1",
            )  # fmt: skip

    def _select(self, rows: RowSource) -> list[int]:
        total = len(rows)
        if self._start >= total or (self._stop is not None and self._stop > total):
            asked = f"{self._start}:{'' if self._stop is None else self._stop}"
            raise UsageError(
                "the slice reaches past the samples", where=self.source, expected=f"within 0:{total}", got=asked
            )
        stop = self._end(total)
        keys = [hashlib.sha256(f"{self._seed}:{rows.name(i)}".encode("utf-8", "surrogateescape")) for i in range(total)]
        return sorted(range(total), key=lambda i: keys[i].digest())[self._start : stop]

    def _end(self, total: int) -> int:
        if self._stop is not None:
            return self._stop
        return total if self._limit is None else min(total, self._start + self._limit)

    def __iter__(self) -> Iterator[Sample]:
        return self.samples()

    def __len__(self) -> int:
        """The number of samples. A generator is run once through to count them."""
        if isinstance(self._rows, Generator):
            return self._count_pass()[0] // self.batch
        return len(self._order) // self.batch

    def samples(self, start: int = 0) -> Iterator[Sample]:
        """The samples from number `start` on: how an interrupted pass goes on.

        Raises:
            UsageError: a sample cannot be read, or a generator yields other samples than in an earlier pass.
        """
        items = self._items(start * self.batch)
        while len(group := list(islice(items, self.batch))) == self.batch:
            feeds = {spec.name: stack(spec, [arrays[spec.name] for _, _, arrays in group]) for spec in self.inputs}
            name, label, _ = group[0]
            if self.batch == 1:
                yield Sample(feeds, label, name)
            else:
                yield Sample(feeds, None, f"{name} and {self.batch - 1} more", tuple(label for _, label, _ in group))

    @property
    def digest(self) -> str:
        """sha256 over the content that is read, the labels, the order, the model's inputs and the recipe."""
        if isinstance(self._rows, Generator):
            content: object = self._count_pass()[1]
        else:
            content = [(self._rows.digest(i), self._rows.label(i)) for i in self._order]
        recipe = self.recipe.content_digest if self.recipe is not None else ""
        text = json.dumps([recipe, [repr(spec) for spec in self.inputs], content])
        return hashlib.sha256(text.encode()).hexdigest()

    def describe(self) -> str:
        """One sentence: where from, how many, which of them, how they are made."""
        parts = [f"{len(self)} samples from {self.source}"]
        if isinstance(self._rows, Generator):
            total = self._count_pass()[0]
        else:
            total = len(self._order)
            parts.append(f"{total} of {len(self._rows)} in the order of seed {self._seed}, from number {self._start}")
        if self.batch > 1:
            rest = f", the last {total % self.batch} left out" if total % self.batch else ""
            parts.append(f"each a batch of {self.batch}{rest}")
        if self.recipe is not None:
            parts.append(f"recipe {self.recipe.name}")
        return "; ".join(parts)

    def content_digests(self, *, of_files: bool) -> Iterator[tuple[str, str]]:
        """(name, sha256) of each element: of the image file, or of the arrays that are fed."""
        if of_files and isinstance(self._rows, ImageFolder):
            yield from ((self._rows.name(i), self._rows.digest(i)) for i in self._order)
        else:
            yield from ((name, digest_arrays(arrays)) for name, _, arrays in self._items(0))

    @property
    def is_shuffled(self) -> bool:
        """Whether any first part is a fair draw of the whole; not known of a generator."""
        return not isinstance(self._rows, Generator)

    @property
    def is_files(self) -> bool:
        return isinstance(self._rows, ImageFolder)

    def _items(self, start: int) -> Iterator[Item]:
        rows = self._rows
        if isinstance(rows, Generator):
            yield from self._generated(rows, start)
        else:
            yield from ((rows.name(i), rows.label(i), rows.read(i)) for i in self._order[start:])

    def _generated(self, rows: Generator, start: int) -> Iterator[Item]:
        digest, count = hashlib.sha256(), 0
        stop = self._stop
        if stop is None and self._limit is not None:
            stop = self._start + self._limit
        for number, (arrays, label) in enumerate(islice(rows.items(), self._start, stop), self._start):
            digest.update(f"{digest_arrays(arrays)} {label}\n".encode())
            count += 1
            if count > start:
                yield rows.name(number), label, arrays
        if self._stop is not None and count < self._stop - self._start:
            raise UsageError(
                "the slice reaches past the samples", where=self.source,
                expected=f"{self._stop} samples or more", got=str(self._start + count),
            )  # fmt: skip
        seen = count, digest.hexdigest()
        if self._pass is not None and self._pass != seen:
            raise UsageError(
                "the generator yields other samples in each pass", where=self.source,
                expected=f"the same {self._pass[0]} samples again", got=f"{count} samples with another digest",
                do="seed its random numbers inside the function",
            )  # fmt: skip
        self._pass = seen

    def _count_pass(self) -> tuple[int, str]:
        if self._pass is None:
            for _ in self._items(0):
                pass
        assert self._pass is not None
        return self._pass


def open_dataset(
    source: str, *, inputs: Sequence[TensorSpec], recipe: Recipe | None = None, limit: int | None = DEFAULT_LIMIT,
    offset: int = 0, seed: int = 0,
) -> Dataset:  # fmt: skip
    """The samples that SOURCE names, as the model's inputs want them.

    Args:
        source: see the top of this file.
        inputs: the model's inputs; dynamic dimensions are allowed.
        recipe: how images become tensors; required for a folder. Arrays and generators come ready to be fed: theirs
            only states what to expect.
        limit: most samples to take where the slice has no end; None takes all.
        offset: samples to leave out at the start.
        seed: of the order.

    Raises:
        UsageError: no such source, a folder without recipe, a model that images cannot feed, or a slice too long.
    """
    path, start, stop = _split_slice(source)
    if limit is not None and limit < 1:
        raise UsageError("at least one sample must be taken", expected="limit of 1 or more", got=str(limit))
    rows = _open_rows(path, inputs, recipe)
    return Dataset(source, rows, inputs, recipe, start=start + offset, stop=stop, limit=limit, seed=seed)


def same_samples(first: Dataset, second: Dataset) -> tuple[tuple[str, str], ...]:
    """Pairs of names with the same content in both: files are compared as files, all else as it is fed."""
    of_files = first.is_files and second.is_files
    known = {digest: name for name, digest in first.content_digests(of_files=of_files)}
    others = second.content_digests(of_files=of_files)
    return tuple((known[digest], name) for name, digest in others if digest in known)


def _split_slice(source: str) -> tuple[str, int, int | None]:
    match = _SLICE.fullmatch(source)
    if match is None or Path(source).exists():
        return source, 0, None
    start, stop = int(match["start"] or 0), int(match["stop"]) if match["stop"] else None
    if stop is not None and stop <= start:
        raise UsageError("the slice is empty", where=source, expected="start below end, such as photos@0:300")
    return match["path"], start, stop


def _open_rows(text: str, inputs: Sequence[TensorSpec], recipe: Recipe | None) -> RowSource | Generator:
    path = Path(text)
    if path.is_dir():
        return _open_images(path, "", inputs, recipe)
    if path.is_file():
        if path.suffix.lower() in (".npz", ".npy"):
            return ArrayFile(path, inputs)
        raise UsageError(f"cannot tell what '{path.name}' is from its suffix", where=text, expected=_FORMS)
    if any(sign in path.name for sign in "*?[") and path.parent.is_dir():
        return _open_images(path.parent, path.name, inputs, recipe)
    file, _, function = text.rpartition(":")
    if file.endswith(".py") and function.isidentifier() and Path(file).is_file():
        return Generator(Path(file), function, inputs)
    raise UsageError(f"there is no data at '{text}'", expected=_FORMS, do="check the path")


def _open_images(root: Path, pattern: str, inputs: Sequence[TensorSpec], recipe: Recipe | None) -> ImageFolder:
    if recipe is None or recipe.preprocess is None:
        raise UsageError(
            "a folder of images needs a recipe with [preprocess]", where=str(root),
            got="no recipe" if recipe is None else f"recipe {recipe.name}, which has none",
            do="name one of calibration/*.toml; a wrong preprocessing is the commonest cause of bad INT8",
        )  # fmt: skip
    if len(inputs) != 1:
        raise UsageError(
            f"a folder of images feeds one input, and the model has {len(inputs)}", where=str(root),
            expected=", ".join(spec.name for spec in inputs),
            do="give arrays by input name (.npz), or file.py:generator",
        )  # fmt: skip
    return ImageFolder(root, pattern, recipe.preprocess, recipe.labels, inputs[0])
