"""From elements to batches: an array with one axis less than the input is one element of a batch.

An array with as many axes as the input is a whole input and is fed as it is. Any other number of axes is passed on
unchanged, for check_data to report.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwc.artifacts import DynamicDim, TensorSpec
from hwc.errors import UsageError


def batch_size(arrays: dict[str, np.ndarray], inputs: Sequence[TensorSpec], where: str) -> int:
    """How many elements make one sample: the model's fixed batch, or the least that its range allows.

    Raises:
        UsageError: the inputs want different numbers, or one of them has no batch axis to fill.
    """
    sizes = {}
    for spec in inputs:
        if spec.shape and arrays[spec.name].ndim == len(spec.shape) - 1:
            dim = spec.shape[0]
            sizes[spec.name] = dim.min if isinstance(dim, DynamicDim) else dim
    if len(set(sizes.values())) > 1 or (sizes and max(sizes.values()) > 1 and len(sizes) < len(inputs)):
        raise UsageError(
            "the inputs do not share one batch axis", where=where,
            got=", ".join(f"{spec.name} {spec.shape} fed {arrays[spec.name].shape}" for spec in inputs),
            do="feed whole inputs: arrays with as many axes as the model's, after the axis that counts samples",
        )  # fmt: skip
    return next(iter(sizes.values()), 1)


def stack(spec: TensorSpec, arrays: list[np.ndarray]) -> np.ndarray:
    """What one input is fed: elements along a new first axis, a whole input as it is.

    Raises:
        UsageError: the elements differ in shape or dtype.
    """
    if spec.shape and arrays[0].ndim == len(spec.shape) - 1:
        if len({(array.shape, array.dtype) for array in arrays}) == 1:
            return np.stack(arrays)
        raise UsageError(
            f"samples of different shapes cannot share a batch of '{spec.name}'", expected=str(arrays[0].shape),
            got=", ".join(str(array.shape) for array in arrays[1:]),
        )  # fmt: skip
    return arrays[0]
