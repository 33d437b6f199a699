"""Maximum a posteriori of log-normal constants by Levenberg-Marquardt, with residuals that outliers cannot pull far.

With r = (log predicted - log published) / SIGMA,

    minimise  sum_i huber(r_i) + sum_j ((theta_j - prior_j) / spread_j)^2,    huber(r) = r^2 if |r| < 1 else 2|r| - 1

where theta are the constants' logarithms. The Huber loss enters as weights 1 / |r| that
are renewed in every round. Deterministic: it starts at the prior and draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIGMA = 0.15  # residuals below this are noise: releases of TensorRT on one board and network differ by more
_STEP = 1e-4
_MOST = 0.7  # longest step of one constant's logarithm
_ROUNDS = 30


def fit_logarithms(
    predict: Callable[[np.ndarray], np.ndarray], wanted: np.ndarray, prior: np.ndarray, spread: np.ndarray,
    slopes_at: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:  # fmt: skip
    """The theta of the smallest cost.

    Args:
        predict: theta -> log predicted, (rows,).
        slopes_at: theta -> its derivatives, (rows, constants); by differences if there is none.
        wanted: log published, (rows,).
        prior, spread: (constants,), both of logarithms.
    """

    def judge(theta: np.ndarray) -> tuple[float, np.ndarray]:
        errors = (predict(theta) - wanted) / SIGMA
        size = np.abs(errors)
        cost = np.where(size < 1, errors**2, 2 * size - 1).sum() + (((theta - prior) / spread) ** 2).sum()
        return float(cost), errors

    theta, damping = prior.copy(), 1e-2
    cost, errors = judge(theta)
    for _ in range(_ROUNDS):
        slopes = (slopes_at(theta) if slopes_at else _differences(predict, theta)) / SIGMA
        weights = 1 / np.maximum(np.abs(errors), 1)
        curvature = slopes.T @ (weights[:, None] * slopes) + np.diag(1 / spread**2)
        gradient = slopes.T @ (weights * errors) + (theta - prior) / spread**2
        for _ in range(8):
            step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -gradient)
            candidate = theta + np.clip(step, -_MOST, _MOST)
            new_cost, new_errors = judge(candidate)
            if new_cost < cost:
                break
            damping *= 4
        else:
            break
        is_done = cost - new_cost < 1e-5 * cost
        theta, cost, errors, damping = candidate, new_cost, new_errors, max(damping / 4, 1e-6)
        if is_done:
            break
    return theta


def _differences(predict: Callable[[np.ndarray], np.ndarray], theta: np.ndarray) -> np.ndarray:
    here = predict(theta)
    steps = np.eye(len(theta)) * _STEP
    return np.stack([(predict(theta + step) - here) / _STEP for step in steps], axis=1)
