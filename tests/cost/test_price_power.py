import numpy as np
import pytest

from hwc import targets
from hwc.cost.fitted import load_fitted
from hwc.cost.kernel_work import Work
from hwc.cost.machine import machine_of
from hwc.cost.price_kernels import make_table, price
from hwc.cost.price_power import compute_share, estimate_power, fit_power

KERNELS = [Work(("a",), "conv", 1, 3136, 256, 2304, 0, 10**6, 10**6, 10**6)]


def power_of(board: str, **clocks: float):
    fitted = load_fitted()
    machine = machine_of(targets.load(board), **clocks)
    kernels = price(make_table(KERNELS, machine, "fp16"), fitted.latency)
    assert 0 < compute_share(kernels) <= 1
    return estimate_power(fitted.power, machine, kernels)


def test_scopes_stand_side_by_side_and_each_says_what_it_is():
    found = power_of("agx-orin")
    assert {p.scope for p in found} == {"board total, tegrastats rail sum", "whole board + PSU, AC wall"}
    assert all(p.low <= p.watts <= p.high and "left out" in p.basis for p in found)


def test_a_board_without_rows_has_no_power():
    assert power_of("orin-nx") == () and power_of("tx2") == ()


def test_a_lower_clock_draws_less():
    slow, fast = power_of("agx-xavier", gpu_mhz=670), power_of("agx-xavier")
    assert slow[0].watts < fast[0].watts


def test_the_fit_finds_what_made_its_rows():
    rng = np.random.default_rng(0)
    features = np.log(rng.uniform(0.3, 1, (40, 2)))
    boards = ["a", "b"] * 20
    watts = np.array([20.0, 50.0] * 20) * np.exp(features @ [1.1, 0.25])
    found, clock, load = fit_power(boards, features, watts)
    assert found == pytest.approx({"a": 20, "b": 50}, rel=0.02)
    assert (clock, load) == pytest.approx((1.1, 0.25), abs=0.02)
