"""Tells from the values of fed images which normalisation was left out, done twice or taken from another model.

A recipe is an affine map per channel: x = a * pixel + b, pixel 0..255. Each usual mistake is another such map:

    not-normalised       x = pixel                            only-divided     x = pixel / 255
    normalised-twice     x = N(N(pixel))                      divided-twice    x = N(pixel / 255)
    not-scaled           x = (pixel / divide_by) - mean       not-divided      x = (pixel - mean) / std
    other-normalisation  -1..1, or ImageNet's mean and deviation

Inverting a map gives pixels back. Photos, as a set, reach close to 0 and to 255; so of all maps the right one is that
whose inverse fills 0..255 and does not leave it. The recipe's own map is tried first and wins if it fits. What no map
explains is reported as what it is: values outside of the range, or a set that uses little of it.

Limits: two maps that give almost the same values ((p - 127) / 128 and p / 127.5 - 1) are not told apart, and need not
be. A set without dark or without bright pixels can look like a mistake; [expect] in the recipe then has the last word.
Values beyond the range by 10 % pass: interpolation after normalising overshoots.
"""

from __future__ import annotations

import math

import numpy as np

from hwc.calibrate.finding import Finding
from hwc.calibrate.read_recipe import Expect, Interval, Preprocess

OVERSHOOT = 0.1  # of the range
DARK, BRIGHT = 40.0, 215.0  # a set of photos has pixels below and above these
FILLED = 200.0  # pixels, that another map must span to be believed
LITTLE = 96.0  # pixels; a set that spans less has hardly any contrast
_SLACK = 10.0  # pixels, that another map may leave 0..255 by
_RATIO = 4.0  # between deviations of the data and of the example inputs
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class ChannelSums:
    """Count, extremes, sum and sum of squares per channel, added up in float64 sample by sample."""

    def __init__(self, axis: int | None) -> None:
        self.axis = axis
        self.count = 0
        self.low = self.high = self.total = self.squares = np.zeros(0)

    def add(self, array: np.ndarray) -> None:
        """Takes in one array of finite values with at least one element."""
        rows = np.moveaxis(array, self.axis, 0) if self.axis is not None else array
        rows = rows.reshape(rows.shape[0] if self.axis is not None else 1, -1)
        low, high = rows.min(1).astype(np.float64), rows.max(1).astype(np.float64)
        total = rows.sum(1, dtype=np.float64)
        squares = np.array([np.square(row, dtype=np.float64).sum() for row in rows])
        if self.count:
            low, high = np.minimum(self.low, low), np.maximum(self.high, high)
            total, squares = self.total + total, self.squares + squares
        self.count += rows.shape[1]
        self.low, self.high, self.total, self.squares = low, high, total, squares

    def means(self) -> np.ndarray:
        return self.total / self.count

    def variances(self) -> np.ndarray:
        return np.maximum(self.squares / self.count - np.square(self.means()), 0.0)

    def under(self, scale: np.ndarray, shift: np.ndarray) -> tuple[float, float, float, float]:
        """(min, max, mean, deviation) over all channels of (x - shift) / scale, scale > 0, one entry per channel."""
        means = (self.means() - shift) / scale
        variance = float((self.variances() / np.square(scale)).mean() + means.var())
        low, high = ((self.low - shift) / scale).min(), ((self.high - shift) / scale).max()
        return float(low), float(high), float(means.mean()), math.sqrt(variance)

    def overall(self) -> tuple[float, float, float, float]:
        """(min, max, mean, deviation) of the values as fed."""
        ones = np.ones(len(self.low))
        return self.under(ones, ones * 0)


def check_values(sums: ChannelSums, prep: Preprocess | None, expect: Expect, name: str) -> Finding | None:
    """What is wrong with the values of one input against the recipe, or None.

    Args:
        sums: over all samples; per channel if `prep` is given.
        name: of the input.
    """
    low, high, mean, deviation = sums.overall()
    got = f"{low:.4g}..{high:.4g}, mean {mean:.4g}, deviation {deviation:.4g}"
    fault = _leaves(expect, sums) if expect != Expect() else ""
    if prep is None:
        return _generic(fault, expect, got, name) if fault else None
    bounds = expect.range or _widened(prep.value_range)
    is_outside = low < bounds[0] or high > bounds[1]
    scale, shift = _map_of(prep)
    dark, bright, _, _ = sums.under(scale, shift)
    fits = not fault if expect != Expect() else dark <= DARK and bright >= BRIGHT
    if fits and not is_outside:
        return None
    other = _explain(sums, prep)
    wanted = expect.range or prep.value_range
    expected = f"{_interval(wanted)}, by (pixel / {prep.divide_by:g} - {_list(prep.mean)}) / {_list(prep.std)}"
    if other is not None:
        kind, words, do = other
        message = f"input '{name}' is fed {words}"
        return Finding(kind, "error", message, expected, got, f"{do}; or state [expect] in the recipe, if it is meant")
    if fault or is_outside:
        return _generic(fault or "range", expect, got, name, expected)
    if bright - dark < LITTLE:
        return Finding(
            "low-contrast", "warning", f"the samples use little of the range of input '{name}'", expected,
            f"{got}; as pixels {dark:.0f}..{bright:.0f}",
            "see whether the pictures are what the model will meet; state [expect] in the recipe, if they are",
        )  # fmt: skip
    return None


def compare_examples(sums: ChannelSums, example: np.ndarray, name: str) -> Finding | None:
    """What sets the data apart from the model's example inputs, where no recipe says what they should be."""
    values = np.asarray(example, np.float64)
    if not values.size or not np.isfinite(values).all() or values.std() == 0:
        return None
    low, high, mean, deviation = sums.overall()
    ratio = deviation / float(values.std())
    # The examples are few, so only what no other sample could explain is reported: another scale, or a sign that is
    # never seen.
    signs = [(low >= 0, values.min() < -0.1 * values.max()), (values.min() >= 0, low < -0.1 * high)]
    if 1 / _RATIO <= ratio <= _RATIO and not any(never and often for never, often in signs):
        return None
    return Finding(
        "example-range", "warning", f"input '{name}' is fed other values than the model's example inputs hold",
        f"{values.min():.4g}..{values.max():.4g}, deviation {values.std():.4g}",
        f"{low:.4g}..{high:.4g}, mean {mean:.4g}, deviation {deviation:.4g}",
        "preprocess the data as the model's training did; a recipe makes this check sharper",
    )  # fmt: skip


def _generic(fault: str, expect: Expect, got: str, name: str, expected: str = "") -> Finding:
    stated = [f"{part} {_interval(value)}" for part in ("range", "mean", "std") if (value := getattr(expect, part))]
    what = {"range": "leave the range", "mean": "have another mean than", "std": "have another deviation than"}[fault]
    return Finding(
        fault, "error", f"the values of input '{name}' {what} that the recipe states",
        ", ".join(stated) or expected, got, "preprocess the data as the model's training did, or mend the recipe",
    )  # fmt: skip


def _leaves(expect: Expect, sums: ChannelSums) -> str:
    """The first of range, mean and std that is not as stated, or ""."""
    low, high, mean, deviation = sums.overall()
    if expect.range is not None and (low < expect.range[0] or high > expect.range[1]):
        return "range"
    if expect.mean is not None and not expect.mean[0] <= mean <= expect.mean[1]:
        return "mean"
    if expect.std is not None and not expect.std[0] <= deviation <= expect.std[1]:
        return "std"
    return ""


def _map_of(prep: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    """The recipe as x = scale * pixel + shift, per channel."""
    mean, std = np.array(prep.mean), np.array(prep.std)
    return 1.0 / (prep.divide_by * std), -mean / std


def _explain(sums: ChannelSums, prep: Preprocess) -> tuple[str, str, str] | None:
    """(kind, words, advice) of the other map whose inverse fills 0..255 best, or None."""
    scale, shift = _map_of(prep)
    one, std = np.ones(prep.channels), np.array(prep.std)
    maps: list[tuple[str, str, str, np.ndarray, np.ndarray]] = [
        ("not-normalised", "raw pixels, 0..255", "normalise: subtract the mean, divide by the deviation", one, one * 0),
        ("only-divided", "pixels divided by 255 and not normalised", "apply the recipe to pixels of 0..255",
         one / 255, one * 0),
        ("normalised-twice", "values that were normalised twice", "take one of the two normalisations out",
         scale * scale, scale * shift + shift),
        ("divided-twice", "pixels that were divided by 255 before the recipe was applied",
         "take that division out", scale / 255, shift),
        ("not-scaled", "values with the mean taken away that were not divided by the deviation",
         "divide by the deviation", one / prep.divide_by, shift * std),
        ("not-divided", "pixels normalised without the division that comes first", f"divide by {prep.divide_by:g}",
         1.0 / std, shift),
        ("other-normalisation", "pixels scaled to -1..1", "normalise as the recipe says", one / 127.5, -one),
    ]  # fmt: skip
    if prep.channels == 3:
        mean, std = (np.array(row if prep.color == "rgb" else row[::-1]) for row in _IMAGENET)
        words = "pixels normalised with ImageNet's mean and deviation"
        maps.append(("other-normalisation", words, "normalise as the recipe says", 1 / (255 * std), -mean / std))
    best: tuple[float, tuple[str, str, str]] | None = None
    for kind, words, do, a, b in maps:
        if np.allclose(a, scale, rtol=0.05) and np.allclose(b, shift, rtol=0.05, atol=float(scale.max()) * _SLACK):
            continue  # the recipe itself
        low, high, _, _ = sums.under(a, b)
        miss = abs(low) + abs(high - 255)
        inside = low >= -_SLACK and high <= 255 + _SLACK
        if inside and high - low >= FILLED and (best is None or miss < best[0]):
            best = miss, (kind, words, do)
    return best[1] if best else None


def _widened(interval: Interval) -> Interval:
    slack = OVERSHOOT * (interval[1] - interval[0])
    return interval[0] - slack, interval[1] + slack


def _interval(interval: Interval) -> str:
    return f"{interval[0]:.4g}..{interval[1]:.4g}"


def _list(numbers: tuple[float, ...]) -> str:
    return f"{numbers[0]:g}" if len(set(numbers)) == 1 else "[" + ", ".join(f"{n:g}" for n in numbers) + "]"
