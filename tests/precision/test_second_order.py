"""Second-order rounding: never worse than plain rounding on what it minimises, and both constraints hold."""

import pytest
import torch

from hwc.precision.second_order import factor, round_rows, row_errors


def problem(seed: int, groups=2, rows=6, columns=20):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(groups, columns, columns, generator=generator, dtype=torch.float64)
    x = torch.randn(groups, 200, columns, generator=generator, dtype=torch.float64) @ mix  # correlated inputs
    weight = torch.randn(groups, rows, columns, generator=generator, dtype=torch.float64) * 4
    return weight, x.transpose(1, 2) @ x


@pytest.mark.parametrize("seed", range(4))
def test_the_output_error_is_far_below_that_of_plain_rounding(seed):
    weight, hessian = problem(seed)
    plain = row_errors(weight.round() - weight, hessian).sum()
    learned = row_errors(round_rows(weight, factor(hessian, 0.01), largest=127) - weight, hessian).sum()
    assert learned < 0.75 * plain


def test_inputs_that_do_not_correlate_leave_plain_rounding():
    weight, hessian = problem(0)
    alone = torch.diag_embed(hessian.diagonal(dim1=1, dim2=2))
    assert torch.equal(round_rows(weight, factor(alone, 0.01), largest=127), weight.round())


def test_a_block_border_changes_nothing(monkeypatch):
    weight, hessian = problem(1, columns=50)
    upper = factor(hessian, 0.01)
    whole = round_rows(weight, upper, largest=127)
    monkeypatch.setattr("hwc.precision.second_order._BLOCK", 7)
    assert torch.equal(round_rows(weight, upper, largest=127), whole)


def test_bounds_pairs_and_fixed_elements_hold():
    weight, hessian = problem(2)
    weight = weight * 20
    upper = factor(hessian, 0.01)
    partner = torch.tensor([-1 if j % 2 == 0 else j - 1 for j in range(20)])
    fixed = torch.zeros_like(weight, dtype=torch.bool)
    fixed[:, :, 5] = True
    free = round_rows(weight, upper, largest=100)
    assert free.abs().max() == 100 and bool((free[:, :, 0::2].abs() + free[:, :, 1::2].abs() > 128).any())
    paired = round_rows(weight, upper, largest=100, partner=partner, limit=128)
    assert bool((paired[:, :, 0::2].abs() + paired[:, :, 1::2].abs() <= 128).all())
    held = round_rows(weight, upper, largest=100, fixed=fixed)
    assert torch.equal(held[:, :, 5], weight[:, :, 5].round().clamp(-100, 100))


def test_dead_inputs_and_an_empty_matrix_are_no_division_by_zero():
    weight, hessian = problem(3)
    hessian[:, 4, :] = hessian[:, :, 4] = 0
    hessian[1] = 0
    q = round_rows(weight, factor(hessian, 0.01), largest=127)
    assert bool(q.isfinite().all())
    assert torch.equal(q[1], weight[1].round()) and torch.equal(q[0, :, 4], weight[0, :, 4].round())
