"""Checks of whole data sets: are these the data that the recipe means, and do two sets share a sample.

| kind    | severity | what it means                                                           |
|---------|----------|-------------------------------------------------------------------------|
| count   | warning  | not as many samples as the recipe states                                |
| digest  | error    | other content, order, selection or model input than the recipe states   |
| overlap | error    | the same samples calibrate and judge, so the judgement is too kind      |

Limit: see `same_samples`: only equal content is recognised.
"""

from __future__ import annotations

from hwc.calibrate.dataset import Dataset, same_samples
from hwc.calibrate.finding import Finding

_NAMED = 3  # pairs named in a message


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
