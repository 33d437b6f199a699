"""Samples of known distributions, and judges that see the samples themselves: no histogram, no shared code."""

import math

import numpy as np


def draw(name: str, size: int = 60_000, seed: int = 7) -> np.ndarray:
    """float32 [size] of the named distribution."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=size)
    made = {
        "uniform": lambda: rng.uniform(-1, 1, size),
        "gaussian": lambda: normal,
        "laplace": lambda: rng.laplace(size=size),
        "relu": lambda: np.maximum(normal, 0),
        "heavy": lambda: np.clip(rng.standard_t(3, size), -60, 60),
        "outlier": lambda: np.append(normal[:-1], 40.0),
        "constant": lambda: np.full(size, 0.7),
        "two points": lambda: np.where(normal > 0, 3.0, -1.0),
        "spike": lambda: np.append(np.zeros(size - 1), 5.0),
        "zero": lambda: np.zeros(size),
    }
    return made[name]().astype(np.float32)


SPREAD = ("uniform", "gaussian", "laplace", "relu", "heavy", "outlier")
ON_POINTS = ("constant", "two points", "spike")


def quantize(values: np.ndarray, amax: float, levels: int) -> np.ndarray:
    """What comes back from integers -levels..levels (0..levels where nothing is negative)."""
    step = amax / levels
    return np.clip(np.round(values.astype(np.float64) / step), -levels, levels) * step


def error_of(values: np.ndarray, amax: float, levels: int) -> float:
    """Mean squared error on the samples themselves."""
    return float(np.mean((values.astype(np.float64) - quantize(values, amax, levels)) ** 2))


def least_error(values: np.ndarray, levels: int, tried: int = 400) -> float:
    """The least error over evenly spaced ranges, by brute force."""
    largest = float(np.abs(values).max())
    return min(error_of(values, largest * (k + 1) / tried, levels) for k in range(tried))


def divergence(counts: list, size: int, groups: int) -> float:
    """KL(P || Q) of the first `size` bins against `groups` levels, written out one bin at a time."""
    p = [float(c) for c in counts[:size]]
    inside = list(p)
    p[-1] += float(sum(counts[size:]))
    if not any(inside):
        return math.inf
    q = [0.0] * size
    for group in range(groups):
        first, end = math.ceil(group * size / groups), math.ceil((group + 1) * size / groups)
        filled = [k for k in range(first, end) if p[k] > 0]
        mass = sum(inside[first:end])
        for k in filled:
            q[k] = (mass or 1e-4) / len(filled)
    return sum(
        pk / sum(p) * math.log((pk / sum(p)) / (qk / sum(q))) for pk, qk in zip(p, q) if pk > 0
    )
