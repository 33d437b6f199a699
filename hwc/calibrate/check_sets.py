"""Checks of whole data sets: are these the data that the recipe means, and do two sets share a sample.

| kind    | severity | what it means                                                           |
|---------|----------|-------------------------------------------------------------------------|
| count   | warning  | not as many samples as the recipe states                                |
| digest  | error    | other content, order, selection or model input than the recipe states   |
| overlap | error    | the same samples calibrate and judge, so the judgement is too kind      |
| unlike  | warning  | both sets hold values on other scales: one was preprocessed wrongly     |

Limit: see `same_samples`: only equal content is recognised.
"""

from __future__ import annotations

from itertools import islice

import numpy as np

from hwc.calibrate.check_values import ChannelSums
from hwc.calibrate.dataset import Dataset, same_samples
from hwc.calibrate.finding import Finding

_NAMED = 3  # pairs named in a message
_COMPARED = 32  # samples of each set; their deviation is known to a few per cent
_RATIO = 1.6  # of deviations: sets of the same kind differ by less, each usual mistake by more
_SHIFT = 0.6  # of means, in deviations


def check_identity(dataset: Dataset) -> tuple[Finding, ...]:
    """Whether these are the data that the recipe describes by count and digest, if it states them."""
    recipe, found = dataset.recipe, []
    if recipe is not None and recipe.count and recipe.count != len(dataset):
        found.append(Finding(
            "count", "warning", f"not all the samples that recipe {recipe.name} describes", str(recipe.count),
            str(len(dataset)), "see whether files are missing; a limit or a slice explains it too",
        ))  # fmt: skip
    if recipe is not None and recipe.digest and recipe.digest != dataset.digest:
        found.append(Finding(
            "digest", "error", f"not the samples that recipe {recipe.name} describes", recipe.digest, dataset.digest,
            "use the same files, slice and limit, or take `digest` out of the recipe",
        ))  # fmt: skip
    return tuple(found)


def check_overlap(calibration: Dataset, validation: Dataset) -> tuple[Finding, ...]:
    """Whether any validation sample was calibrated on, by content."""
    pairs = same_samples(calibration, validation)
    if not pairs:
        return ()
    shown = ", ".join(f"{a} = {b}" for a, b in pairs[:_NAMED]) + (", ..." if len(pairs) > _NAMED else "")
    return (Finding(
        "overlap", "error", "samples are in both the calibration and the validation set", "no sample in common",
        f"{len(pairs)} in both: {shown}",
        "split one folder by slices, such as photos@0:300 and photos@300:",
    ),)  # fmt: skip


def check_likeness(calibration: Dataset, validation: Dataset) -> tuple[Finding, ...]:
    """Inputs whose values lie on another scale in one set than in the other, by the first samples of each.

    Both sets are meant to be draws of one kind; where they are not alike, ranges taken from one do not fit the other,
    and it is preprocessing more often than the pictures.
    """
    first, second = (_sums(dataset) for dataset in (calibration, validation))
    found = []
    for name in (name for name in first if name in second):  # one that is never finite is not there
        (low, high, mean, deviation), (its_low, its_high, its_mean, its_deviation) = (
            sums[name].overall() for sums in (first, second)
        )
        wide, narrow = max(deviation, its_deviation), min(deviation, its_deviation)
        if wide <= _RATIO * narrow and abs(mean - its_mean) <= _SHIFT * wide:
            continue
        found.append(Finding(
            "unlike", "warning",
            f"input '{name}' holds other values in the calibration samples than in the validation samples",
            f"{its_low:.4g}..{its_high:.4g}, mean {its_mean:.4g}, deviation {its_deviation:.4g} (validation)",
            f"{low:.4g}..{high:.4g}, mean {mean:.4g}, deviation {deviation:.4g} (calibration)",
            "preprocess both as the model's training did: this is the commonest cause of bad INT8",
        ))  # fmt: skip
    return tuple(found)


def _sums(dataset: Dataset) -> dict[str, ChannelSums]:
    sums: dict[str, ChannelSums] = {}
    for sample in islice(dataset, _COMPARED):
        for name, array in sample.feeds.items():
            if array.dtype.kind == "f" and array.size and np.isfinite(array).all():
                sums.setdefault(name, ChannelSums(None)).add(array)
    return sums
