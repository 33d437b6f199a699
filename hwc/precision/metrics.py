"""Scores of one sample, in [0, 1], so that two engines can be compared sample by sample.

| name      | score of one sample                                                     | needs a label |
|-----------|-------------------------------------------------------------------------|---------------|
| top1      | 1 if the largest class is the label                                     | yes           |
| top5      | 1 if the label is among the five largest                                | yes           |
| agreement | share of positions whose largest class is the baseline's                | no            |
| cosine    | cosine between the outputs and the baseline's, 0 if negative            | no            |
| sqnr      | 1 - noise power / signal power, 0 if negative: 10 log10 of it is SQNR   | no            |
| f.py:fn   | what fn(outputs, label, baseline_outputs) returns                       | fn decides    |

`sqnr` loses d points where the mean noise is d % of the signal: 0.5 points are 23.0 dB, 1 point is 20 dB, 0.1 points
are 30 dB. A metric reads one output: `top1:logits` names it, and must where a model has several; `cosine` and `sqnr`
take the mean over all outputs of floats if none is named. Classes are along the last axis up to rank 3 (N,C and N,T,C)
and along axis 1 above (N,C,H,W); `agreement:map@3` names another axis. An answer with NaN is never right: it scores 0.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwc.errors import UsageError

Outputs = Mapping[str, np.ndarray]
LIMIT_DB = 140.0  # where float32 itself ends; means over samples are taken of values clipped to it
NAMES = ("top1", "top5", "agreement", "cosine", "sqnr")


@dataclass(frozen=True)
class Metric:
    """A score per sample. `function(outputs, label, baseline_outputs)` returns a float in [0, 1], higher is better."""

    name: str
    function: Callable[[dict[str, np.ndarray], Any, dict[str, np.ndarray]], Any]
    needs_label: bool = False
    output: str = ""
    axis: int | None = None

    def score(self, outputs: Outputs, label: Any, baseline: Outputs, sample: str) -> float:
        """The checked score.

        Args:
            baseline: outputs of the FP32 model on the same sample; `outputs` itself when the baseline is scored.
            sample: its name, for errors.

        Raises:
            UsageError: no label, the function failed, or its value is not a number in [0, 1].
        """
        if self.needs_label and label is None:
            raise UsageError(
                f"the metric '{self.name}' needs a label for every sample", where=f"sample '{sample}'",
                do="give labelled validation data, or use --metric agreement, which compares with FP32",
            )
        try:
            value = self.function(dict(outputs), label, dict(baseline))
            number = float(value)
        except UsageError as error:
            raise UsageError(
                error.what, where=f"sample '{sample}'", expected=error.expected, got=error.got, do=error.do
            ) from None
        except Exception as error:  # the user's own code may raise anything
            raise UsageError(
                f"the metric '{self.name}' failed", where=f"sample '{sample}'",
                got=f"{type(error).__name__}: {str(error)[:300]}", expected="a float in [0, 1]",
                do="try the function on this sample alone; label is None for unlabelled data",
            ) from error
        # A cosine of a vector with itself may exceed 1 by rounding.
        if not -1e-6 <= number <= 1.0 + 1e-6:
            raise UsageError(
                f"the metric '{self.name}' gave a score outside [0, 1]", where=f"sample '{sample}'",
                expected="a float in [0, 1], higher is better", got=repr(value)[:80],
                do="map it, for example exp(-error)",
            )
        return min(max(number, 0.0), 1.0)


def label_of(sample: Any) -> Any:
    """What `score` takes as the label of a sample: one class, the classes of a batch, or None."""
    return sample.label if sample.label is not None else getattr(sample, "labels", ()) or None


def load_metric(name: str) -> Metric:
    """The metric of that name: one of the table above with an optional `:output[@axis]`, or `file.py:function`.

    Raises:
        UsageError: unknown name, or a file or function that cannot be loaded.
    """
    if ".py" in name:
        return _load_function(name)
    kind, _, place = name.partition(":")
    output, _, axis_text = place.partition("@")
    if kind not in NAMES or (axis_text and not axis_text.lstrip("-").isdigit()):
        raise UsageError(f"no metric is called '{name}'", expected=", ".join((*NAMES, "file.py:function")), got=name)
    axis = int(axis_text) if axis_text else None
    if kind in ("top1", "top5"):
        count = int(kind[3:])
        return Metric(name, lambda got, label, _: _hits(got, output, axis, label, count), True, output, axis)
    if kind == "agreement":
        return Metric(name, lambda got, _, base: agreement(base, got, output=output, axis=axis), False, output, axis)
    each = _cosine if kind == "cosine" else _right_power
    return Metric(name, lambda got, _, base: _mean_over_outputs(each, base, got, output), output=output)


def sqnr_db(reference: np.ndarray, got: np.ndarray) -> float:
    """10 log10(sum r^2 / sum (r - g)^2) in dB; inf where they are equal, -inf for noise on an all-zero reference.

    Elements that are infinite or NaN in both are left out; where only one side is, or they differ: -inf.

    Raises:
        UsageError: the shapes differ.
    """
    signal, noise = noise_powers(reference, got)
    if noise == 0.0:
        return math.inf
    if signal == 0.0 or math.isinf(noise):
        return -math.inf
    return 10.0 * math.log10(signal / noise)


def noise_powers(reference: np.ndarray, got: np.ndarray) -> tuple[float, float]:
    """Sums of squares of the signal and of the error; infinite error where NaN or infinities do not match.

    Raises:
        UsageError: the shapes differ.
    """
    a, b = (np.asarray(x, np.float64) for x in (reference, _same_shape("an output", reference, got)))
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float(np.sum(a[finite] ** 2)), math.inf
    return float(np.sum(a[finite] ** 2)), float(np.sum((a[finite] - b[finite]) ** 2))


def outputs_sqnr_db(baseline: Outputs, got: Outputs) -> float | None:
    """Mean SQNR in dB over the outputs of floats, each clipped to +-140 dB; None if there is none."""
    values = [sqnr_db(base, get_output(got, name)) for name, base in baseline.items() if is_float(base)]
    return float(np.clip(values, -LIMIT_DB, LIMIT_DB).mean()) if values else None


def agreement(baseline: Outputs, got: Outputs, *, output: str = "", axis: int | None = None) -> float:
    """Share of positions, 0 to 1, whose largest class is the baseline's.

    Raises:
        UsageError: several outputs and none named, or an output without classes.
    """
    name, base = _choose(baseline, output)
    other = _same_shape(name, base, get_output(got, name))
    along = _class_axis(name, base, axis)
    right = base.argmax(along) == other.argmax(along)
    return float(np.mean(right & ~np.isnan(other).any(along)))


def _hits(outputs: Outputs, output: str, axis: int | None, label: Any, count: int) -> float:
    """Share of the batch whose label is among the `count` largest classes."""
    name, scores = _choose(outputs, output)
    rows = np.moveaxis(scores, _class_axis(name, scores, axis), -1)
    rows = rows.reshape(-1, rows.shape[-1])
    labels = list(label) if isinstance(label, (tuple, list, np.ndarray)) else [label]
    if len(rows) != len(labels):
        raise UsageError(
            f"output '{name}' does not have one answer per label", expected=f"{len(labels)} rows", got=str(scores.shape)
        )
    return sum(_is_among(row, wanted, count) for row, wanted in zip(rows, labels)) / len(rows)


def _is_among(row: np.ndarray, label: Any, count: int) -> bool:
    if label is None or not 0 <= int(label) < len(row):
        raise UsageError("the label is no class of the model", expected=f"0 to {len(row) - 1}", got=str(label),
                         do="check the order of the classes: some models count the background as class 0")  # fmt: skip
    if np.isnan(row).any():
        return False
    wanted = row[int(label)]
    # Ties go to the lower class, as arg-max does, so that a constant output cannot be right for every label.
    return bool(np.count_nonzero(row > wanted) + np.count_nonzero(row[: int(label)] == wanted) < count)


def _choose(outputs: Outputs, output: str) -> tuple[str, np.ndarray]:
    if output:
        return output, get_output(outputs, output)
    if len(outputs) != 1:
        raise UsageError("the model has several outputs", expected="the metric names one: top1:NAME",
                         got=", ".join(outputs), do="add ':' and the output's name to --metric")  # fmt: skip
    return next(iter(outputs.items()))


def get_output(outputs: Outputs, name: str) -> np.ndarray:
    """The output of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in outputs:
        raise UsageError(f"no output is called '{name}'", expected=", ".join(outputs), got=name)
    return np.asarray(outputs[name])


def _class_axis(name: str, array: np.ndarray, axis: int | None) -> int:
    along = axis if axis is not None else (-1 if array.ndim <= 3 else 1)
    if not -array.ndim <= along < array.ndim or array.shape[along] < 2:
        raise UsageError(
            f"output '{name}' has no classes along axis {along}", expected="at least two scores", got=str(array.shape),
            do="use --metric cosine or sqnr, or name the axis: NAME@AXIS",
        )  # fmt: skip
    return along


def _same_shape(name: str, base: np.ndarray, got: np.ndarray) -> np.ndarray:
    if base.shape != got.shape:
        raise UsageError(f"{name} has another shape", expected=str(base.shape), got=str(got.shape))
    return got


def is_float(array: np.ndarray) -> bool:
    """Whether it holds floats of any kind; by name, since bfloat16 is of numpy's kind 'V'."""
    return "float" in np.asarray(array).dtype.name


def _mean_over_outputs(
    each: Callable[[np.ndarray, np.ndarray], float], baseline: Outputs, got: Outputs, output: str
) -> float:
    names = [output] if output else [name for name, array in baseline.items() if is_float(array)]
    if not names:
        raise UsageError("no output holds floats", got=", ".join(baseline), do="use --metric agreement")
    return sum(each(get_output(baseline, name), get_output(got, name)) for name in names) / len(names)


def _cosine(reference: np.ndarray, got: np.ndarray) -> float:
    a, b = (np.asarray(x, np.float64).ravel() for x in (reference, _same_shape("an output", reference, got)))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float(np.array_equal(a, b, equal_nan=True))
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    if lengths == 0.0:
        return float(not a.any() and not b.any())
    return max(0.0, float(a @ b) / lengths)


def _right_power(reference: np.ndarray, got: np.ndarray) -> float:
    signal, noise = noise_powers(reference, got)
    return 1.0 if noise == 0.0 else (max(0.0, 1.0 - noise / signal) if signal > 0.0 else 0.0)


def _load_function(name: str) -> Metric:
    path_text, _, function_name = name.rpartition(":")
    path = Path(path_text)
    if not path_text.endswith(".py") or not path.is_file():
        raise UsageError("the metric's file is not there", expected="file.py:function", got=name)
    spec = importlib.util.spec_from_file_location(f"hwc_metric_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code may raise anything
        raise UsageError(
            "the metric's file cannot be loaded", where=str(path), got=f"{type(error).__name__}: {str(error)[:300]}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"the metric's file has no function '{function_name}'", where=str(path),
                         expected=", ".join(there) or "a function", got=function_name)  # fmt: skip
    return Metric(name, function)
