"""Rounds the rows of a matrix so that its products with given inputs change least: second-order rounding.

For y = W x the squared error of integers Q (times the step) is tr((W - Q) H (W - Q)^T) with H = sum x x^T. Columns are
rounded one after the other; the error of each is handed on to the columns that are still free, by the inverse of H
(optimal brain compression). With the upper Cholesky factor U of H^-1:

    q_j = round(w_j),   w_i -= (w_j - q_j) * U[j, i] / U[j, j]   for i > j

Two constraints hold throughout: some elements are fixed before (anchors of a scale), and |q_j| + |q_partner| <= limit
where j and its partner are adjacent input channels of a saturating kernel. What a bound cuts off is an error like
any other and is handed on. H is damped by `damping` times its mean diagonal; dead inputs keep plain rounding.

Sources: Frantar and Alistarh, "Optimal Brain Compression", 2022 (arXiv:2208.11580); Frantar et al., "GPTQ", 2022
(arXiv:2210.17323). Limit: greedy in the order of columns; a bound met late has nobody left to hand its error to.
"""

from __future__ import annotations

from typing import Any

Tensor = Any
_BLOCK = 64


def factor(hessian: Tensor, damping: float) -> Tensor:
    """Upper Cholesky factor of the inverse of the damped matrix; (groups, columns, columns) float64 in and out."""
    import torch

    diagonal = hessian.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    floor = torch.where(mean > 0, mean, torch.ones_like(mean))
    damped = hessian + torch.diag_embed((damping * floor).expand_as(diagonal) + (diagonal <= 0) * floor)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


def round_rows(
    weight: Tensor, upper: Tensor, *, largest: int, fixed: Tensor | None = None, partner: Tensor | None = None,
    limit: int | None = None,
) -> Tensor:  # fmt: skip
    """Integers for weights in units of their step.

    Args:
        weight: (groups, rows, columns), float64, already divided by the scale.
        upper: (groups, columns, columns), of `factor`.
        fixed: bool of the weight's shape; these elements get plain rounding of their own value.
        partner: int64 (columns,), the earlier column that shares a sum with this one, or -1.

    Returns:
        Integers as float64, of the weight's shape.
    """
    import torch

    work = weight.clone()
    result = torch.zeros_like(work)
    anchored = weight.round().clamp(-largest, largest)
    columns = work.shape[2]
    partners = partner.tolist() if partner is not None and limit is not None else [-1] * columns
    later = {first: second for second, first in enumerate(partners) if first >= 0}
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        errors = torch.zeros_like(work[:, :, start:stop])
        for j in range(start, stop):
            value = work[:, :, j]
            q = value.round().clamp(-largest, largest)
            if j in later and limit is not None:
                # The first of a pair gives way by half of what both have too much; the second takes what room is left.
                over = (q.abs() + work[:, :, later[j]].abs().clamp(max=largest) - limit).clamp(min=0)
                q = q.sign() * (q.abs() - (over / 2).round())
            if partners[j] >= 0 and limit is not None:
                room = (limit - result[:, :, partners[j]].abs()).clamp(max=largest)
                q = torch.maximum(torch.minimum(q, room), -room)
            if fixed is not None:
                q = torch.where(fixed[:, :, j], anchored[:, :, j], q)
            result[:, :, j] = q
            error = (value - q) / upper[:, j, j].unsqueeze(1)
            work[:, :, j:stop] -= error.unsqueeze(2) * upper[:, j, j:stop].unsqueeze(1)
            errors[:, :, j - start] = error
        if stop < columns:
            work[:, :, stop:] -= errors @ upper[:, start:stop, stop:]
    return result


def row_errors(difference: Tensor, hessian: Tensor) -> Tensor:
    """diag((W - Q) H (W - Q)^T) for (groups, rows, columns): the squared output error of each row."""
    return ((difference @ hessian) * difference).sum(2)
