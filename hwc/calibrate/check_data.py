"""Looks for what is wrong with the data while they stream past: one pass, memory independent of their number.

| kind                                     | severity | what it means                                              |
|------------------------------------------|----------|------------------------------------------------------------|
| inputs, rank, shape, dtype               | error    | no engine takes this sample (`DataChecker.unusable`)       |
| layout                                   | error    | channels first and last mixed up (check_layout)            |
| not-finite                               | error    | NaN or infinity in a sample                                |
| constant                                 | error    | every sample of every float input is one value             |
| constant                                 | warning  | some samples, or one of several inputs, are                |
| not-normalised, only-divided,            | error    | the normalisation is another than the recipe's, and which  |
| normalised-twice, divided-twice,         |          | (check_values)                                             |
| not-scaled, not-divided,                 |          |                                                            |
| other-normalisation                      |          |                                                            |
| range, mean, std                         | error    | not as the recipe's [expect] or its formula says           |
| low-contrast                             | warning  | the pictures use little of the range                       |
| example-range                            | warning  | no recipe, and unlike the model's example inputs           |
| channel-order                            | warning  | blue where red should be: a hint, with its evidence        |
| duplicates                               | warning  | samples with the same content; an error if all are one     |
| few-samples                              | warning  | fewer than LEAST_SAMPLES                                   |
| unlabelled, label-range                  | error    | only if labels are needed                                  |
| count, digest; overlap                   |          | see check_sets                                             |

channel-order: photos are redder than blue more often than not (79 % of 300 ImageNet photos). The hint is given when
bluer ones are the majority by three standard deviations of a fair coin, on 50 samples or more.

Limit: memory holds 16 bytes per sample, to find duplicates.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from hwc.artifacts import TensorSpec
from hwc.calibrate.check_layout import LayoutSums, channel_axis, check_shape
from hwc.calibrate.check_sets import check_identity
from hwc.calibrate.check_values import ChannelSums, check_values, compare_examples
from hwc.calibrate.dataset import Dataset, Sample
from hwc.calibrate.finding import Finding
from hwc.calibrate.read_recipe import Expect, Recipe
from hwc.errors import UsageError

LEAST_SAMPLES = 100  # NVIDIA advises about 500 for ImageNet classifiers, NNCF takes 300; below this, ranges wander
_FOR_COLOURS = 50
_NAMED = 3  # samples named in a message


class _Tally:
    """How many samples, and the names of the first few."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, name: str) -> None:
        self.count += 1
        if self.count <= _NAMED:
            self.first.append(name)

    def __str__(self) -> str:
        return ", ".join(self.first) + (", ..." if self.count > _NAMED else "")


class DataChecker:
    """Rides along a pass over the samples: `observe` each, then ask for `findings`.

    Args:
        inputs: the model's inputs.
        recipe: what the values should be; None if there is none.
        examples: the model's example inputs by name, to compare with where there is no recipe.
        least: fewest samples that raise no warning.
        need_labels: whether each sample must have a class index.
        classes: number of classes; 0 takes the recipe's, and if that is not stated either, any index is right.

    Raises:
        UsageError: the recipe states values, and the model has no single input that they can be meant for.
    """

    def __init__(
        self, inputs: Sequence[TensorSpec], recipe: Recipe | None = None, *,
        examples: Mapping[str, np.ndarray] | None = None, least: int = LEAST_SAMPLES, need_labels: bool = False,
        classes: int = 0,
    ) -> None:  # fmt: skip
        self.inputs, self.recipe, self.examples = tuple(inputs), recipe, dict(examples or {})
        self.least, self.need_labels = least, need_labels
        self.classes = classes or (recipe.labels.classes if recipe else 0)
        self.unusable: Finding | None = None  # why no engine could run the latest sample that is at fault
        self._image = _image_input(self.inputs, recipe)
        self._is_coloured = bool(recipe and recipe.preprocess and recipe.preprocess.channels == 3)
        layout = recipe.preprocess.layout if recipe and recipe.preprocess else None
        channels = recipe.preprocess.channels if recipe and recipe.preprocess else 0
        axes = {spec.name: channel_axis(spec, layout, channels) for spec in self.inputs}
        self._sums = {spec.name: ChannelSums(axes[spec.name]) for spec in self.inputs}
        self._layouts = {s.name: LayoutSums(s, axes[s.name]) for s in self.inputs if len(s.shape) == 4}
        self._faults: dict[tuple[str, str], tuple[Finding, _Tally]] = {}
        self._constant = {spec.name: _Tally() for spec in self.inputs}
        self._seen: set[bytes] = set()
        self._again, self._unlabelled, self._odd_labels = _Tally(), _Tally(), _Tally()
        self._count = self._elements = self._bluer = self._redder = 0

    def observe(self, sample: Sample) -> None:
        """Takes in one sample. What is at fault with it is remembered; nothing is raised."""
        self._count += 1
        self._elements += len(sample.labels) or 1
        content = hashlib.blake2b(digest_size=16)
        for spec in self.inputs:
            array = sample.feeds.get(spec.name)
            if array is None:
                fault = Finding(
                    "inputs", "error", f"input '{spec.name}' is not fed", ", ".join(s.name for s in self.inputs),
                    ", ".join(sample.feeds), "feed every input of the model by its name",
                )  # fmt: skip
                self._note(fault, spec.name, sample.name)
                self.unusable = fault
                continue
            content.update(np.ascontiguousarray(array).tobytes())
            self._observe_input(spec, array, sample.name)
        if content.digest() in self._seen:
            self._again.add(sample.name)
        self._seen.add(content.digest())
        self._observe_labels(sample)

    def _observe_input(self, spec: TensorSpec, array: np.ndarray, sample: str) -> None:
        fault = check_shape(array, spec, sample)
        if fault is not None:
            self._note(fault, spec.name, sample)
            self.unusable = fault
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            nans, infinities = int(np.isnan(array).sum()), int(np.isinf(array).sum())
            got = f"{nans} NaN and {infinities} infinities among {array.size} values in {sample}"
            message = f"input '{spec.name}' is fed values that are not finite"
            do = "mend or remove that sample: one of them makes every scale behind it worthless"
            self._note(Finding("not-finite", "error", message, "finite values", got, do), spec.name, sample)
            return  # it would spoil all sums
        if array.size == 0 or (fault is not None and fault.kind != "dtype"):
            return
        self._sums[spec.name].add(array)
        if spec.name in self._layouts:
            self._layouts[spec.name].add(array)
        if array.dtype.kind == "f" and array.size > 1 and array.min() == array.max():
            self._constant[spec.name].add(sample)
        axis = self._sums[spec.name].axis
        if spec.name == self._image and self._is_coloured and axis is not None and array.shape[axis] == 3:
            first, last = (float(array.take(channel, axis).mean(dtype=np.float64)) for channel in (0, 2))
            self._redder += self._to_pixels(first, 0) > self._to_pixels(last, 2)
            self._bluer += self._to_pixels(first, 0) < self._to_pixels(last, 2)

    def _to_pixels(self, value: float, channel: int) -> float:
        assert self.recipe is not None and self.recipe.preprocess is not None
        prep = self.recipe.preprocess
        return (value * prep.std[channel] + prep.mean[channel]) * prep.divide_by

    def _observe_labels(self, sample: Sample) -> None:
        for label in sample.labels or (sample.label,):
            if label is None:
                self._unlabelled.add(sample.name)
            elif label < 0 or (self.classes and label >= self.classes):
                self._odd_labels.add(f"{label} of {sample.name}")

    def _note(self, finding: Finding, name: str, sample: str) -> None:
        self._faults.setdefault((finding.kind, name), (finding, _Tally()))[1].add(sample)

    def findings(self) -> tuple[Finding, ...]:
        """Everything found up to now, errors first, in a fixed order."""
        found = [_with_count(finding, samples, self._count) for finding, samples in self._faults.values()]
        found += self._of_values()
        found += [f for layout in self._layouts.values() if (f := layout.finding()) is not None]
        found += [*self._of_constants(), *self._of_colours(), *self._of_duplicates(), *self._of_labels()]
        if self._elements < self.least:
            found.append(Finding(
                "few-samples", "warning", "few samples to calibrate on", f"{self.least} or more, better 300 to 500",
                str(self._elements), "give more samples; rare large values are what a small set misses",
            ))  # fmt: skip
        return tuple(sorted(found, key=lambda finding: finding.severity != "error"))

    def _of_values(self) -> list[Finding]:
        found = []
        for spec in self.inputs:
            sums = self._sums[spec.name]
            if not sums.count or self._constant[spec.name].count == self._count:
                continue  # that it is constant says more
            finding = None
            if self.recipe is not None and spec.name == self._image:
                finding = check_values(sums, self.recipe.preprocess, self.recipe.expect, spec.name)
            elif self.recipe is None and spec.name in self.examples and spec.dtype.startswith("float"):
                finding = compare_examples(sums, self.examples[spec.name], spec.name)
            found += [finding] if finding is not None else []
        return found

    def _of_constants(self) -> list[Finding]:
        floats = [spec.name for spec in self.inputs if spec.dtype.startswith("float")]
        dead = [name for name in floats if self._count and self._constant[name].count == self._count]
        found = []
        for name in (name for name in floats if self._constant[name].count):
            severity = "error" if dead == floats else "warning"
            samples = self._constant[name]
            found.append(Finding(
                "constant", severity, f"input '{name}' is fed samples that are one value throughout",
                "values that differ within a sample", f"{samples.count} of {self._count}: {samples}",
                "see how the samples are made: an empty buffer, or an unsigned type that overflowed",
            ))  # fmt: skip
        return found

    def _of_colours(self) -> list[Finding]:
        total = self._redder + self._bluer
        if self.recipe is None or total < _FOR_COLOURS or self._image is None:
            return []
        assert self.recipe.preprocess is not None
        color = self.recipe.preprocess.color
        # In BGR order the first channel is blue, so "first above last" should be the rare case.
        redder = self._redder if color == "rgb" else self._bluer
        if redder / total + 3 * math.sqrt(0.25 / total) >= 0.5:
            return []
        return [Finding(
            "channel-order", "warning", f"red and blue of input '{self._image}' may be swapped",
            f"{color}, with more red than blue in most photos (79 % of ImageNet's)",
            f"more red than blue in {redder} of {total} samples",
            "look at one sample as a picture; OpenCV reads BGR, Pillow reads RGB",
        )]  # fmt: skip

    def _of_duplicates(self) -> list[Finding]:
        if not self._again.count:
            return []
        severity = "error" if len(self._seen) == 1 else "warning"
        return [Finding(
            "duplicates", severity, "samples have the same content", f"{self._count} different samples",
            f"{self._again.count} repeat an earlier one: {self._again}",
            "remove them; a buffer that is used again for each sample looks like this too",
        )]  # fmt: skip

    def _of_labels(self) -> list[Finding]:
        if not self.need_labels:
            return []
        found = []
        if self._unlabelled.count:
            found.append(Finding(
                "unlabelled", "error", "samples have no label", "a class index for each sample",
                f"{self._unlabelled.count} without: {self._unlabelled}",
                "set [labels] in the recipe, or add `labels` to the .npz; or choose a metric that needs none",
            ))  # fmt: skip
        if self._odd_labels.count:
            limit = f"0..{self.classes - 1}" if self.classes else "0 or above"
            found.append(Finding(
                "label-range", "error", "labels are no class of the model", limit,
                f"{self._odd_labels.count} outside: {self._odd_labels}",
                "see whether indices start at 1, or are of another list of classes",
            ))  # fmt: skip
        return found


def check_dataset(
    dataset: Dataset, *, examples: Mapping[str, np.ndarray] | None = None, least: int = LEAST_SAMPLES,
    need_labels: bool = False, classes: int = 0,
) -> tuple[Finding, ...]:  # fmt: skip
    """All findings of one pass over the data set, arguments as `DataChecker`'s.

    Raises:
        UsageError: a sample cannot be read.
    """
    checker = DataChecker(
        dataset.inputs, dataset.recipe, examples=examples, least=least, need_labels=need_labels, classes=classes
    )
    for sample in dataset:
        checker.observe(sample)
    return (*check_identity(dataset), *checker.findings())


def _image_input(inputs: Sequence[TensorSpec], recipe: Recipe | None) -> str | None:
    """The input that the recipe's values are meant for."""
    if recipe is None or (recipe.preprocess is None and recipe.expect == Expect()):
        return None
    if recipe.preprocess is not None:
        meant = [spec.name for spec in inputs if len(spec.shape) == 4]
    else:
        meant = [spec.name for spec in inputs if spec.dtype.startswith("float")]
    if len(meant) == 1 and recipe.preprocess is not None:
        _check_channels(next(spec for spec in inputs if spec.name == meant[0]), recipe)
    if len(meant) != 1:
        kind = "four axes" if recipe.preprocess is not None else "floats"
        raise UsageError(
            f"recipe {recipe.name} is for one input, and the model has {len(meant)} of {kind}",
            expected="one", got=", ".join(meant) or "none", do="use another recipe, or none",
        )  # fmt: skip
    return meant[0]


def _check_channels(spec: TensorSpec, recipe: Recipe) -> None:
    assert recipe.preprocess is not None
    color, channels = recipe.preprocess.color, recipe.preprocess.channels
    sizes = [spec.shape[axis] for axis in (1, 3)]
    if channels not in sizes and any(size in (1, 3, 4) for size in sizes):
        raise UsageError(
            f"recipe {recipe.name} makes {channels} channels ({color}) and input '{spec.name}' has another number",
            expected=f"{channels} on axis 1 or 3", got=str(spec.shape), do="use a recipe with the model's own color",
        )  # fmt: skip


def _with_count(finding: Finding, samples: _Tally, total: int) -> Finding:
    if samples.count == 1:
        return finding
    return dataclasses.replace(finding, got=f"{finding.got}; and so in {samples.count} of {total} samples")
